// SPDX-License-Identifier: Apache-2.0

package module

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptrace"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/metaguard/metaguard/module/decision"
	"github.com/metaguard/metaguard/module/dialect"
	"github.com/metaguard/metaguard/module/response"
)

// reuse keeps connections to the legacy server for further requests, where the
// operator asks for it (`keepalive`). A server that sends more than one answer to a
// request would give one caller's to another, so a connection serves another request
// only if nobody can tell that it did:
//
//   - Only reads of what is not sensitive share connections; see reusable.
//   - The last answer said its length, and ended exactly there. net/http never gets
//     a byte beyond that, and so neither takes it for the next answer nor logs it.
//   - When the next request takes the connection, nothing else has arrived on it,
//     and the server has not closed it. Otherwise the request goes out on a new one;
//     nothing of it was sent by then.
//
// Where the server does not say how long its answers are, no connection is used
// twice.
type reuse struct {
	http.RoundTripper
	state atomic.Int32 // what answers were like so far
}

// The states of reuse.
const (
	reuseUnknown int32 = iota // no answer yet
	reuseExact                // they have a length
	reuseNever                // one had none
)

// newReuse makes inner, which keeps connections, check them; nil: it keeps none,
// or they cannot be checked, since they are encrypted or serve several requests at
// once.
func newReuse(inner *reverseproxy.HTTPTransport) *reuse {
	transport := inner.Transport
	if transport.DisableKeepAlives || !canReuse(inner) {
		return nil
	}
	dial := transport.DialContext
	read := time.Duration(inner.ReadTimeout)
	transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return checkConn(conn, read), nil
	}
	return &reuse{RoundTripper: inner}
}

// canReuse tells whether connections of a transport can be checked.
func canReuse(inner *reverseproxy.HTTPTransport) bool {
	return mustCheck(inner) && peekSupported && inner.ProxyProtocol == "" &&
		inner.MaxConnsPerHost == 0 // which would count each transport's by itself
}

// mustCheck tells whether connections of a transport serve one request each if they
// cannot be checked. Those that are encrypted, or serve several requests at once,
// are their server's to keep apart.
func mustCheck(inner *reverseproxy.HTTPTransport) bool {
	return inner.TLS == nil && slices.Equal(inner.Versions, []string{"1.1"})
}

// once is the same transport with one request on each connection.
func once(inner *reverseproxy.HTTPTransport) *reverseproxy.HTTPTransport {
	single := *inner
	single.Transport = inner.Transport.Clone()
	single.Transport.DisableKeepAlives = true
	return &single
}

// reusable tells whether a request may share a connection with those of others: a
// read of what is no secret by itself, and that the server can be asked twice, as
// net/http does where a server closes a connection without an answer.
func (x *exchange) reusable() bool {
	resource := x.match.Resource
	switch resource.Kind {
	case decision.KindPassword, decision.KindCredentials, decision.KindToken, decision.KindUnknown:
		return false
	default:
	}
	return x.request.Method == http.MethodGet && resource.Action == decision.Read && !resource.Sensitive && !x.match.Body &&
		x.match.Transaction == dialect.NoTransaction && x.match.Wait == 0
}

// allows tells whether requests may share connections by now.
func (u *reuse) allows() bool { return u != nil && u.state.Load() == reuseExact }

// learn looks at how an answer ends.
func (u *reuse) learn(answer *http.Response) {
	switch {
	case u == nil || answer.StatusCode/100 != 2 || answer.StatusCode == http.StatusNoContent:
	case answer.ContentLength >= 0 && len(answer.TransferEncoding) == 0 && answer.ProtoAtLeast(1, 1):
		u.state.CompareAndSwap(reuseUnknown, reuseExact)
	default:
		u.state.Store(reuseNever)
	}
}

// roundTrip sends a request on a connection that others have used, if there is a
// good one. It also gives the connection, which is to be closed after the answer if
// that was not exact.
func (u *reuse) roundTrip(r *http.Request) (*http.Response, connUse, error) {
	var used connUse
	took := func(info httptrace.GotConnInfo) {
		if conn, ok := info.Conn.(*checkedConn); ok {
			used = conn.take()
		} else { // an encrypted one to a proxy on the way: it serves this request only
			u.state.Store(reuseNever)
		}
	}
	trace := httptrace.ContextClientTrace(r.Context()) // reverse_proxy's own, of this request alone
	if trace == nil {
		trace = new(httptrace.ClientTrace)
		r = r.WithContext(httptrace.WithClientTrace(r.Context(), trace))
	}
	trace.GotConn = took
	answer, err := u.RoundTrip(r)
	return answer, used, err
}

// errUnasked ends a connection on which the server sent what nobody asked for.
var errUnasked = errors.New("the server sent more than one answer")

// checkedConn is a connection that serves one request after the other, and fails
// where more comes than one answer to each.
type checkedConn struct {
	net.Conn
	raw     syscall.RawConn // nil: what has arrived cannot be seen
	timeout time.Duration   // of a read

	mu     sync.Mutex
	answer response.AnswerEnd
	uses   int  // by requests; net/http may have dialed for one that then took another
	sent   bool // a part of the request
	spoilt bool // for good
	peek   func(fd uintptr)
	peeked bool
}

func checkConn(conn net.Conn, timeout time.Duration) *checkedConn {
	c := &checkedConn{Conn: conn, timeout: timeout}
	if socket, ok := conn.(syscall.Conn); ok {
		c.raw, _ = socket.SyscallConn()
	}
	c.peek = func(fd uintptr) { c.peeked = quiet(fd) }
	return c
}

// connUse is one request's use of a connection; the zero value is of none.
type connUse struct {
	conn   *checkedConn
	number int
}

// end closes the connection after an answer that was not exact. net/http may have
// given it to the next request before the end of the answer was read: that one has
// looked at it itself, see take.
func (u connUse) end() {
	if u.conn != nil && !u.conn.exactOrTaken(u.number) {
		_ = u.conn.Close()
	}
}

// take gives the connection to the next request.
func (c *checkedConn) take() connUse {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.uses > 0 && !c.answer.Ended() || !c.isQuiet() {
		c.spoilt = true
	}
	c.answer.Reset()
	c.uses++
	c.sent = false
	if c.timeout > 0 {
		// net/http has been reading since the last answer, or since it dialed.
		_ = c.SetReadDeadline(time.Now().Add(c.timeout))
	}
	return connUse{c, c.uses}
}

// isQuiet tells whether nothing has come that was not read, not even the end.
func (c *checkedConn) isQuiet() bool {
	c.peeked = false
	return c.raw != nil && c.raw.Control(c.peek) == nil && c.peeked
}

// exactOrTaken tells whether the connection can serve another request after the
// answer to this one, of which the header has come, or does so already.
func (c *checkedConn) exactOrTaken(number int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.uses != number || !c.spoilt && c.answer.Exact()
}

// Write sends a part of a request. Its error means that nothing was sent.
func (c *checkedConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	spoilt := c.spoilt
	c.sent = true
	c.mu.Unlock()
	if spoilt {
		return 0, errUnasked
	}
	return c.Conn.Write(p)
}

// Read reads a part of an answer, and nothing beyond it.
func (c *checkedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n == 0 {
		return n, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.spoilt || !c.sent || c.answer.Ended() {
		c.spoilt = true
		return 0, errUnasked
	}
	if rest := c.answer.Add(p[:n]); rest > 0 {
		c.spoilt = true // the answer itself is whole, and passes
		return n - rest, nil
	}
	return n, err
}
