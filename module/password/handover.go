// SPDX-License-Identifier: Apache-2.0

package password

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"time"
)

// Bounds of a handover.
const (
	// readTerm is how long a read may be under way: longer than the module gives
	// the server and the client together. After it the process is taken for dead.
	readTerm = 2 * time.Minute
	// acknowledgeTerm is how long after a read it may be acknowledged. Clients do
	// it at once; wget, which many of them call, tries three times for 20 s each.
	acknowledgeTerm = 2 * time.Minute
	// maxReads bounds how many reads of one instance are under way, and maxReaders
	// how many are remembered; the oldest of those goes first.
	maxReads   = 8
	maxReaders = 8
	// maxAhead is how far ahead the clock of another replica may be. A session's
	// token has as much (module/session, token.go).
	maxAhead = 30 * time.Second
)

// handover is what is kept of a password that the server makes, and forgets when
// its reader says that it has it. The zero value is that nothing is known.
type handover struct {
	// seen is what the server was last seen to hold.
	seen fingerprint
	// readers have got seen, and may acknowledge it until their time is up.
	readers []reader
	// reads are those whose answer is not known yet.
	reads []underway
	// acknowledging is the acknowledgement that is under way, if one is.
	acknowledging underway
	// done tells that seen was acknowledged, and forgotten by the server.
	done bool
}

// reader is a caller who has got a password.
type reader struct {
	who   string // see nameReader
	until time.Time
}

// underway is a request to the server whose end is not known.
type underway struct {
	token string
	until time.Time
}

// nameReader makes a name of one size for a caller.
func nameReader(callerID string) string {
	sum := sha256.Sum256([]byte(callerID))
	return hex.EncodeToString(sum[:])
}

func isReaderName(text string) bool {
	raw, err := hex.DecodeString(text)
	return err == nil && len(raw) == sha256.Size && hex.EncodeToString(raw) == text
}

// within tells whether now lies in a term that ends at until. One that began
// further ahead than replicas' clocks may differ was set by a clock that is
// wrong, and counts as over: whoever is refused for that reads once more.
func within(now, until time.Time, term time.Duration) bool {
	return now.Before(until) && until.Sub(now) <= term+maxAhead
}

// begun is the handover in a world that has gone on until now: what has lasted
// its time is over. A read that never came to its end may have brought a newer
// password to nobody, so nobody has what the server holds.
func (h handover) at(now time.Time, write time.Duration) handover {
	live := make([]underway, 0, len(h.reads)+1)
	for _, read := range h.reads {
		if within(now, read.until, readTerm) {
			live = append(live, read)
		}
	}
	if len(live) < len(h.reads) {
		h = handover{acknowledging: h.acknowledging}
	}
	h.reads = live
	h.readers = slices.DeleteFunc(slices.Clone(h.readers), func(r reader) bool { return !within(now, r.until, acknowledgeTerm) })
	if !within(now, h.acknowledging.until, write) {
		h.acknowledging = underway{}
	}
	return h
}

// busy tells that something is under way whose end decides who may acknowledge.
func (h handover) busy() bool { return len(h.reads) > 0 || h.acknowledging.token != "" }

// has tells whether a caller has got what the server was last seen to hold.
func (h handover) has(who string) bool {
	return slices.ContainsFunc(h.readers, func(r reader) bool { return r.who == who })
}

// reading adds a read that is under way.
func (h handover) reading(now time.Time, token string) handover {
	h.reads = append(slices.Clone(h.reads), underway{token, stamp(now.Add(readTerm))})
	return h
}

// Seen is what a read has learned of the password that the server holds.
type Seen int

// What can be seen. The zero value is the one that tells nothing.
const (
	// SeenNothing: there was no answer, or one that says nothing about it.
	SeenNothing Seen = iota
	// SeenNone: there is no password.
	SeenNone
	// SeenPassword: there is one, and it may be passed on.
	SeenPassword
	// SeenUnfit: there is something that may not be passed on.
	SeenUnfit
)

// counts tells whether what a read that is under way finds is worth anything.
func (h handover) counts(r *Read) bool {
	return slices.ContainsFunc(h.reads, func(u underway) bool { return u.token == r.token })
}

// saw is the handover after a read has learned what the server holds, and nobody
// else. begun is what it was when the read began.
func (h handover) saw(r *Read) handover {
	// Reads that are under way count no more either: what one of them finds may be
	// older than this, and its end be told later.
	unknown := handover{acknowledging: h.acknowledging}
	switch {
	case r.seen == SeenNothing, r.seen == SeenNone && h.done: // as it was acknowledged
		return h
	case r.seen != SeenPassword:
		return unknown
	case r.print == "" || r.print != h.seen:
		if h.seen != r.begun.seen {
			return unknown // another read saw another one meanwhile: either may be the newer
		}
		h.seen, h.readers, h.done = r.print, nil, false
	case h.done && r.begun.done:
		h.readers, h.done = nil, false // the server has not forgotten it, or has the same again
	}
	return h
}

// ended is the handover after a read came to its end, whose sight it has.
func (h handover) ended(now time.Time, r *Read, delivered bool) handover {
	if !h.counts(r) {
		return h
	}
	h.reads = slices.DeleteFunc(slices.Clone(h.reads), func(u underway) bool { return u.token == r.token })
	if delivered && r.seen == SeenPassword && r.print == h.seen {
		h.readers = slices.DeleteFunc(slices.Clone(h.readers), func(known reader) bool { return known.who == r.who })
		h.readers = append(h.readers, reader{r.who, stamp(now.Add(acknowledgeTerm))})
		h.readers = h.readers[max(0, len(h.readers)-maxReaders):]
	}
	return h
}

// stamp is a time as records have it: without the monotonic clock, which no
// other process has.
func stamp(at time.Time) time.Time { return at.UTC().Round(0) }

// handing is the record with another handover.
func (r Record) handing(now time.Time, h handover) Record {
	if r.at.IsZero() {
		r.state = stateFree
		r = r.lasting(now, 0)
	}
	r.handover = h
	return r
}
