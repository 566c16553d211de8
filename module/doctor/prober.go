// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

const (
	// maxAnswer bounds what is read of an answer, in bytes.
	maxAnswer = 64 << 10
	// agent is what servers see in their logs.
	agent = "metaguard-doctor"
)

// prober asks servers, one bounded question at a time. Its errors never hold a
// byte of what a server sent: it may be a secret.
type prober struct {
	timeout time.Duration // of one question, from connecting to the last byte
	silent  map[string]error
}

// place is where a question goes.
type place struct {
	network, address string
	tls              bool
}

// question is a GET.
type question struct {
	path   string
	host   string
	header http.Header
}

// reply is what came.
type reply struct {
	status   int
	header   http.Header
	body     []byte
	long     bool // there was more
	asked    time.Time
	answered time.Time
}

// gives tells whether it is a success with something in it.
func (r *reply) gives() bool { return r.status >= 200 && r.status < 300 && len(r.body) > 0 }

// alike tells whether two replies say the same.
func (r *reply) alike(other *reply) bool {
	return r.status == other.status && r.long == other.long && bytes.Equal(r.body, other.body)
}

// errNoHTTP is all that is said of an answer that cannot be read.
var errNoHTTP = errors.New("it accepts connections, but gives no answer that can be read in time")

// ask asks. A server that did not answer once is not asked again.
func (p *prober) ask(ctx context.Context, to place, q question) (*reply, error) {
	key := to.network + "/" + to.address
	if err := p.silent[key]; err != nil {
		return nil, err
	}
	got, err := p.askOnce(ctx, to, q)
	if err != nil {
		p.silent[key] = err
	}
	return got, err
}

func (p *prober) askOnce(ctx context.Context, to place, q question) (*reply, error) {
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, to.network, to.address)
	if err != nil {
		return nil, err // of the kernel or the resolver: the server has sent nothing
	}
	defer conn.Close() //nolint:errcheck // nothing was written that could be lost
	scheme := "http"
	if to.tls {
		scheme = "https"
	}
	host := q.host
	if host == "" {
		host = "169.254.169.254"
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+"://"+host+q.path, nil)
	if err != nil {
		return nil, fmt.Errorf("the question cannot be asked: %w", err)
	}
	for name, values := range q.header {
		request.Header[name] = values
	}
	request.Header.Set("User-Agent", agent)
	transport := &http.Transport{
		DialContext:            func(context.Context, string, string) (net.Conn, error) { return conn, nil },
		TLSClientConfig:        &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // who it is does not matter: nothing secret is sent, nothing is believed
		DisableKeepAlives:      true,
		DisableCompression:     true,
		MaxResponseHeaderBytes: maxAnswer,
	}
	got := &reply{asked: time.Now()}
	response, err := transport.RoundTrip(request) // which follows no redirect
	if err != nil {
		return nil, errNoHTTP
	}
	defer response.Body.Close() //nolint:errcheck // it was only read
	got.answered = time.Now()
	got.status, got.header = response.StatusCode, response.Header
	got.body, err = io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	if got.long = len(got.body) > maxAnswer; got.long {
		got.body = got.body[:maxAnswer]
	}
	if err != nil && len(got.body) == 0 {
		return nil, errNoHTTP
	}
	return got, nil
}
