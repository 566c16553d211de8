// SPDX-License-Identifier: Apache-2.0

package module

import (
	"fmt"
	"net/http"
	"runtime/debug"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/metaguard/metaguard/module/decision"
)

// publish runs once at the end of every request, by defer: also after an early
// refusal, a panic, or when the client hung up. It writes the one
// decision-log line, the metrics, the span, the variables and the access-log fields.
func (x *exchange) publish() {
	cause := recover()
	if cause != nil {
		x.panicked(cause)
	}
	if x.writer != nil {
		x.writer.Release()
	}
	if x.bodyRelease != nil {
		x.bodyRelease()
	}
	if x.r.Context().Err() != nil && (x.outcome == outcomeRefused || x.outcome == outcomeFailed || x.outcome == outcomeEmpty || x.outcome == outcomeAnswered) &&
		x.reason != decision.BodyTimeout { // by which net/http cancels the request itself
		x.outcome = outcomeAborted
	}
	x.observe()
	x.traceRequest()
	x.setVariables() // again: the client may have gone meanwhile
	x.log()
	if cause != nil || x.cut {
		// The client must not take half an answer for a whole one.
		panic(http.ErrAbortHandler)
	}
	x.endWriting()
}

// panicked notes a defect of ours. The stack goes to the log, what was
// panicked with does not: it could quote the request.
func (x *exchange) panicked(cause any) {
	x.outcome = outcomePanic
	x.code = "panic"
	x.status = 0
	x.err = fmt.Errorf("panic of type %T", cause)
	if !x.judged {
		x.reason = decision.PolicyError
	} else if x.reason == decision.PolicyAllow || x.reason == "" {
		x.reason = decision.ResponseUnreadable
	}
	x.h.logger.Error("panic while guarding a request",
		zap.String("decision_id", x.id), zap.ByteString("stack", debug.Stack()))
}

func (x *exchange) callerID() string {
	if x.caller == nil {
		return ""
	}
	return x.caller.ID
}

func (x *exchange) source() string {
	if x.caller == nil {
		return ""
	}
	return x.caller.Source
}

// setVariables makes the decision visible to the rest of the site as
// {http.vars.metaguard.*} and in the access log. All are flat strings and none
// of them is ever expanded again.
func (x *exchange) setVariables() {
	ctx := x.r.Context()
	resource := x.match.Resource
	for _, variable := range [...]struct{ name, value string }{
		{"metaguard.id", x.id},
		{"metaguard.decision", string(x.verdict)},
		{"metaguard.reason", string(x.reason)},
		{"metaguard.outcome", string(x.outcome)},
		{"metaguard.caller", x.callerID()},
		{"metaguard.source", x.source()},
		{"metaguard.dialect", x.h.dialect.Name()},
		{"metaguard.resource", string(resource.Kind)},
		{"metaguard.action", string(resource.Action)},
		{"metaguard.revision", x.result.Revision},
	} {
		caddyhttp.SetVar(ctx, variable.name, variable.value)
	}
	if extra, ok := ctx.Value(caddyhttp.ExtraLogFieldsCtxKey).(*caddyhttp.ExtraLogFields); ok {
		extra.Set(zap.String("decision_id", x.id))
		extra.Set(zap.String("verdict", string(x.verdict)))
		extra.Set(zap.String("reason", string(x.reason)))
	}
}

// log writes the decision-log line, and keeps it for a while in memory: fields from
// this list only (invariant I3).
func (x *exchange) log() {
	level := zapcore.InfoLevel
	if x.verdict == decision.WouldDeny {
		level = zapcore.WarnLevel
	}
	resource := x.match.Resource
	fields := make([]zap.Field, 0, 32)
	fields = append(fields,
		zap.String("decision_id", x.id),
		zap.String("verdict", string(x.verdict)),
		zap.String("reason", string(x.reason)),
		zap.String("outcome", string(x.outcome)),
		zap.Int("status", x.status),
		zap.String("dialect", x.h.dialect.Name()),
		zap.String("mode", x.h.Mode),
	)
	fields = appendText(fields, "code", x.code)
	if x.err != nil {
		fields = append(fields, zap.String("error", x.err.Error()))
	}
	if x.peer.IsValid() {
		fields = append(fields, zap.String("peer", x.peer.String()))
	}
	if x.request != nil {
		fields = append(fields, zap.String("method", x.request.Method), zap.String("path", x.request.Path))
	}
	if x.caller != nil {
		fields = append(fields, zap.String("source", x.caller.Source), zap.String("caller", x.caller.ID))
		fields = appendText(fields, "project_id", x.caller.ProjectID)
		if x.caller.Address.IsValid() {
			fields = append(fields, zap.String("address", x.caller.Address.String()))
		}
	}
	fields = appendText(fields, "target", x.target.InstanceID)
	if resource.Kind != "" {
		fields = append(fields, zap.String("resource", string(resource.Kind)), zap.String("action", string(resource.Action)))
		fields = appendText(fields, "version", resource.Version)
		fields = appendText(fields, "key", resource.Key)
	}
	if x.judged {
		fields = append(fields,
			zap.String("revision", x.result.Revision),
			zap.Array("codes", texts(x.result.Decision.Reasons)),
			zap.Array("rules", texts(x.result.Rules)),
			zap.Duration("decide", x.result.Duration))
		if x.result.Cached {
			fields = append(fields, zap.Bool("cached", true))
		}
	}
	if x.forwardFor > 0 {
		fields = append(fields, zap.Duration("upstream", x.forwardFor))
	}
	if x.match.Body {
		fields = append(fields, zap.Int("body_size", len(x.body)))
	}
	if x.removed.Total() > 0 {
		fields = append(fields, zap.Int("removed", x.removed.Total()), zap.Int("removed_password_keys", x.removed.PasswordKeys))
	}
	fields = append(fields, zap.Duration("duration", time.Since(x.start)))
	if entry := x.h.decisions.Check(level, "decision"); entry != nil {
		entry.Write(fields...)
	}
	recentDecisions.add(time.Now(), fields)
}

func appendText(fields []zap.Field, key, value string) []zap.Field {
	if value == "" {
		return fields
	}
	return append(fields, zap.String(key, value))
}
