// SPDX-License-Identifier: Apache-2.0

package module

import (
	"errors"
	"net/http"
	"net/netip"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/trace"

	"github.com/metaguard/metaguard/module/canonical"
	"github.com/metaguard/metaguard/module/decision"
	"github.com/metaguard/metaguard/module/dialect"
	"github.com/metaguard/metaguard/module/identity"
	"github.com/metaguard/metaguard/module/password"
	"github.com/metaguard/metaguard/module/policy"
	"github.com/metaguard/metaguard/module/response"
)

// maxBody is the longest body that is read where it is no password, in bytes.
const maxBody = 64 << 10

// exchange is one request and all that Metaguard learns of it on its way. It
// belongs to the request's goroutine.
type exchange struct {
	h *Handler
	w http.ResponseWriter
	r *http.Request

	id      string // decision id
	start   time.Time
	peer    netip.Addr // zero: a Unix socket
	peerErr error
	agent   bool       // a Neutron agent that this site trusts is in front
	span    trace.Span // Caddy's, of the whole request; nil: it is not traced

	request      *canonical.Request
	claimed      string // the source that claimed the request, or ""
	caller       *decision.Caller
	allowance    *allowance // nil: not limited
	target       decision.Target
	targetGiven  bool // by the description of a request, see check.go
	session      sessionState
	match        dialect.Match
	body         []byte
	bodyRelease  func()
	bodyComplete bool

	asked       *decision.Input // of the policy
	result      policy.Result
	judged      bool
	keeper      *password.Keeper
	reservation *password.Reservation
	transaction transaction
	writer      *response.Writer
	reply       *response.Answer
	unsent      bool        // no connection was made: the server saw nothing of it
	timer       *time.Timer // ends the round trip
	cut         bool        // the client has a part of an answer that broke off

	// What is published.
	verdict    decision.Verdict
	reason     decision.Reason
	code       string
	err        error
	outcome    outcome
	status     int
	removed    response.Removed
	forwardFor time.Duration
	shown      shown
}

// outcome is how a request ended, whatever its verdict was.
type outcome string

const (
	outcomeForwarded outcome = "forwarded" // the legacy server's answer went to the client
	outcomeAnswered  outcome = "answered"  // a session token, by Metaguard itself
	outcomeEmpty     outcome = "empty"     // answered as an empty resource, the legacy server was not asked
	outcomeRefused   outcome = "refused"   // refused before the legacy server was asked
	outcomeStreamed  outcome = "streamed"  // the legacy server's answer was longer than max_buffer and passed on as it came
	outcomeFailed    outcome = "failed"    // the legacy server's answer was not fit to pass on
	outcomeAborted   outcome = "aborted"   // the client went away
	outcomePanic     outcome = "panic"     // a defect of ours; the connection was cut
)

// begin notes who is at the other end, before anything can be refused.
func (h *Handler) begin(w http.ResponseWriter, r *http.Request) *exchange {
	x := &exchange{
		h: h, w: w, r: r,
		id:      uuid.NewString(),
		start:   time.Now(),
		verdict: decision.Deny,
		outcome: outcomeRefused,
	}
	if span := trace.SpanFromContext(r.Context()); span.IsRecording() {
		x.span = span
	}
	h.metrics.inFlight.Inc()
	x.peer, x.peerErr = identity.Peer(r)
	x.agent = h.identities.Trusts(x.peer)
	w.Header().Set(decisionHeader, x.id)
	if mark := h.traits.Mark; mark.Name != "" {
		w.Header().Set(mark.Name, mark.Value)
	}
	if r.ProtoMajor == 1 && r.ProtoMinor == 0 {
		// Whoever in front reads chunks in HTTP/1.0, which Go does not, sees the
		// end of the request elsewhere (RFC 9112, section 6.1).
		w.Header().Set("Connection", "close")
	}
	return x
}

// canonicalize makes the one reading of the request that is judged and
// forwarded.
func (x *exchange) canonicalize() (refusal *decision.Refusal) {
	x.request, refusal = x.h.canonicalizer.Canonicalize(x.r)
	return refusal
}

