// SPDX-License-Identifier: Apache-2.0

package password

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/metaguard/metaguard/module/decision"
)

// Reservation is the right to write one password once.
type Reservation struct {
	keeper   *Keeper
	ctx      context.Context //nolint:containedctx // the request's values without its end
	key      Key
	deadline time.Time
	record   Record
	version  Version
	settled  atomic.Bool
}

// Deadline is when the upstream write must be over: write_timeout after the
// reservation. A write that is still sent after it could meet another one.
func (r *Reservation) Deadline() time.Time { return r.deadline }

// Settle tells what became of the write. Only the first call counts; a second
// one changes nothing and is refused with the code settled_twice. A
// reservation that is never settled stays pending until its time is up.
//
// A refusal is latch_unavailable: the record is then still pending, which
// refuses more than it should and nothing less. Its code is reservation_lost
// where the time was up and another writer came, or the record was reset.
func (r *Reservation) Settle(outcome Outcome) *decision.Refusal {
	if r.settled.Swap(true) {
		return decision.Refuse(decision.LatchUnavailable, "settled_twice")
	}
	ctx, cancel := context.WithTimeout(r.ctx, latchTimeout)
	defer cancel()
	record, version := r.record, r.version
	for range maxAttempts {
		next := record.settled(r.keeper.now(), r.keeper.terms, outcome)
		_, err := r.keeper.latch.Swap(ctx, r.key, version, next)
		if err == nil {
			return nil
		}
		if !errors.Is(err, ErrConflict) {
			return unavailable(err)
		}
		// Somebody dated the record anew, or it is no longer ours.
		record, version, err = r.keeper.latch.Load(ctx, r.key)
		if err != nil {
			return unavailable(err)
		}
		if record.token != r.record.token {
			return decision.Refuse(decision.LatchUnavailable, "reservation_lost")
		}
	}
	return decision.Refuse(decision.LatchUnavailable, "latch_contended")
}
