// SPDX-License-Identifier: Apache-2.0

package password

import (
	"slices"
	"time"

	"github.com/metaguard/metaguard/module/decision"
)

// state is where the life of a password stands.
type state string

const (
	stateFree    state = "free"
	statePending state = "pending"
	stateSet     state = "set"
)

// maxPossible bounds the fingerprints of writes with an unknown outcome. The
// oldest goes first: a read that matches only it is then refused.
const maxPossible = 8

// Record is all that is kept of an instance's password. Its zero value is
// free. It never holds the password. Only this package looks into it; a latch
// keeps what EncodeRecord makes of it.
type Record struct {
	state state
	// at is when the state began, until when it ends. Both are wall-clock
	// times in UTC.
	at, until time.Time
	// token names the reservation that may settle a pending record.
	token string

	accepted  fingerprint   // what the server last accepted through Metaguard
	possible  []fingerprint // unknown outcomes since then, oldest first
	candidate fingerprint   // the write that is under way

	handover handover // of a password that the server makes
}

// terms is how long states last.
type terms struct {
	once    time.Duration // how long a password counts as set; 0: not at all
	timeout time.Duration // how long a write may take
}

// pending is how long a write without a known outcome holds.
func (t terms) pending() time.Duration { return t.timeout + t.once }

// held tells whether the record keeps writers away. One from the future does:
// its clock or ours is wrong.
func (r Record) held(now time.Time) bool {
	return r.state != stateFree && r.state != "" && now.Before(r.until)
}

// misdated tells whether the record lies further ahead than its own term, so
// that it would hold much longer than anyone asked for.
func (r Record) misdated(now time.Time) bool {
	return r.held(now) && r.at.Sub(now) > r.until.Sub(r.at)
}

// redated is the record as if it began now.
func (r Record) redated(now time.Time) Record {
	return r.lasting(now, r.until.Sub(r.at))
}

// refusal says why a held record refuses a write.
func (r Record) refusal() *decision.Refusal {
	if r.state == statePending {
		return decision.Refuse(decision.PasswordWritePending, "latch_pending")
	}
	return decision.Refuse(decision.PasswordAlreadySet, "latch_set")
}

// reserved is the record after a write was reserved. An earlier one that was
// never settled may have reached the server.
func (r Record) reserved(now time.Time, t terms, token string, candidate fingerprint) Record {
	r = r.uncertain()
	r.state = statePending
	r.token = token
	r.candidate = candidate
	return r.lasting(now, t.pending())
}

// settled is the record after the outcome of its write became known.
func (r Record) settled(now time.Time, t terms, outcome Outcome) Record {
	switch outcome {
	case Accepted:
		r.accepted, r.possible, r.candidate = r.candidate, nil, ""
		return r.over(now, t)
	case AlreadySet:
		r.candidate = ""
		return r.over(now, t)
	case Refused, Unsent:
		r.candidate = ""
		r.state, r.token = stateFree, ""
		return r.lasting(now, 0)
	case Unknown:
	}
	r = r.uncertain()
	r.token = "" // settled: nobody may settle it again
	r.state = statePending
	return r.lasting(now, t.pending())
}

// over is the record of a password that the server holds.
func (r Record) over(now time.Time, t terms) Record {
	r.state, r.token = stateSet, ""
	if t.once == 0 {
		r.state = stateFree
	}
	return r.lasting(now, t.once)
}

// uncertain moves the candidate to the fingerprints that the server may hold.
func (r Record) uncertain() Record {
	if r.candidate == "" {
		return r
	}
	kept := slices.DeleteFunc(slices.Clone(r.possible), func(p fingerprint) bool { return p == r.candidate })
	kept = append(kept, r.candidate)
	if len(kept) > maxPossible {
		kept = kept[len(kept)-maxPossible:]
	}
	r.possible, r.candidate = kept, ""
	return r
}

func (r Record) lasting(now time.Time, term time.Duration) Record {
	r.at = now.UTC().Round(0) // without the monotonic clock, which no other process has
	r.until = r.at.Add(term)
	return r
}

// prints lists every fingerprint that a read may match.
func (r Record) prints() []fingerprint {
	all := make([]fingerprint, 0, len(r.possible)+2)
	if r.accepted != "" {
		all = append(all, r.accepted)
	}
	all = append(all, r.possible...)
	if r.candidate != "" {
		all = append(all, r.candidate)
	}
	return all
}
