// SPDX-License-Identifier: Apache-2.0

package module

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/metaguard/metaguard/module/decision"
	"github.com/metaguard/metaguard/module/dialect"
	"github.com/metaguard/metaguard/module/response"
)

// noNext ends the handler chain behind reverse_proxy, which never calls it.
var noNext = caddyhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error {
	return errors.New("nothing stands behind the upstream")
})

// readTimeout is how long the legacy server may take over a read, from the
// connection to the last byte.
const readTimeout = 60 * time.Second

// writeAnswer is how much memory the answer to a write gets before the write is
// sent, in bytes. Nova's is empty.
const writeAnswer = 4 << 10

// forward sends the canonical request through Caddy's reverse_proxy and
// collects the whole answer. A password write has its own deadline and goes on
// when the client hangs up: its outcome must be known.
func (x *exchange) forward() *decision.Refusal {
	client := x.r.Context()
	deadline, parent := time.Now().Add(readTimeout), client
	end, detached := x.mustEnd()
	if detached {
		deadline, parent = end, context.WithoutCancel(client)
	}
	ctx, cancel := context.WithCancel(parent)
	defer cancel()
	x.timer = time.AfterFunc(time.Until(deadline), cancel) // not a deadline: a stream has none
	defer x.timer.Stop()
	if x.match.Wait > 0 {
		done, refusal := x.h.waits.begin(x.waiter(), cancel)
		if refusal != nil {
			x.unsent = true
			return refusal
		}
		defer done()
		x.timer.Reset(x.match.Wait + waitMargin)
	}
	outgoing, refusal := x.outgoing(ctx)
	if refusal != nil {
		x.unsent = true
		return refusal
	}
	x.writer = response.NewWriter(x.h.Response.MaxBuffer, x.h.budget)
	if detached && !x.writer.Presize(writeAnswer) {
		x.unsent = true // rather than a password that was stored, and nobody told
		return decision.Refuse(decision.Overloaded, "budget_full")
	}
	if x.streamable() {
		x.writer.Stream(x.stream)
	}
	start := time.Now()
	err := x.roundTrip(outgoing)
	x.forwardFor = time.Since(start)
	x.outcome = outcomeFailed
	switch {
	case !detached && client.Err() != nil:
		x.outcome = outcomeAborted
		return decision.Refuse(decision.ResponseIncomplete, "client_gone")
	case err != nil:
		refusal = x.upstreamRefusal(err)
	default:
		x.reply, refusal = x.writer.Answer()
	}
	if ctx.Err() != nil && !x.unsent { // reverse_proxy takes it for a client that left
		if x.match.Wait > 0 && x.h.waits.ended() {
			return waitEnded()
		}
		return decision.Refuse(decision.UpstreamTimeout, "deadline")
	}
	if refusal == nil && x.writer.Streaming() {
		x.outcome = outcomeStreamed
	}
	return refusal
}

// roundTrip runs reverse_proxy. It panics with http.ErrAbortHandler when an
// answer breaks off after its header; that must not reach Caddy's server,
// which would cut the client's connection without a reason.
func (x *exchange) roundTrip(outgoing *http.Request) (err error) {
	defer func() {
		if cause := recover(); cause != nil {
			if cause != http.ErrAbortHandler { //nolint:errorlint // a panic value, compared as net/http does
				panic(cause)
			}
			x.writer.Abort()
			_, refusal := x.writer.Answer() // why it broke off; Abort leaves no answer
			err = refusal
		}
	}()
	return x.h.Upstream.ServeHTTP(x.writer, outgoing, noNext)
}

// upstreamRefusal says what a failed round trip means.
func (x *exchange) upstreamRefusal(err error) *decision.Refusal {
	var refusal *decision.Refusal
	var dial reverseproxy.DialError
	var handlerError caddyhttp.HandlerError
	switch {
	case errors.As(err, &refusal):
		return refusal
	case errors.As(err, &dial):
		x.unsent = true
		return decision.RefuseWith(decision.UpstreamUnreachable, "dial", err)
	case errors.Is(err, errTimeout), errors.Is(err, context.DeadlineExceeded):
		return decision.Refuse(decision.UpstreamTimeout, "timeout")
	case errors.Is(err, errClosed):
		return decision.Refuse(decision.ResponseIncomplete, "closed")
	case errors.Is(err, errReset):
		return decision.Refuse(decision.ResponseIncomplete, "reset")
	case errors.Is(err, errMalformed):
		return decision.Refuse(decision.ResponseIncomplete, "malformed")
	case errors.As(err, &handlerError) && handlerError.StatusCode == http.StatusServiceUnavailable:
		x.unsent = true
		return decision.Refuse(decision.UpstreamUnreachable, "no_upstream")
	}
	return decision.Refuse(decision.ResponseIncomplete, "no_answer")
}

