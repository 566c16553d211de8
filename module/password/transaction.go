// SPDX-License-Identifier: Apache-2.0

package password

import (
	"context"
	"errors"
	"net/http"
	"reflect"
	"sync/atomic"
	"time"

	"github.com/metaguard/metaguard/module/decision"
)

const (
	// patience is how long an acknowledgement waits for a read that is under way.
	// Its own reader's is recorded a moment after the last byte was sent.
	patience = 2 * time.Second
	// glance is how often it looks.
	glance = 20 * time.Millisecond
)

// Read is a read of a password that the server makes. Its end must be told.
type Read struct {
	keeper *Keeper
	ctx    context.Context //nolint:containedctx // the request's values without its end
	key    Key
	who    string
	token  string
	begun  handover

	seen     Seen
	print    fingerprint
	recorded bool // what it saw is in the record
	settled  atomic.Bool
}

// BeginRead notes, before the server is asked, that a caller reads an instance's
// password: until the end is told nobody acknowledges. Refusals: target_unknown,
// latch_unavailable, and password_write_pending if there are too many.
func (k *Keeper) BeginRead(ctx context.Context, instanceID, callerID string) (*Read, *decision.Refusal) {
	key, err := NewKey(instanceID)
	if err != nil {
		return nil, decision.RefuseWith(decision.TargetUnknown, "instance_id", err)
	}
	read := &Read{keeper: k, ctx: context.WithoutCancel(ctx), key: key, who: nameReader(callerID), token: newToken()}
	full := false
	refusal := k.change(read.ctx, key, func(h handover, now time.Time) (handover, bool) {
		read.begun = h
		full = len(h.reads) >= maxReads
		return h.reading(now, read.token), !full
	})
	if full {
		return nil, decision.Refuse(decision.PasswordWritePending, "reads_pending")
	}
	return read, refusal
}

// Saw tells what the server's answer was. The password counts only with
// SeenPassword. Of a read that nobody acknowledges, which is nil, nothing is noted.
func (r *Read) Saw(seen Seen, password []byte) {
	if r == nil {
		return
	}
	r.seen = seen
	if seen == SeenPassword {
		r.print = r.keeper.prints.sign(r.key, password)
	}
}

// Record records what was seen. It must come before the answer is passed on:
// whoever has that may read again before this read's end is told, and what the
// next read finds is newer. A refusal is latch_unavailable: the answer must not
// pass.
func (r *Read) Record() *decision.Refusal {
	if r == nil || r.seen == SeenNothing {
		return nil
	}
	refusal := r.change(func(h handover, _ time.Time) handover { return h.saw(r) })
	r.recorded = refusal == nil
	return refusal
}

// Settle ends the read. delivered tells that the whole answer was sent to a
// client who had not hung up. Only the first call counts. A refusal is
// latch_unavailable: the read cannot be acknowledged then.
func (r *Read) Settle(delivered bool) *decision.Refusal {
	if r.settled.Swap(true) {
		return decision.Refuse(decision.LatchUnavailable, "settled_twice")
	}
	return r.change(func(h handover, now time.Time) handover {
		if !r.recorded {
			h = h.saw(r)
		}
		return h.ended(now, r, delivered)
	})
}

// change edits the handover, if the read counts still: its time is not up, the
// record was not reset, and nothing was seen that makes it worthless.
func (r *Read) change(edit func(handover, time.Time) handover) *decision.Refusal {
	return r.keeper.change(r.ctx, r.key, func(h handover, now time.Time) (handover, bool) {
		if !h.counts(r) {
			return h, false
		}
		next := edit(h, now)
		return next, !reflect.DeepEqual(next, h)
	})
}

// Acknowledgement is the right to tell the server once that it may forget a
// password.
type Acknowledgement struct {
	keeper   *Keeper
	ctx      context.Context //nolint:containedctx // the request's values without its end
	key      Key
	token    string
	seen     fingerprint // what the server may forget
	deadline time.Time
	settled  atomic.Bool
}

// Acknowledge takes the right to acknowledge an instance's password. Only a
// caller who has got the newest password that was seen, within acknowledgeTerm,
// gets it; anybody else is refused with password_unverified
// (acknowledge_without_read, status 409). It waits a moment for reads and
// acknowledgements that are under way. If that password was acknowledged
// already, done is true and nothing is to be sent: it could only meet a newer
// one.
func (k *Keeper) Acknowledge(ctx context.Context, instanceID, callerID string) (_ *Acknowledgement, done bool, _ *decision.Refusal) {
	key, err := NewKey(instanceID)
	if err != nil {
		return nil, false, decision.RefuseWith(decision.TargetUnknown, "instance_id", err)
	}
	who, a := nameReader(callerID), &Acknowledgement{keeper: k, ctx: context.WithoutCancel(ctx), key: key, token: newToken()}
	last := time.Now().Add(k.patience)
	for {
		var found handover
		refusal := k.change(ctx, key, func(h handover, now time.Time) (handover, bool) {
			found = h
			a.seen, a.deadline = h.seen, now.Add(k.terms.timeout)
			h.acknowledging = underway{a.token, stamp(a.deadline)}
			return h, !found.busy() && found.has(who) && !found.done
		})
		switch {
		case refusal != nil:
			return nil, false, refusal
		case found.busy() && time.Now().Before(last):
			select {
			case <-time.After(glance):
			case <-ctx.Done():
				return nil, false, unavailable(ctx.Err())
			}
		case found.busy():
			return nil, false, decision.Refuse(decision.PasswordWritePending, "read_or_acknowledge_pending")
		case !found.has(who):
			refusal := decision.Refuse(decision.PasswordUnverified, "acknowledge_without_read")
			refusal.Status = http.StatusConflict
			return nil, false, refusal
		case found.done:
			return nil, true, nil
		default:
			return a, false, nil
		}
	}
}

// Deadline is when the server must have been told.
func (a *Acknowledgement) Deadline() time.Time { return a.deadline }

// Settle tells what the server said. After anything but Accepted the same
// readers may try again. A refusal is latch_unavailable, and changes nothing of
// what the server did.
func (a *Acknowledgement) Settle(outcome Outcome) *decision.Refusal {
	if a.settled.Swap(true) {
		return decision.Refuse(decision.LatchUnavailable, "settled_twice")
	}
	return a.keeper.change(a.ctx, a.key, func(h handover, _ time.Time) (handover, bool) {
		if h.acknowledging.token != a.token { // its time was up, or the record was reset
			return h, false
		}
		h.acknowledging = underway{}
		// A newer one that was read meanwhile may be there still.
		h.done = outcome == Accepted && h.seen == a.seen
		return h, true
	})
}

// change replaces the handover of an instance, if edit says so. It starts again
// where another was faster.
func (k *Keeper) change(ctx context.Context, key Key, edit func(handover, time.Time) (handover, bool)) *decision.Refusal {
	ctx, cancel := context.WithTimeout(ctx, latchTimeout)
	defer cancel()
	for range maxAttempts {
		record, version, err := k.latch.Load(ctx, key)
		if err != nil {
			return unavailable(err)
		}
		now := k.now()
		next, changed := edit(record.handover.at(now, k.terms.timeout), now)
		if !changed {
			return nil
		}
		_, err = k.latch.Swap(ctx, key, version, record.handing(now, next))
		switch {
		case err == nil:
			return nil
		case !errors.Is(err, ErrConflict):
			return unavailable(err)
		}
	}
	return decision.Refuse(decision.LatchUnavailable, "latch_contended")
}
