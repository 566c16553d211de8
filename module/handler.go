// SPDX-License-Identifier: Apache-2.0

package module

import (
	"net/http"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/metaguard/metaguard/module/decision"
)

// ServeHTTP answers every request itself: with the legacy server's normalised
// answer or with a refusal. Nothing of the site stands behind it. A load
// balancer's probe is no request for metadata.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
	if isProbe(r) {
		return h.answerProbe(w, r)
	}
	x := h.begin(w, r)
	defer x.publish()
	if refusal := h.guard(x); refusal != nil {
		x.refuse(refusal)
	}
	return nil
}

// guard is a request's way, from top to bottom. Every step may end it with a
// refusal; no step reaches back, and nothing below decide can turn its verdict
// into another one.
func (h *Handler) guard(x *exchange) *decision.Refusal {
	if refusal := x.canonicalize(); refusal != nil {
		return refusal
	}
	if refusal := x.traced("identify", x.identify); refusal != nil {
		return refusal
	}
	if refusal := x.limit(); refusal != nil {
		return refusal
	}
	if refusal := x.checkSession(); refusal != nil {
		return refusal
	}
	if refusal := x.classify(); refusal != nil {
		return refusal
	}
	if refusal := x.completeBody(); refusal != nil {
		return refusal
	}
	denial := x.traced("decide", x.decide)
	if refusal := x.record(denial); refusal != nil {
		return refusal
	}
	x.compare()
	if denial != nil {
		return x.enforce(denial)
	}
	return x.pass()
}

// pass is the way of a request that may go to the legacy server, or that asks
// for a session token, which Metaguard answers itself.
func (x *exchange) pass() *decision.Refusal {
	if x.session.endpoint != nil {
		return x.answerToken()
	}
	if refusal := x.reserveWrite(); refusal != nil {
		return refusal
	}
	defer x.settleRead() // when the answer was sent, or is known not to be
	if x.transaction.done {
		return x.answerAcknowledged()
	}
	refusal := x.traced("upstream", x.forward)
	if x.writer.Streaming() {
		return refusal // all that there is was passed on already
	}
	if refusal == nil {
		refusal = x.traced("normalise", x.normalize)
	}
	if refusal == nil {
		refusal = x.traced("redact", x.redact)
	}
	if failure := x.settleWrite(refusal); refusal == nil {
		refusal = failure
	}
	if refusal != nil {
		return refusal
	}
	return x.answer()
}
