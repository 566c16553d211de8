// SPDX-License-Identifier: Apache-2.0

package module

import (
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

const (
	// maxRecent is how many decisions are kept in memory, of all sites together.
	maxRecent = 1000
	// maxRecentText is how many bytes of each of their texts are kept, maxRecentList
	// how many entries of each list, and maxRecentEntry how many bytes of an entry:
	// 2.6 MiB as a rule, and 24 MiB whatever clients and policies say
	// (BenchmarkRecentMemory).
	maxRecentText  = 512
	maxRecentList  = 32
	maxRecentEntry = 256
)

// recentDecisions keeps the last decisions of this process, whatever
// configuration they were made under: what a decision-log line says, in the same
// fields, whether or not that line is logged.
var recentDecisions recent

// recent is a ring that holds the last of what was put into it. Nothing in it is
// changed after that. It takes no lock.
type recent struct {
	next atomic.Uint64 // how many were ever put in
	ring [maxRecent]atomic.Pointer[recentDecision]
}

// recentDecision is one decision-log line.
type recentDecision struct {
	at     time.Time
	fields []zap.Field
}

// add takes over the fields, and bounds what they hold.
func (r *recent) add(at time.Time, fields []zap.Field) {
	for i := range fields {
		boundField(&fields[i])
	}
	r.ring[(r.next.Add(1)-1)%maxRecent].Store(&recentDecision{at, fields})
}

// boundField cuts what is longer than a decision needs.
func boundField(field *zap.Field) {
	switch list, isList := field.Interface.(texts); {
	case field.Type == zapcore.StringType:
		field.String = boundText(field.String, maxRecentText)
	case isList && list.large():
		list = slices.Clone(list[:min(len(list), maxRecentList)])
		for i := range list {
			list[i] = boundText(list[i], maxRecentEntry)
		}
		field.Interface = list
	}
}

// boundText copies what it cuts: a part of a text would keep all of it in memory.
func boundText(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	return strings.ToValidUTF8(strings.Clone(text[:limit]), "") + "…"
}

// texts is a list of texts in a log line, whose length can be seen again.
type texts []string

// MarshalLogArray adds the texts.
func (t texts) MarshalLogArray(to zapcore.ArrayEncoder) error {
	for _, text := range t {
		to.AppendString(text)
	}
	return nil
}

func (t texts) large() bool {
	return len(t) > maxRecentList || slices.ContainsFunc(t, func(text string) bool { return len(text) > maxRecentEntry })
}

// all gives what is kept, the newest first, and how many there ever were.
func (r *recent) all() (kept []*recentDecision, ever uint64) {
	ever = r.next.Load()
	for i := range min(ever, maxRecent) {
		if one := r.ring[(ever-1-i)%maxRecent].Load(); one != nil { // its place may be taken, and not filled yet
			kept = append(kept, one)
		}
	}
	return kept, ever
}

// text is the value of a field that is text, or "".
func (d *recentDecision) text(key string) string {
	for i := range d.fields {
		if d.fields[i].Key == key && d.fields[i].Type == zapcore.StringType {
			return d.fields[i].String
		}
	}
	return ""
}
