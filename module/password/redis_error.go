// SPDX-License-Identifier: Apache-2.0

package password

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"

	"github.com/redis/go-redis/v9"
)

// errRedisAnswer is for an answer that Redis would not give.
var errRedisAnswer = errors.New("an answer of Redis that means nothing")

// redisMistake is what only an operator can mend.
type redisMistake struct{ code, advice string }

// Error says what to do.
func (m *redisMistake) Error() string { return m.advice + " (" + m.code + ")" }

// redisTrouble is what may be over in a moment, or is Redis's own.
type redisTrouble struct{ code, text string }

// Error says what is wrong.
func (t *redisTrouble) Error() string { return t.text + " (" + t.code + ")" }

const (
	wantsACL  = "the Redis user may not do what the latch needs, which is ~metaguard:* +get +set +strlen +eval +evalsha"
	isCluster = "this Redis is a cluster: add the option cluster=true to the URL"
)

// redisMistakes are the codes by which an error of Redis begins that an
// operator has to mend, and how.
var redisMistakes = map[string]string{
	"NOAUTH":    "Redis wants a password: give it in the URL, for Sentinel also as the option password",
	"WRONGPASS": "Redis does not take the user and password of the URL",
	"NOPERM":    wantsACL,
	"DENIED":    "Redis is in protected mode and takes no connection from another host",
	"MOVED":     isCluster,
	"ASK":       isCluster,
	"CROSSSLOT": isCluster,
}

// redisTroubles are codes that pass, or that say nothing about the settings.
var redisTroubles = map[string]string{
	"LOADING":     "Redis is loading its data",
	"MASTERDOWN":  "Redis is a replica that has lost its primary",
	"READONLY":    "Redis is a replica, which takes no writes",
	"CLUSTERDOWN": "the Redis cluster is down",
	"TRYAGAIN":    "the Redis cluster is moving the key",
	"NOREPLICAS":  "Redis has too few replicas to take a write",
	"BUSY":        "Redis is busy with another script",
	"MISCONF":     "Redis cannot write to its disk",
	"OOM":         "Redis has no memory left",
}

// redisTexts are errors that begin with ERR, by a part of their text.
var redisTexts = []struct{ part, advice string }{
	{"unknown command", "Redis does not know a command that the latch needs, which are GET, SET, STRLEN, EVAL and EVALSHA; " +
		"for Sentinel, add the option master_name to the URL"},
	{"cluster support disabled", "this Redis is no cluster: the URL must not have the options cluster and addr"},
	{"not allowed in cluster mode", isCluster + ", and use database 0"},
	{"DB index is out of range", "Redis has no database of the URL's number"},
	{"without any password configured", "Redis has no password, but the URL gives one"},
	{"no password is set", "Redis has no password, but the URL gives one"},
	{"can't run this command", wantsACL},
	{"can't access", wantsACL},
}

// explainRedis puts an error in words of our own. go-redis's and Redis's own
// can quote an address, or the password (`unknown command 'AUTH', with args
// beginning with …`).
func explainRedis(err error) error {
	var answer redis.Error
	switch {
	case err == nil, errors.Is(err, ErrConflict), errors.Is(err, ErrCorrupt), errors.Is(err, errRedisAnswer):
		return err
	case errors.Is(err, redis.Nil): // commands that can give it deal with it
		return &redisMistake{"no such master", "Sentinel does not know the master_name of the URL"}
	case errors.As(err, &answer):
		return explainAnswer(answer.Error())
	case errors.Is(err, context.Canceled):
		return fmt.Errorf("no answer from Redis: %w", context.Canceled)
	case isTimeout(err):
		return fmt.Errorf("no answer from Redis: %w", context.DeadlineExceeded)
	}
	return fmt.Errorf("no connection to Redis: %s", redisCause(err))
}

// isTimeout tells whether something took too long. A deadline of the context
// can show as one of the connection.
func isTimeout(err error) bool {
	var network net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) ||
		errors.Is(err, redis.ErrPoolTimeout) || (errors.As(err, &network) && network.Timeout())
}

// explainAnswer is explainRedis for an error that Redis itself gave.
func explainAnswer(text string) error {
	code, _, _ := strings.Cut(text, " ")
	if code == "WRONGTYPE" {
		return fmt.Errorf("%w: the key holds something else", ErrCorrupt)
	}
	if advice, found := redisMistakes[code]; found {
		return &redisMistake{code, advice}
	}
	if trouble, found := redisTroubles[code]; found {
		return &redisTrouble{code, trouble}
	}
	if code != "ERR" {
		return &redisTrouble{"another code", "Redis answers with an error"}
	}
	if strings.Contains(text, "max number of clients reached") {
		return &redisTrouble{code, "Redis has no room for another connection"}
	}
	for _, known := range redisTexts {
		if strings.Contains(text, known.part) {
			return &redisMistake{code, known.advice}
		}
	}
	// Redis before version 7 puts the error of a script's command inside.
	for _, word := range strings.Fields(text)[1:] {
		word = strings.TrimLeft(word, "-")
		if _, mistake := redisMistakes[word]; mistake || redisTroubles[word] != "" || word == "WRONGTYPE" {
			return explainAnswer(word)
		}
	}
	return &redisTrouble{code, "Redis answers with an error"}
}

// redisCause says in closed words why there is no connection.
func redisCause(err error) string {
	var (
		errno     syscall.Errno
		name      *net.DNSError
		unknown   x509.UnknownAuthorityError
		other     x509.HostnameError
		invalid   x509.CertificateInvalidError
		plaintext tls.RecordHeaderError
		alert     tls.AlertError
	)
	switch {
	case errors.As(err, &name):
		return "its host name cannot be resolved"
	case errors.As(err, &unknown):
		return "its certificate is of an unknown authority; name that one's in SSL_CERT_FILE"
	case errors.As(err, &other):
		return "its certificate is for another host name"
	case errors.As(err, &invalid):
		return "its certificate is not valid, or not now"
	case errors.As(err, &plaintext):
		return "it does not speak TLS"
	case errors.As(err, &alert):
		return "it refuses TLS as it is spoken here"
	case errors.As(err, &errno):
		return errno.Error()
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed):
		return "it hangs up"
	}
	return "for another reason"
}
