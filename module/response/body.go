// SPDX-License-Identifier: Apache-2.0

package response

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"

	"github.com/metaguard/metaguard/module/decision"
)

// nothing is the release of a body that holds nothing.
func nothing() {}

// ReadBody reads a request's body whole. contentLength is the declared length,
// or -1 where there is none (chunked). The body is nil with a refusal and may
// be empty without one. It is valid until release, which wipes it, is never nil and
// may be called twice.
//
//	body_too_large   declared_over_limit: nothing was read; over_limit
//	body_incomplete  body_cut, body_length (not what was declared), body_stuck
//	body_timeout     body_deadline
//	overloaded       budget_full
//
// A body of exactly limit bytes passes. The bound in time is the deadline that
// the caller has set on the connection.
func ReadBody(r io.Reader, contentLength, limit int64, budget *Budget) ([]byte, func(), *decision.Refusal) {
	if contentLength > limit {
		return nil, nothing, decision.Refuse(decision.BodyTooLarge, "declared_over_limit")
	}
	buf := &buffer{budget: budget}
	if refusal := buf.readAll(r, contentLength, limit); refusal != nil {
		buf.free()
		return nil, nothing, refusal
	}
	return buf.data, buf.free, nil
}

// readAll reads to the end of r.
func (b *buffer) readAll(r io.Reader, declared, limit int64) *decision.Refusal {
	if r == nil {
		r = http.NoBody
	}
	if declared > 0 && !b.grow(declared) {
		return decision.Refuse(decision.Overloaded, "budget_full")
	}
	if _, err := b.readFrom(r, limit); err != nil {
		return readRefusal(err)
	}
	if declared >= 0 && int64(len(b.data)) != declared {
		return decision.Refuse(decision.BodyIncomplete, "body_length")
	}
	return nil
}

// readRefusal says what a failed read means. The cause is left out: that of a
// malformed chunk or trailer quotes the client's bytes.
func readRefusal(err error) *decision.Refusal {
	var netErr net.Error
	var tooLarge *http.MaxBytesError
	switch {
	case errors.Is(err, errBudgetFull):
		return decision.Refuse(decision.Overloaded, "budget_full")
	case errors.Is(err, errOverLimit), errors.As(err, &tooLarge):
		return decision.Refuse(decision.BodyTooLarge, "over_limit")
	case errors.Is(err, io.ErrNoProgress):
		return decision.Refuse(decision.BodyIncomplete, "body_stuck")
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded),
		errors.As(err, &netErr) && netErr.Timeout():
		return decision.Refuse(decision.BodyTimeout, "body_deadline")
	default:
		return decision.Refuse(decision.BodyIncomplete, "body_cut")
	}
}