// identify finds out who calls.
func (x *exchange) identify() (refusal *decision.Refusal) {
	if x.peerErr != nil {
		return decision.RefuseWith(decision.IdentityInvalid, "peer", x.peerErr)
	}
	x.caller, x.claimed, refusal = x.h.identities.Identify(x.r, x.peer)
	x.h.metrics.identified(x.claimed, refusal)
	return refusal
}

// classify finds out what the request is about, and whose.
func (x *exchange) classify() *decision.Refusal {
	if x.session.endpoint != nil {
		return x.classifyToken()
	}
	x.match = x.h.dialect.Classify(dialect.Request{
		Method:        x.request.Method,
		Segments:      x.request.Segments,
		TrailingSlash: x.request.TrailingSlash,
		Query:         x.request.Query,
		Header:        x.request.Header,
	})
	if x.match.Ambiguous != "" {
		return decision.Refuse(decision.RequestAmbiguous, x.match.Ambiguous)
	}
	// A HEAD would have the server hand a password out, or forget it, and nobody
	// would get the answer.
	if !x.match.Allows(x.request.Method) || (x.request.Head && x.match.Transaction != dialect.NoTransaction) {
		refusal := decision.Refuse(decision.MethodNotAllowed, "method")
		refusal.Allow = x.match.Methods
		return refusal
	}
	if x.match.Direct {
		if refusal := x.refuseForwarded(); refusal != nil {
			return refusal
		}
	}
	if refusal := x.findTarget(); refusal != nil {
		return refusal
	}
	if x.h.assertion != nil && (x.target.InstanceID == "" || x.target.ProjectID == "") {
		return decision.Refuse(decision.TargetUnknown, "no_instance")
	}
	if x.passwordWrite() && x.target.InstanceID == "" {
		return decision.Refuse(decision.TargetUnknown, "write_without_instance")
	}
	return nil
}

// refuseForwarded refuses what another proxy passed on, where the server would
// if Metaguard did not take the header away (as in EC2, where a header without a
// value tells as much).
func (x *exchange) refuseForwarded() *decision.Refusal {
	for name := range x.r.Header {
		if canonical.IsForwarded(name) {
			refusal := decision.Refuse(decision.HeaderRefused, "forwarded")
			refusal.Status = http.StatusForbidden
			return refusal
		}
	}
	return nil
}

// findTarget finds out whose data the request is about: the caller's own, or,
// where it is no instance and its source says how, another's.
func (x *exchange) findTarget() *decision.Refusal {
	if x.targetGiven {
		return nil
	}
	x.target = decision.Target{
		InstanceID: x.caller.InstanceID,
		ProjectID:  x.caller.ProjectID,
		Address:    x.caller.Address,
	}
	if x.caller.InstanceID != "" || x.match.Resource.Kind == decision.KindHealth { // which is no one's data
		return nil
	}
	rule := x.h.identities.TargetRule(x.caller)
	if rule == nil {
		return nil
	}
	target, found := rule.Find(x.r, x.peer, x.caller)
	if !found {
		return decision.Refuse(decision.TargetUnknown, "target_not_found")
	}
	x.target = target
	return nil
}

// completeBody reads the body whole, where one belongs, before anything is
// decided.
func (x *exchange) completeBody() (refusal *decision.Refusal) {
	if !x.match.Body {
		if x.request.HasBody {
			return decision.Refuse(decision.BodyUnexpected, "body")
		}
		return nil
	}
	control := http.NewResponseController(x.w)
	deadline := time.Now().Add(time.Duration(x.h.BodyTimeout))
	if err := control.SetReadDeadline(deadline); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return decision.RefuseWith(decision.BodyIncomplete, "deadline", err)
	}
	limit := int64(maxBody)
	if x.passwordWrite() {
		limit = int64(x.h.passwords.config.Limits.ReadSize())
	}
	x.body, x.bodyRelease, refusal = response.ReadBody(x.r.Body, x.r.ContentLength, limit, x.h.budget)
	if refusal != nil {
		if refusal.Reason == decision.BodyIncomplete && !time.Now().Before(deadline) {
			refusal = decision.Refuse(decision.BodyTimeout, "body_deadline") // net/http hides it in a trailer
		}
		return refusal
	}
	x.bodyComplete = true
	_ = control.SetReadDeadline(time.Time{}) // the next request has its own
	if x.passwordWrite() {
		return x.h.passwords.config.Limits.Check(x.body)
	}
	return nil
}
