// SPDX-License-Identifier: Apache-2.0

package password

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap/zapcore"

	"github.com/metaguard/metaguard/module/decision"
	"github.com/metaguard/metaguard/tests/harness"
)

// startRedisLatch starts a latch and gives what it says and logs. Neither may
// show the password.
func startRedisLatch(t *testing.T, url string) (latch *RedisLatch, failed, logged string) {
	t.Helper()
	logs := observeRedis(t)
	latch = newRedisLatch(t, url)
	for range 2 { // more than once
		err := latch.Start()
		if err != nil {
			failed = err.Error()
		}
	}
	text := logText(logs)
	if strings.Contains(text+failed, plantedPassword) {
		t.Errorf("the password is shown: %s\n%s", failed, text)
	}
	var loud strings.Builder
	for _, entry := range logs.All() {
		if entry.Level > zapcore.DebugLevel {
			loud.WriteString(entry.Level.String() + " " + entry.Message + " " + entry.ContextMap()["url"].(string) + "\n")
			if reason, ok := entry.ContextMap()["error"].(string); ok {
				loud.WriteString(reason + "\n")
			}
		}
	}
	return latch, failed, loud.String()
}

// TestRedisStart: what an operator must mend fails; what may pass is logged,
// and the latch refuses until then.
func TestRedisStart(t *testing.T) {
	plain := harness.StartRedis(t)
	locked := harness.StartRedis(t, "--requirepass", plantedPassword)
	lossy := harness.StartRedis(t, "--appendonly", "no")
	evicting := harness.StartRedis(t, "--maxmemory", "1gb", "--maxmemory-policy", "allkeys-lru")
	volatile := harness.StartRedis(t, "--maxmemory", "1gb", "--maxmemory-policy", "volatile-lru")
	replica := harness.StartRedis(t, "--replicaof", "127.0.0.1", strconv.Itoa(plain.Port))
	full := harness.StartRedis(t, "--maxmemory", "1")
	renamed := harness.StartRedis(t, "--rename-command", "EVALSHA", "", "--rename-command", "EVAL", "")
	noAuth := harness.StartRedis(t, "--rename-command", "AUTH", "", "--rename-command", "HELLO", "")
	blind := harness.StartRedis(t, "--rename-command", "INFO", "", "--appendonly", "no")
	crowded := harness.StartRedis(t, "--maxclients", "1")
	for _, rules := range [][]any{
		{"ACL", "SETUSER", "right", "on", ">" + plantedPassword, "~metaguard:*", "+get", "+set", "+strlen", "+eval", "+evalsha", "+info"},
		{"ACL", "SETUSER", "lean", "on", ">" + plantedPassword, "~metaguard:*", "+get", "+set", "+strlen", "+eval", "+evalsha"},
		{"ACL", "SETUSER", "elsewhere", "on", ">" + plantedPassword, "~other:*", "+@all"},
		{"ACL", "SETUSER", "reader", "on", ">" + plantedPassword, "~metaguard:*", "+get", "+strlen", "+eval", "+evalsha"},
		{"ACL", "SETUSER", "scriptless", "on", ">" + plantedPassword, "~metaguard:*", "+get", "+set", "+strlen"},
		{"ACL", "SETUSER", "nothing", "on", ">" + plantedPassword},
	} {
		if err := redisClient(t, plain).Do(context.Background(), rules...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	occupied := redisClient(t, crowded).Conn()
	t.Cleanup(func() { _ = occupied.Close() })
	eventually(t, "the only place is taken", func() bool { return occupied.Ping(context.Background()).Err() == nil })
	as := func(user string) string { return "redis://" + user + ":" + plantedPassword + "@" + plain.Address }
	const unavailable = "error the latch is unavailable, passwords are refused until it is back {env."
	for name, test := range map[string]struct{ url, failed, logged string }{
		"all is well":          {redisURL(plain), "", ""},
		"a password":           {"redis://:" + plantedPassword + "@" + locked.Address, "", ""},
		"no password":          {"redis://" + locked.Address, "Redis wants a password", ""},
		"a wrong one":          {"redis://:" + plantedPassword + "x@" + locked.Address, "does not take the user and password", ""},
		"one too many":         {"redis://:" + plantedPassword + "@" + plain.Address, "", ""},
		"the ACL":              {as("right"), "", ""},
		"the ACL without INFO": {as("lean"), "", ""},
		"other keys":           {as("elsewhere"), "may not do what the latch needs", ""},
		"only reading":         {as("reader"), "may not do what the latch needs", ""},
		"no scripts":           {as("scriptless"), "may not do what the latch needs", ""},
		"no commands":          {as("nothing"), "may not do what the latch needs", ""},
		"scripts are off":      {redisURL(renamed), "does not know a command", ""},
		"AUTH is off":          {"redis://:" + plantedPassword + "@" + noAuth.Address, "does not know a command", ""},
		"no such database":     {"redis://" + plain.Address + "/99", "no database of the URL's number", ""},
		"no cluster":           {"redis://" + plain.Address + "?cluster=true", "this Redis is no cluster", ""},
		"it would evict":       {redisURL(evicting), "Redis would evict records", ""},
		"it evicts others":     {redisURL(volatile), "", ""},
		"it may forget":        {redisURL(lossy), "", "warn Redis forgets records when it crashes"},
		"it does not say":      {redisURL(blind), "", ""},
		"a replica":            {redisURL(replica), "", unavailable + "|takes no writes"},
		"it is full":           {redisURL(full), "", unavailable + "|no memory left"},
		"no place":             {"redis://" + crowded.Address, "", unavailable},
		"nobody":               {"redis://127.0.0.1:1", "", unavailable + "|connection refused"},
		"no socket":            {"unix:///nowhere/r.sock", "", unavailable + "|no such file"},
		"silence":              {"redis://:" + plantedPassword + "@" + silentListener(t) + "?read_timeout=100ms", "", unavailable + "|no answer"},
		"no TLS":               {"rediss://:" + plantedPassword + "@" + plain.Address + "?dial_timeout=200ms", "", unavailable},
		"no name":              {"redis://:" + plantedPassword + "@metaguard.invalid", "", unavailable + "|cannot be resolved"},
	} {
		t.Run(name, func(t *testing.T) {
			latch, failed, logged := startRedisLatch(t, test.url)
			if (failed == "") != (test.failed == "") || !strings.Contains(failed, test.failed) {
				t.Errorf("Start: %q, want %q", failed, test.failed)
			}
			if failed != "" && (!strings.Contains(failed, latch.URL) || strings.Contains(failed, "\n")) {
				t.Errorf("Start: %q", failed)
			}
			if (logged == "") != (test.logged == "") {
				t.Errorf("logged %q, want %q", logged, test.logged)
			}
			for part := range strings.SplitSeq(test.logged, "|") {
				if !strings.Contains(logged, part) {
					t.Errorf("logged %q, want %q", logged, part)
				}
			}
			clock := newClock()
			_, refusal := newKeeper(t, latch, clock).Reserve(context.Background(), "start "+name, []byte("x"))
			if works := test.failed == "" && !strings.HasPrefix(test.logged, "error"); works || name == "it would evict" {
				wantRefusal(t, refusal, "", "")
			} else if refusal == nil || refusal.Reason != decision.LatchUnavailable || strings.Contains(refusal.Error(), plantedPassword) {
				t.Errorf("got %v", refusal)
			}
		})
	}
	t.Run("nothing is left behind", func(t *testing.T) {
		eventually(t, "the probes are gone", func() bool {
			keys, err := redisClient(t, plain).Keys(context.Background(), redisPrefix+"probe:*").Result()
			return err == nil && len(keys) == 0
		})
	})
}

// testCA makes certificates for tests. Go reads SSL_CERT_FILE once in a
// process, so there is one for all runs.
var testCA = sync.OnceValues(func() (*authority, error) {
	ca, err := newAuthority()
	if err != nil {
		return nil, err
	}
	file, err := os.CreateTemp("", "mg-ca-*.pem")
	if err != nil {
		return nil, err
	}
	defer os.Remove(file.Name())
	if err := pem.Encode(file, &pem.Block{Type: "CERTIFICATE", Bytes: ca.der}); err != nil {
		return nil, err
	}
	if err := os.Setenv("SSL_CERT_FILE", file.Name()); err != nil {
		return nil, err
	}
	if _, err := x509.SystemCertPool(); err != nil {
		return nil, err
	}
	return ca, file.Close()
})

type authority struct {
	certificate *x509.Certificate
	der         []byte
	key         *ecdsa.PrivateKey
}

func newAuthority() (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Metaguard's tests"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	certificate, err := x509.ParseCertificate(der)
	return &authority{certificate, der, key}, err
}

// serve starts a Redis with a certificate for 127.0.0.1, and gives the address
// of its TLS port.
func (a *authority) serve(t *testing.T, notAfter time.Time) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), NotBefore: time.Now().Add(-time.Hour), NotAfter: notAfter,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, block := range map[string]*pem.Block{
		"ca": {Type: "CERTIFICATE", Bytes: a.der}, "cert": {Type: "CERTIFICATE", Bytes: der}, "key": {Type: "PRIVATE KEY", Bytes: private},
	} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	port := strconv.Itoa(harness.FreePort(t))
	harness.StartRedis(t, "--tls-port", port, "--tls-cert-file", filepath.Join(dir, "cert"), "--tls-key-file", filepath.Join(dir, "key"),
		"--tls-ca-cert-file", filepath.Join(dir, "ca"), "--tls-auth-clients", "no", "--requirepass", plantedPassword)
	return port
}