// outgoing builds the request that goes upstream from the canonical one alone.
// Nothing of the client's bytes is copied.
func (x *exchange) outgoing(ctx context.Context) (*http.Request, *decision.Refusal) {
	header := x.request.Header // nobody else's
	if header == nil {
		header = make(http.Header, 4)
	}
	hop := isolated(ctx)
	hop.waits, hop.shares = x.match.Wait > 0, x.reusable()
	if x.h.assertion != nil {
		var refusal *decision.Refusal
		if hop.asserted, refusal = x.h.assertion.Sign(x.target); refusal != nil {
			return nil, refusal
		}
	}
	if x.h.source != nil {
		var refusal *decision.Refusal
		if hop.source, refusal = x.h.source.of(x.target); refusal != nil {
			return nil, refusal
		}
	}
	header["Accept-Encoding"] = []string{"identity"}
	// nil values keep reverse_proxy from adding the client's Host and scheme.
	header["X-Forwarded-Host"] = nil
	header["X-Forwarded-Proto"] = nil
	caller := x.caller.Address
	if !caller.IsValid() || x.match.Direct {
		header["X-Forwarded-For"] = nil
		caller = netip.IPv4Unspecified()
	}
	hop.vars[caddyhttp.ClientIPVarKey] = caller.String()
	outgoing := (&http.Request{
		Method:     x.request.Method,
		URL:        &url.URL{Path: x.request.Path, RawQuery: x.request.RawQuery},
		Proto:      x.r.Proto,
		ProtoMajor: x.r.ProtoMajor,
		ProtoMinor: x.r.ProtoMinor,
		Header:     header,
		Body:       http.NoBody,
		// reverse_proxy makes the one X-Forwarded-For of this.
		RemoteAddr: netip.AddrPortFrom(caller, 0).String(),
	}).WithContext(hop)
	if x.match.Body {
		// A copy: the transport may still be sending when the answer is here
		// and the body's memory has been given back.
		outgoing.Body = io.NopCloser(bytes.NewReader(bytes.Clone(x.body)))
		outgoing.ContentLength = int64(len(x.body))
	}
	return outgoing, nil
}

// normalize makes one well-formed answer of what the legacy server said.
func (x *exchange) normalize() *decision.Refusal {
	if x.redirectToSlash() {
		return nil
	}
	if refusal := x.checkMark(x.reply); refusal != nil {
		return refusal
	}
	if refusal := response.Normalize(x.reply, x.h.responseRules); refusal != nil {
		return refusal
	}
	if x.reply.Status/100 != 2 {
		// An error page may quote anything: stored keys, a stack, the request.
		response.Replace(x.reply, []byte(http.StatusText(x.reply.Status)+"\n"))
		x.reply.Header.Set("Content-Type", "text/plain; charset=utf-8")
		return nil
	}
	return x.checkPasswordAnswer()
}

// checkMark refuses an answer of some other server than the dialect's.
func (x *exchange) checkMark(reply *response.Answer) *decision.Refusal {
	mark := x.h.traits.Mark
	if mark.Name != "" && reply.Status/100 == 2 && reply.Header.Get(mark.Name) != mark.Value {
		return decision.Refuse(decision.ResponseUnreadable, "not_marked")
	}
	return nil
}

// redirectToSlash tells a client that a directory has a slash at its end, where
// its server does. The place is Metaguard's own word: nothing of the server's
// redirect passes.
func (x *exchange) redirectToSlash() bool {
	if !x.h.traits.RedirectsToSlash || x.request.TrailingSlash || x.reply.Status/100 != 3 {
		return false
	}
	place, err := url.Parse(x.reply.Header.Get("Location"))
	if err != nil || place.Path != x.request.Path+"/" {
		return false
	}
	location := x.request.Path + "/"
	if x.request.RawQuery != "" {
		location += "?" + x.request.RawQuery
	}
	x.reply.Status = http.StatusMovedPermanently
	x.reply.Header = http.Header{"Location": {location}, "Content-Type": {"text/plain; charset=utf-8"}}
	response.Replace(x.reply, []byte(http.StatusText(http.StatusMovedPermanently)+"\n"))
	return true
}

// redact removes what the decision hides. A JSON document must also be whole:
// a server that closes the connection at the end of an answer, as uWSGI does,
// cannot show a cut, but half a document does. Keys that only begin like a
// password's never pass, in audit mode neither. Of a write, nothing is an answer.
func (x *exchange) redact() (refusal *decision.Refusal) {
	if x.reply.Status/100 != 2 || (x.match.Resource.Action == decision.Write && len(x.reply.Body) == 0) {
		return nil
	}
	hidden, refusal := x.hidden()
	if refusal != nil {
		return refusal
	}
	defer x.keepTag(x.reply.Header["Etag"])
	shape := x.shape()
	if shape != dialect.Text {
		if refusal := response.CheckCharset(x.reply); refusal != nil {
			return refusal
		}
	}
	switch shape {
	case dialect.JSON:
		x.removed, refusal = response.RedactJSON(x.reply, hidden.JSON, hidden.Keys)
	case dialect.Listing:
		x.removed = response.RedactListing(x.reply, hidden.Listing)
	case dialect.Text:
	}
	return refusal
}

// keepTag gives a redacted answer its ETag back where the dialect's tags are
// versions. An ETag of the whole would elsewhere be wrong for the rest, and could
// be compared with guesses at what was hidden; but without a version, a client that
// waits for the next one is answered at once, again and again (google-guest-agent,
// internal/metadata/metadata.go, updateEtag, which then asks for what is newer than
// "NONE"). All that it tells is that something has changed, hidden or not.
func (x *exchange) keepTag(tag []string) {
	if x.h.traits.VersionTags && len(tag) > 0 {
		x.reply.Header["Etag"] = tag
	}
}

// shape tells how the answer is to be redacted. Where the dialect does not
// know the resource, and a team's policy allowed it all the same, the answer
// itself says whether it is a JSON document.
func (x *exchange) shape() dialect.Format {
	if x.match.Resource.Kind != decision.KindUnknown {
		return x.match.Format
	}
	switch text := bytes.TrimLeft(x.reply.Body, " \t\r\n\v\f\ufeff"); {
	case len(text) > 0 && (text[0] == '{' || text[0] == '['):
		return dialect.JSON
	default:
		return dialect.Listing
	}
}
