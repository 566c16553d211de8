// SPDX-License-Identifier: Apache-2.0

package module

import (
	"net/netip"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/metaguard/metaguard/module/decision"
)

// decisionLine is a line of the decision log, and what is kept of it in memory:
// these fields and no others (invariant I3). A list of zap's fields would take
// four times as much, at every request. What is empty is left out, but for the
// first seven.
type decisionLine struct {
	at       time.Time // when the request ended
	id       string
	verdict  decision.Verdict
	reason   decision.Reason
	outcome  outcome
	status   int
	dialect  string
	mode     string
	code     string
	err      string
	peer     netip.Addr
	method   string
	path     string
	source   string
	caller   string
	project  string
	address  netip.Addr
	target   string
	resource decision.Resource

	judged, cached               bool
	revision                     string
	codes, rules                 texts
	decide, upstream, duration   time.Duration
	hasBody                      bool
	bodySize                     int
	removed, removedPasswordKeys int
}

// line is what is published of the request.
func (x *exchange) line() *decisionLine {
	l := &decisionLine{
		at:       time.Now(),
		id:       x.id,
		verdict:  x.verdict,
		reason:   x.reason,
		outcome:  x.outcome,
		status:   x.status,
		dialect:  x.h.dialect.Name(),
		mode:     x.h.Mode,
		code:     x.code,
		peer:     x.peer,
		target:   x.target.InstanceID,
		resource: x.match.Resource,
		judged:   x.judged,
		upstream: x.forwardFor,
		hasBody:  x.match.Body,
		bodySize: len(x.body),
		removed:  x.removed.Total(),

		removedPasswordKeys: x.removed.PasswordKeys,
	}
	if x.err != nil {
		l.err = x.err.Error()
	}
	if x.request != nil {
		l.method, l.path = x.request.Method, x.request.Path
	}
	if x.caller != nil {
		l.source, l.caller, l.project, l.address = x.caller.Source, x.caller.ID, x.caller.ProjectID, x.caller.Address
	}
	if x.judged {
		l.cached = x.result.Cached
		l.revision, l.codes, l.rules, l.decide = x.result.Revision, x.result.Decision.Reasons, x.result.Rules, x.result.Duration
	}
	l.duration = l.at.Sub(x.start)
	return l
}

// field is the line as a part of a log entry.
func (l *decisionLine) field() zap.Field { return zap.Inline(l) }

// MarshalLogObject writes the fields.
func (l *decisionLine) MarshalLogObject(to zapcore.ObjectEncoder) error {
	to.AddString("decision_id", l.id)
	to.AddString("verdict", string(l.verdict))
	to.AddString("reason", string(l.reason))
	to.AddString("outcome", string(l.outcome))
	to.AddInt("status", l.status)
	to.AddString("dialect", l.dialect)
	to.AddString("mode", l.mode)
	addText(to, "code", l.code)
	addText(to, "error", l.err)
	addAddress(to, "peer", l.peer)
	if l.method != "" {
		to.AddString("method", l.method)
		to.AddString("path", l.path)
	}
	if l.source != "" {
		to.AddString("source", l.source)
		to.AddString("caller", l.caller)
		addText(to, "project_id", l.project)
		addAddress(to, "address", l.address)
	}
	addText(to, "target", l.target)
	if l.resource.Kind != "" {
		to.AddString("resource", string(l.resource.Kind))
		to.AddString("action", string(l.resource.Action))
		addText(to, "version", l.resource.Version)
		addText(to, "key", l.resource.Key)
	}
	if l.judged {
		to.AddString("revision", l.revision)
		_ = to.AddArray("codes", l.codes) // has no errors
		_ = to.AddArray("rules", l.rules)
		to.AddDuration("decide", l.decide)
		if l.cached {
			to.AddBool("cached", true)
		}
	}
	if l.upstream > 0 {
		to.AddDuration("upstream", l.upstream)
	}
	if l.hasBody {
		to.AddInt("body_size", l.bodySize)
	}
	if l.removed > 0 {
		to.AddInt("removed", l.removed)
		to.AddInt("removed_password_keys", l.removedPasswordKeys)
	}
	to.AddDuration("duration", l.duration)
	return nil
}

func addText(to zapcore.ObjectEncoder, key, value string) {
	if value != "" {
		to.AddString(key, value)
	}
}

func addAddress(to zapcore.ObjectEncoder, key string, address netip.Addr) {
	if address.IsValid() {
		to.AddString(key, address.String())
	}
}

// bounded is the line with no more of each text and list than a decision needs:
// itself, as a rule.
func (l *decisionLine) bounded() *decisionLine {
	if !l.large() {
		return l
	}
	cut := *l
	for _, text := range cut.texts() {
		*text = boundText(*text, maxRecentText)
	}
	cut.codes, cut.rules = cut.codes.bounded(), cut.rules.bounded()
	return &cut
}

// texts are those that clients, policies and configurations have a say in.
func (l *decisionLine) texts() [14]*string {
	return [...]*string{
		&l.id, &l.code, &l.err, &l.method, &l.path, &l.source, &l.caller, &l.project, &l.target,
		&l.resource.Version, &l.resource.Key, &l.revision, &l.dialect, &l.mode,
	}
}

func (l *decisionLine) large() bool {
	for _, text := range l.texts() {
		if len(*text) > maxRecentText {
			return true
		}
	}
	return l.codes.large() || l.rules.large()
}

// text is the value of a field that one can ask for, see filterFields.
func (l *decisionLine) text(key string) string {
	switch key {
	case "caller":
		return l.caller
	case "decision_id":
		return l.id
	case "reason":
		return string(l.reason)
	case "verdict":
		return string(l.verdict)
	default:
		return ""
	}
}

// Interface guards.
var _ zapcore.ObjectMarshaler = (*decisionLine)(nil)
