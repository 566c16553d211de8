// SPDX-License-Identifier: Apache-2.0

package module

import (
	"context"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"sync/atomic"
	"syscall"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/metaguard/metaguard/module/decision"
)

// lastHop is the transport below reverse_proxy. It adds the signed headers,
// which reverse_proxy would log and an operator's header_up could change, and
// keeps the words of errors back, since net/http quotes in them what it could
// not read.
type lastHop struct {
	http.RoundTripper
	// waiting is for requests that the server keeps waiting, nil where it does not.
	waiting http.RoundTripper
	// pools are what keeps connections for further requests.
	pools []*http.Transport
	// retired: the configuration is no longer in force.
	retired atomic.Bool
}

// retire closes connections that wait for another request. One that is still in
// use is closed after its last: otherwise those of each reload would stay, with
// two goroutines each, until their keep-alive ends.
func (t *lastHop) retire() {
	t.retired.Store(true) // before, so that none is idle after both
	t.closeIdle()
}

func (t *lastHop) closeIdle() {
	for _, pool := range t.pools {
		pool.CloseIdleConnections()
	}
}

// done is called when a request needs its connection no more.
func (t *lastHop) done() {
	if t.retired.Load() {
		t.closeIdle()
	}
}

// waitingKey is under which a request's context tells that it waits.
type waitingKey struct{}

// assertedKey is under which a request's context holds the signed headers.
type assertedKey struct{}

// RoundTrip sends the request with its signed headers.
func (t *lastHop) RoundTrip(r *http.Request) (*http.Response, error) {
	if asserted, ok := r.Context().Value(assertedKey{}).(http.Header); ok {
		signed := *r
		signed.Header = make(http.Header, len(r.Header)+len(asserted))
		maps.Copy(signed.Header, r.Header)
		maps.Copy(signed.Header, asserted)
		r = &signed
	}
	transport := t.RoundTripper
	if t.waiting != nil && r.Context().Value(waitingKey{}) != nil {
		transport = t.waiting
	}
	answer, err := transport.RoundTrip(r)
	if err != nil {
		t.done()
		return nil, plainError(err)
	}
	if answer.StatusCode == http.StatusSwitchingProtocols {
		_ = answer.Body.Close()
		t.done()
		return nil, decision.Refuse(decision.ResponseUnreadable, "switching_protocols")
	}
	answer.Body = plainBody{answer.Body, t}
	return answer, nil
}

// plainBody is an answer's body whose errors quote nothing.
type plainBody struct {
	io.ReadCloser
	hop *lastHop
}

// Close ends the request.
func (b plainBody) Close() error {
	defer b.hop.done()
	return b.ReadCloser.Close()
}

// Read reads on.
func (b plainBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = plainError(err)
	}
	return n, err
}

// What a transport's error comes to.
var (
	errClosed    = errors.New("the server closed the connection")
	errReset     = errors.New("the server reset the connection")
	errTimeout   = errors.New("the server took too long")
	errMalformed = errors.New("the answer is malformed")
)

// plainError says the same as err without quoting what the server sent. That no
// connection was made, and that somebody gave up, must be told apart.
func plainError(err error) error {
	var dial reverseproxy.DialError
	var timeout net.Error
	switch {
	case errors.As(err, &dial), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.As(err, &timeout) && timeout.Timeout():
		return errTimeout
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errClosed
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return errReset
	}
	return errMalformed
}

// isolated gives the outgoing request variables and placeholders of its own.
// Nothing of the client's can choose where it goes, and a dial that outlives
// the request shares no memory with it.
func isolated(ctx context.Context, caller netip.Addr) context.Context {
	ctx = context.WithValue(ctx, caddyhttp.VarsCtxKey, map[string]any{
		caddyhttp.ClientIPVarKey:     caller.String(),
		caddyhttp.TrustedProxyVarKey: false,
	})
	return context.WithValue(ctx, caddy.ReplacerCtxKey, caddy.NewReplacer())
}
