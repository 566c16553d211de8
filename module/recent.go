// SPDX-License-Identifier: Apache-2.0

package module

import (
	"slices"
	"strings"
	"sync/atomic"

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
	ring [maxRecent]atomic.Pointer[decisionLine]
}

// add takes over a line, and bounds what it holds.
func (r *recent) add(line *decisionLine) {
	r.ring[(r.next.Add(1)-1)%maxRecent].Store(line.bounded())
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

// bounded is the list without what is too long; itself, if nothing is.
func (t texts) bounded() texts {
	if !t.large() {
		return t
	}
	list := slices.Clone(t[:min(len(t), maxRecentList)])
	for i := range list {
		list[i] = boundText(list[i], maxRecentEntry)
	}
	return list
}

func (t texts) large() bool {
	return len(t) > maxRecentList || slices.ContainsFunc(t, func(text string) bool { return len(text) > maxRecentEntry })
}

// all gives what is kept, the newest first, and how many there ever were.
func (r *recent) all() (kept []*decisionLine, ever uint64) {
	ever = r.next.Load()
	for i := range min(ever, maxRecent) {
		if one := r.ring[(ever-1-i)%maxRecent].Load(); one != nil { // its place may be taken, and not filled yet
			kept = append(kept, one)
		}
	}
	return kept, ever
}
