// SPDX-License-Identifier: Apache-2.0

package response

import (
	"errors"
	"io"
	"maps"
	"net/http"
	"strconv"

	"github.com/metaguard/metaguard/module/decision"
)

// maxPresized is the largest declared length that gets its memory before the
// first byte is there. A server's word is no reason to take more.
const maxPresized = 64 << 10

// errReleased ends a writer that outlived its request.
var errReleased = errors.New("the answer was already released")

// Writer holds an upstream's answer back until it is whole. It is the
// http.ResponseWriter that reverse_proxy writes into, and never passes a byte
// on by itself:
//
//   - ReadFrom is its own, so that io.Copy cannot go past the limit.
//   - FlushError does nothing. Unwrap and Hijack are missing, so that no
//     http.ResponseController reaches the client's connection.
//   - Informational answers are dropped. 101 is none: it is the answer, and
//     Normalize refuses it.
//   - The header is copied when the status is written, so that trailers, which
//     come after it, cannot add to it.
//
// From the first byte that is over the limit or the budget, every write fails,
// and the upstream is not read on, unless Stream was called. A Writer belongs to
// one goroutine, but for FlushError, which reverse_proxy also calls from a
// timer's.
type Writer struct {
	limit    int64
	buf      buffer
	header   http.Header // what the handler writes to
	answer   Answer      // Status is 0 until it is written
	declared int64       // Content-Length, -1 for none
	stream   stream
	refusal  *decision.Refusal
	released bool
}

// NewWriter makes a writer that takes a body of up to limit bytes and takes
// its memory out of budget. It must be released.
func NewWriter(limit int64, budget *Budget) *Writer {
	return &Writer{limit: limit, buf: buffer{budget: budget}, header: make(http.Header, 8), declared: -1}
}

// Presize takes memory for n bytes now, and tells whether there was any, for an
// answer that must not be lost for the lack of it.
func (w *Writer) Presize(n int64) bool { return w.buf.grow(min(n, w.limit)) }

// Header is the map that the status line takes the answer's header from. What
// is added after WriteHeader is lost.
func (w *Writer) Header() http.Header { return w.header }

// WriteHeader takes the answer's status and header. Only the first final
// status counts.
func (w *Writer) WriteHeader(status int) {
	if w.answer.Status != 0 || w.refusal != nil || w.released {
		return
	}
	if status >= 100 && status <= 199 && status != http.StatusSwitchingProtocols {
		return
	}
	if status < 100 || status > 999 {
		w.refuse(decision.ResponseUnreadable, "status_invalid")
		return
	}
	w.answer.Status = status
	w.answer.Header = maps.Clone(w.header) // whoever adds a value makes another list of them
	if status != http.StatusNotModified {  // which may declare what it does not send
		w.declare(w.answer.Header["Content-Length"])
	}
}

// declare reads the Content-Length.
func (w *Writer) declare(values []string) {
	for i, value := range values {
		n, err := strconv.ParseUint(value, 10, 63)
		if err != nil || i > 0 && int64(n) != w.declared {
			w.refuse(decision.ResponseUnreadable, "content_length_invalid")
			return
		}
		w.declared = int64(n)
	}
	w.buf.announced = min(w.declared, w.limit)
	switch {
	case w.declared > w.limit && w.stream.begin == nil:
		w.refuse(decision.ResponseTooLarge, "declared_over_limit")
	case w.declared > 0 && !w.buf.grow(beginning(min(w.declared, w.limit))):
		w.refuse(decision.Overloaded, "budget_full")
	}
}

// beginning is the memory that an answer of this length gets before its first byte.
func beginning(announced int64) int64 {
	if announced > maxPresized {
		return 1 << minClass // makeRoom gives it the rest, once something is there
	}
	return announced
}

