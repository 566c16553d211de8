// SPDX-License-Identifier: Apache-2.0

package module

import (
	"fmt"
	"net/http"
	"runtime/debug"

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

// shown is what setVariables has made visible so far, of what may still change
// after it.
type shown struct {
	verdict decision.Verdict
	reason  decision.Reason
	outcome outcome
}

// setVariables makes the decision visible to the rest of the site as
// {http.vars.metaguard.*} and in the access log. All are flat strings and none
// of them is ever expanded again.
func (x *exchange) setVariables() {
	now := shown{x.verdict, x.reason, x.outcome}
	if x.shown == now {
		return
	}
	x.shown = now
	ctx := x.r.Context()
	vars, ok := ctx.Value(caddyhttp.VarsCtxKey).(map[string]any)
	if !ok {
		return // Caddy's server always sets it
	}
	vars["metaguard.id"] = x.id
	vars["metaguard.decision"] = string(x.verdict)
	vars["metaguard.reason"] = string(x.reason)
	vars["metaguard.outcome"] = string(x.outcome)
	vars["metaguard.caller"] = x.callerID()
	vars["metaguard.source"] = x.source()
	vars["metaguard.dialect"] = x.h.dialect.Name()
	vars["metaguard.resource"] = string(x.match.Resource.Kind)
	vars["metaguard.action"] = string(x.match.Resource.Action)
	vars["metaguard.revision"] = x.result.Revision
	if server, ok := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server); ok && server.Logs == nil {
		return // no access log
	}
	if extra, ok := ctx.Value(caddyhttp.ExtraLogFieldsCtxKey).(*caddyhttp.ExtraLogFields); ok {
		extra.Set(zap.String("decision_id", x.id))
		extra.Set(zap.String("verdict", string(x.verdict)))
		extra.Set(zap.String("reason", string(x.reason)))
	}
}

// log writes the decision-log line, and keeps it for a while in memory.
func (x *exchange) log() {
	level := zapcore.InfoLevel
	if x.verdict == decision.WouldDeny {
		level = zapcore.WarnLevel
	}
	line := x.line()
	if entry := x.h.decisions.Check(level, "decision"); entry != nil {
		entry.Write(line.field())
	}
	recentDecisions.add(line)
}

func appendText(fields []zap.Field, key, value string) []zap.Field {
	if value == "" {
		return fields
	}
	return append(fields, zap.String(key, value))
}
