// SPDX-License-Identifier: Apache-2.0

package module

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"syscall"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/metaguard/metaguard/module/decision"
	"github.com/metaguard/metaguard/module/identity"
)

// lastHop is the transport below reverse_proxy. It adds the signed headers,
// which reverse_proxy would log and an operator's header_up could change, and
// keeps the words of errors back, since net/http quotes in them what it could
// not read.
type lastHop struct {
	http.RoundTripper
	// reuse is for requests that may share connections, nil where none do.
	reuse *reuse
	// waiting is for requests that the server keeps waiting, nil where it does not.
	waiting http.RoundTripper
	// pools are what keeps connections for further requests.
	pools []*http.Transport
	// retired: the configuration is no longer in force.
	retired atomic.Bool
}

// newLastHop sends requests through inner.
func newLastHop(inner *reverseproxy.HTTPTransport) *lastHop {
	hop := &lastHop{RoundTripper: inner, pools: []*http.Transport{inner.Transport}}
	single := once(inner) // before newReuse, which changes how inner connects
	if hop.reuse = newReuse(inner); mustCheck(inner) {
		hop.RoundTripper = single
	}
	return hop
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

// RoundTrip sends the request with its signed headers.
func (t *lastHop) RoundTrip(r *http.Request) (*http.Response, error) {
	hop, _ := r.Context().Value(hopKey{}).(*hopContext)
	if hop != nil && hop.asserted != nil {
		r = signed(r, hop.asserted)
	}
	answer, use, err := t.send(r, hop)
	if err != nil {
		t.done()
		return nil, plainError(err)
	}
	if answer.StatusCode == http.StatusSwitchingProtocols {
		_ = answer.Body.Close()
		t.done()
		return nil, decision.Refuse(decision.ResponseUnreadable, "switching_protocols")
	}
	t.reuse.learn(answer)
	answer.Body = plainBody{answer.Body, t, use}
	return answer, nil
}

// send chooses the connection. It gives that of a request that shares one.
func (t *lastHop) send(r *http.Request, hop *hopContext) (*http.Response, connUse, error) {
	if hop != nil && hop.shares && t.reuse.allows() {
		return t.reuse.roundTrip(r)
	}
	transport := t.RoundTripper
	if t.waiting != nil && hop != nil && hop.waits {
		transport = t.waiting
	}
	answer, err := transport.RoundTrip(r)
	return answer, connUse{}, err
}

// signed is the request with the headers of an assertion. Its own are reverse_proxy's, which
// logs them. Those without a value, which are there for reverse_proxy only, would
// not be sent.
func signed(r *http.Request, asserted identity.Asserted) *http.Request {
	with := *r
	with.Header = make(http.Header, 8)
	for name, values := range r.Header {
		if len(values) > 0 {
			with.Header[name] = values
		}
	}
	asserted.Set(with.Header)
	return &with
}

// plainBody is an answer's body whose errors quote nothing.
type plainBody struct {
	io.ReadCloser
	hop *lastHop
	use connUse // none: the connection serves this request only
}

// Close ends the request.
func (b plainBody) Close() error {
	err := b.ReadCloser.Close()
	b.use.end()
	b.hop.done()
	return err
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