// Write takes a part of the body. Its errors last: after one the answer is
// lost, and the upstream need not be read on.
func (w *Writer) Write(p []byte) (int, error) {
	if err := w.ready(); err != nil {
		return 0, err
	}
	if w.Streaming() {
		return w.pass(p)
	}
	size := int64(len(w.buf.data)) + int64(len(p))
	if size > w.limit {
		if w.stream.begin == nil {
			return 0, w.lost(errOverLimit)
		}
		if err := w.startStream(); err != nil {
			return 0, err
		}
		return w.pass(p)
	}
	if !w.buf.makeRoom(size) {
		return 0, w.lost(errBudgetFull)
	}
	w.buf.data = append(w.buf.data, p...)
	return len(p), nil
}

// WriteString is Write.
func (w *Writer) WriteString(s string) (int, error) { return w.Write([]byte(s)) }

// ReadFrom takes the body from r to its end, under the rules of Write. When r
// fails, the answer is cut.
func (w *Writer) ReadFrom(r io.Reader) (int64, error) {
	if err := w.ready(); err != nil {
		return 0, err
	}
	if w.Streaming() {
		return w.passFrom(r)
	}
	n, err := w.buf.readFrom(r, w.limit)
	if errors.Is(err, errOverLimit) && w.stream.begin != nil {
		over := w.buf.over
		if err = w.startStream(); err == nil {
			_, err = w.pass(over[:])
		}
		if err != nil {
			return n, err
		}
		more, err := w.passFrom(r)
		return n + 1 + more, err
	}
	if err != nil {
		return n, w.lost(err)
	}
	return n, nil
}

// FlushError does nothing: an answer is sent whole. It touches no field, since
// it is called from another goroutine too.
func (w *Writer) FlushError() error { return nil }

// Abort marks the answer as cut. Whoever recovers reverse_proxy's panic with
// http.ErrAbortHandler, by which it says that a body broke off, calls it, and
// Answer refuses from then on. An earlier reason stays.
func (w *Writer) Abort() { w.refuse(decision.ResponseIncomplete, "body_cut") }

// Answer gives the whole answer or says why there is none:
//
//	response_incomplete   no_answer, body_length (not what was declared), body_cut, released
//	response_too_large    over_limit, declared_over_limit
//	response_unreadable   status_invalid, content_length_invalid
//	overloaded            budget_full
func (w *Writer) Answer() (*Answer, *decision.Refusal) {
	switch {
	case w.released:
		return nil, decision.Refuse(decision.ResponseIncomplete, "released")
	case w.refusal != nil:
		return nil, w.refusal
	case w.answer.Status == 0:
		return nil, decision.Refuse(decision.ResponseIncomplete, "no_answer")
	case w.declared >= 0 && w.declared != int64(len(w.buf.data))+w.stream.passed:
		w.refuse(decision.ResponseIncomplete, "body_length")
		return nil, w.refusal
	}
	w.answer.Body = w.buf.data
	return &w.answer, nil
}

// Release wipes the body and gives its memory back. The Answer is empty from
// then on. It may be called twice, and on a nil Writer.
func (w *Writer) Release() {
	if w == nil {
		return
	}
	w.released = true
	w.buf.free()
	w.answer.Body = nil
}

// ready writes the status that a handler left out, and says why a body cannot
// be taken any more.
func (w *Writer) ready() error {
	if w.released {
		return errReleased
	}
	w.WriteHeader(http.StatusOK)
	if w.refusal != nil {
		return w.refusal
	}
	return nil
}

// lost ends the answer for a reason that readFrom or Write met.
func (w *Writer) lost(err error) error {
	switch {
	case errors.Is(err, errOverLimit):
		w.refuse(decision.ResponseTooLarge, "over_limit")
	case errors.Is(err, errBudgetFull):
		w.refuse(decision.Overloaded, "budget_full")
	default:
		w.refuse(decision.ResponseIncomplete, "body_cut")
		return err
	}
	return w.refusal
}

// refuse keeps the first reason, and gives the memory back at once.
func (w *Writer) refuse(reason decision.Reason, code string) {
	if w.refusal == nil {
		w.refusal = decision.Refuse(reason, code)
	}
	w.buf.free()
}

// Interface guards.
var (
	_ http.ResponseWriter = (*Writer)(nil)
	_ io.ReaderFrom       = (*Writer)(nil)
	_ io.StringWriter     = (*Writer)(nil)
)
