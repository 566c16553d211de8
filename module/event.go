// SPDX-License-Identifier: Apache-2.0

package module

import (
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/metaguard/metaguard/module/decision"
	"github.com/metaguard/metaguard/module/policy"
)

// record writes the decision event, in OPA's own decision-log format: to
// Caddy's log, and to OPA's log service if there is one. It comes before
// anything is forwarded, so that a request whose decision must be on record
// can still be refused.
func (x *exchange) record(denial *decision.Refusal) *decision.Refusal {
	if fullLogs.Load() > 0 {
		x.verdict = decision.Deny
		return decision.Refuse(decision.LogFull, "log_buffer")
	}
	entry := x.h.events.Check(zapcore.InfoLevel, "decision event")
	if entry == nil && !x.h.engine.LogsEvents() {
		return nil
	}
	about := policy.About{ID: x.id, Verdict: string(x.verdictOf(denial)), Mode: x.h.Mode, WritesInput: true}
	if x.peer.IsValid() {
		about.RequestedBy = x.peer.String()
	}
	event, err := x.h.engine.Record(x.r.Context(), &x.result, about)
	if err != nil {
		x.verdict = decision.Deny
		return decision.RefuseWith(decision.LogFull, "", err)
	}
	if entry != nil && event != nil {
		entry.Write(eventFields(event, x.asked)...)
	}
	return nil
}

// verdictOf is what will become of the request as far as the policy goes.
func (x *exchange) verdictOf(denial *decision.Refusal) decision.Verdict {
	switch {
	case denial == nil:
		return decision.Allow
	case x.h.Mode == modeAudit && denial.Reason.OfPolicy():
		return decision.WouldDeny
	default:
		return decision.Deny
	}
}

// eventFields are the members of an event under their names in OPA's format.
// Its input is written from what was asked, where OPA had nothing to do with it.
func eventFields(event *policy.Event, asked *decision.Input) []zap.Field {
	fields := make([]zap.Field, 0, 16)
	fields = append(fields, zap.Any("labels", event.Labels), zap.String("decision_id", event.DecisionID))
	fields = appendText(fields, "revision", event.Revision)
	if len(event.Bundles) > 0 {
		fields = append(fields, zap.Any("bundles", event.Bundles))
	}
	fields = appendText(fields, "path", event.Path)
	if event.Input != nil && *event.Input == any(policy.AskedInput{}) {
		fields = append(fields, zap.Object("input", (*inputDocument)(asked)))
	} else {
		fields = appendDocument(fields, "input", event.Input)
	}
	fields = appendDocument(fields, "result", event.Result)
	fields = appendDocument(fields, "nd_builtin_cache", event.NDBuiltinCache)
	if len(event.Erased) > 0 {
		fields = append(fields, zap.Strings("erased", event.Erased))
	}
	if len(event.Masked) > 0 {
		fields = append(fields, zap.Strings("masked", event.Masked))
	}
	fields = appendText(fields, "requested_by", event.RequestedBy)
	fields = append(fields,
		zap.String("timestamp", event.Timestamp.Format(time.RFC3339Nano)),
		documentField("metrics", event.Metrics),
		documentField("custom", event.Custom))
	return fields
}
