// SPDX-License-Identifier: Apache-2.0

package module

import (
	"net/http"

	"github.com/metaguard/metaguard/module/decision"
	"github.com/metaguard/metaguard/module/dialect"
	"github.com/metaguard/metaguard/module/password"
)

// decide asks the policy. Whatever is not an allow is a refusal.
func (x *exchange) decide() *decision.Refusal {
	x.asked = x.input()
	x.result = x.h.engine.Decide(x.r.Context(), x.asked)
	x.judged = true
	if x.session.denial != nil {
		return x.session.denial // audit mode; whatever the policy says of it
	}
	if x.result.Reason != decision.PolicyAllow || !x.result.Decision.Allow {
		reason := x.result.Reason
		if reason == decision.PolicyAllow { // an engine that contradicts itself
			reason = decision.PolicyMalformed
		}
		return decision.RefuseWith(reason, "", x.result.Err)
	}
	x.verdict = decision.Allow
	x.reason = decision.PolicyAllow
	return nil
}

// input is what the policy sees.
func (x *exchange) input() *decision.Input {
	in := &decision.Input{
		Version: decision.Version,
		Request: decision.Request{
			ID:       x.id,
			Method:   x.request.Method,
			Path:     x.request.Path,
			Segments: x.request.Segments,
			Query:    x.request.Query,
			Host:     x.request.Host,
			Protocol: x.request.Protocol,
			Headers:  x.request.PolicyHeaders,
		},
		Caller:   *x.caller,
		Target:   x.target,
		Resource: x.match.Resource,
		Session:  x.session.seen,
	}
	if x.match.Body {
		body := password.Inspect(x.body)
		in.Request.Body = &body
	}
	return in
}

// enforce decides what becomes of a refusal by policy or session: in audit mode it is
// published and the request goes on, without redaction; a password read that
// the policy answers as empty is answered so; everything else is refused.
func (x *exchange) enforce(refusal *decision.Refusal) *decision.Refusal {
	if x.verdictOf(refusal) == decision.WouldDeny {
		x.verdict = decision.WouldDeny
		x.reason, x.code, x.err = refusal.Reason, refusal.Code, refusal.Err
		x.result.Decision.Redact = decision.Redact{}
		return x.pass()
	}
	if refusal.Reason == decision.PolicyDeny && x.result.Decision.Status == http.StatusOK && x.passwordRead() {
		x.reason = refusal.Reason
		return x.answerEmpty()
	}
	return refusal
}

func (x *exchange) passwordRead() bool {
	resource := x.match.Resource
	return resource.Kind == decision.KindPassword && resource.Action == decision.Read
}

func (x *exchange) passwordWrite() bool {
	resource := x.match.Resource
	return resource.Kind == decision.KindPassword && resource.Action == decision.Write
}

// reserveWrite takes the right to write the instance's password. It comes
// after an allow, so that it tells nobody else whether one is set. For a read
// it makes sure that the answer can be checked, before anything is asked.
func (x *exchange) reserveWrite() (refusal *decision.Refusal) {
	if x.match.Resource.Kind != decision.KindPassword {
		return nil
	}
	if x.keeper, refusal = x.h.passwords.keeper(x.r.Context()); refusal != nil {
		return refusal
	}
	if x.match.Transaction != dialect.NoTransaction {
		return x.beginTransaction()
	}
	if x.passwordWrite() {
		x.reservation, refusal = x.keeper.Reserve(x.r.Context(), x.target.InstanceID, x.body)
	}
	return refusal
}

// settleWrite tells the latch what became of the write. A refusal after the
// request went out says that the legacy server's answer cannot be trusted, so
// the outcome is unknown and the password stays reserved.
func (x *exchange) settleWrite(after *decision.Refusal) *decision.Refusal {
	x.settleAcknowledgement()
	if x.reservation == nil {
		return nil
	}
	outcome := password.Unknown
	switch {
	case x.unsent:
		outcome = password.Unsent
	case after == nil:
		outcome = password.OutcomeOf(x.reply.Status)
	}
	x.h.metrics.passwordWrites.WithLabelValues(outcome.String()).Inc()
	return x.reservation.Settle(outcome)
}
