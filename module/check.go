// SPDX-License-Identifier: Apache-2.0

package module

import (
	"bytes"
	"io"
	"net/http"
	"time"

	"github.com/metaguard/metaguard/module/decision"
	"github.com/metaguard/metaguard/module/password"
	"github.com/metaguard/metaguard/module/response"
	"github.com/metaguard/metaguard/module/session"
)

// check is the way of a described request: that of a real one, up to where
// something would leave this process or be kept. It is not counted, logged,
// compared or limited, and no latch is asked.
func (x *exchange) check(asked *described) *decision.Refusal {
	if refusal := x.canonicalize(); refusal != nil {
		return refusal
	}
	if refusal := x.identifyDescribed(); refusal != nil {
		return refusal
	}
	if refusal := x.checkDescribedSession(asked.SessionAge); refusal != nil {
		return refusal
	}
	if refusal := x.classify(); refusal != nil {
		return refusal
	}
	if refusal := x.completeDescribed(); refusal != nil {
		return refusal
	}
	denial := x.decide()
	if denial != nil && x.verdictOf(denial) != decision.WouldDeny {
		return denial
	}
	if refusal := x.buildDescribed(); refusal != nil {
		return refusal
	}
	return denial
}

// identifyDescribed says who calls: whoever was described, or whom the inventory
// has at the address.
func (x *exchange) identifyDescribed() (refusal *decision.Refusal) {
	if x.caller != nil {
		return nil
	}
	x.caller, refusal = x.h.identities.At(x.r, x.peer)
	return refusal
}

// checkDescribedSession is checkSession for a session of which its age is known.
func (x *exchange) checkDescribedSession(age string) *decision.Refusal {
	s := x.h.sessions
	if s == nil {
		return nil
	}
	if x.session.endpoint = session.EndpointAt(x.request.Segments, x.request.TrailingSlash); x.session.endpoint != nil {
		return nil
	}
	if since, err := time.ParseDuration(age); err == nil {
		x.session.seen = decision.Session{Present: true, Valid: true, AgeSeconds: int(since.Seconds())}
		return nil
	}
	if !s.required {
		return nil
	}
	refusal := decision.Refuse(decision.SessionMissing, "session_missing")
	if x.verdictOf(refusal) == decision.WouldDeny {
		x.session.denial = refusal
		return nil
	}
	return refusal
}

// completeDescribed reads the described body under the bounds of a real one.
func (x *exchange) completeDescribed() (refusal *decision.Refusal) {
	if !x.match.Body {
		if x.request.HasBody {
			return decision.Refuse(decision.BodyUnexpected, "body")
		}
		return nil
	}
	limit := int64(maxBody)
	if x.passwordWrite() {
		limit = int64(x.h.passwords.config.Limits.ReadSize())
	}
	// Memory of its own: what is only described takes no room from clients.
	x.body, _, refusal = response.ReadBody(x.r.Body, x.r.ContentLength, limit, response.NewBudget(4*maxBody))
	if refusal == nil && x.passwordWrite() {
		refusal = x.h.passwords.config.Limits.Check(x.body)
	}
	return refusal
}

// buildDescribed builds what would be sent, since even that can be refused.
func (x *exchange) buildDescribed() *decision.Refusal {
	if x.session.endpoint != nil {
		return nil
	}
	_, refusal := x.outgoing(x.r.Context())
	return refusal
}

// checked says what would become of the request.
func (x *exchange) checked(refusal *decision.Refusal) (*checkAnswer, error) {
	answer := &checkAnswer{
		Verdict: decision.Allow, Reason: decision.PolicyAllow, Outcome: outcomeForwarded, Revision: x.result.Revision,
		Codes: append([]string{}, x.result.Decision.Reasons...), Rules: append([]string{}, x.result.Rules...),
	}
	if refusal == nil && !x.result.Decision.Redact.Empty() {
		answer.Redact = &x.result.Decision.Redact
	}
	if refusal != nil {
		answer.Verdict, answer.Reason, answer.Code = x.verdictOf(refusal), refusal.Reason, refusal.Code
		if refusal.Err != nil {
			answer.Error = refusal.Err.Error()
		}
	}
	switch {
	case refusal != nil && answer.Verdict != decision.WouldDeny:
		x.checkedRefusal(answer, refusal)
	case x.session.endpoint != nil:
		answer.Outcome, answer.Status, answer.AgentStatus = outcomeAnswered, http.StatusOK, http.StatusOK
	}
	var err error
	answer.Input, err = x.result.Document()
	return answer, err
}

func (x *exchange) checkedRefusal(answer *checkAnswer, refusal *decision.Refusal) {
	if refusal.Reason == decision.PolicyDeny && x.result.Decision.Status == http.StatusOK && x.passwordRead() {
		answer.Outcome, answer.Status, answer.AgentStatus = outcomeEmpty, http.StatusOK, http.StatusOK
		return
	}
	answer.Outcome, answer.Status = outcomeRefused, x.refusalStatus(refusal)
	answer.AgentStatus = agentStatus(answer.Status, x.r.Method)
}

// sampleBody is a body that looks as described to whoever inspects it.
func sampleBody(view *decision.Body) io.ReadCloser {
	size := min(view.Size, 2*maxBody) // more is refused unread
	switch view.Format {
	case decision.FormatRSABase64:
		return io.NopCloser(bytes.NewReader(password.Sample(view.KeyBits, size)))
	case decision.FormatBinary:
		return io.NopCloser(bytes.NewReader(bytes.Repeat([]byte{0xff}, size)))
	default:
		return io.NopCloser(bytes.NewReader(bytes.Repeat([]byte{'x'}, size)))
	}
}