// TestRedisTLS: a certificate is checked in full.
func TestRedisTLS(t *testing.T) {
	harness.NeedRedis(t)
	ours, err := testCA()
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := newAuthority()
	if err != nil {
		t.Fatal(err)
	}
	good := ours.serve(t, time.Now().Add(time.Hour))
	for name, test := range map[string]struct{ host, logged string }{
		"ours":         {"127.0.0.1:" + good, ""},
		"another name": {"localhost:" + good, "certificate is for another host name"},
		"theirs":       {"127.0.0.1:" + theirs.serve(t, time.Now().Add(time.Hour)), "certificate is of an unknown authority"},
		"expired":      {"127.0.0.1:" + ours.serve(t, time.Now().Add(-time.Minute)), "certificate is not valid, or not now"},
	} {
		t.Run(name, func(t *testing.T) {
			latch, failed, logged := startRedisLatch(t, "rediss://:"+plantedPassword+"@"+test.host)
			if failed != "" || (logged == "") != (test.logged == "") || !strings.Contains(logged, test.logged) {
				t.Errorf("Start: %q, logged %q, want %q", failed, logged, test.logged)
			}
			_, _, err := latch.Load(context.Background(), mustKey(t, instance))
			if (err == nil) != (test.logged == "") {
				t.Errorf("Load: %v", err)
			}
		})
	}
}
