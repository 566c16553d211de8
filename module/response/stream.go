// SPDX-License-Identifier: Apache-2.0

package response

import (
	"io"

	"github.com/metaguard/metaguard/module/decision"
)

// stream is how a Writer passes on what is too long to hold.
type stream struct {
	begin  func(a *Answer, length int64) (io.Writer, *decision.Refusal)
	client io.Writer // not nil once it has begun
	passed int64     // bytes that the client was given
}

// Stream makes the Writer pass on an answer that is over the limit, instead of
// refusing it. Up to the limit nothing passes; with the first byte beyond it
// begin is called, once, with status and header and the declared length, -1 for
// none. It sends the header and gives what takes the body, or refuses. A body
// that breaks off after that must end in a broken connection: the client has a
// part of it.
func (w *Writer) Stream(begin func(a *Answer, length int64) (io.Writer, *decision.Refusal)) {
	w.stream.begin = begin
}

// Streaming tells whether a part of the answer has been passed on. A nil Writer
// has passed on nothing.
func (w *Writer) Streaming() bool { return w != nil && w.stream.client != nil }

// startStream passes on what was held back so far, and gives its memory back.
func (w *Writer) startStream() error {
	client, refusal := w.stream.begin(&w.answer, w.declared)
	if refusal != nil {
		w.refusal = refusal
		w.buf.free()
		return refusal
	}
	w.stream.client = client
	_, err := w.pass(w.buf.data)
	w.buf.free()
	return err
}

// pass gives the client a part of the body.
func (w *Writer) pass(p []byte) (int, error) {
	n, err := w.stream.client.Write(p)
	w.stream.passed += int64(n)
	if err != nil {
		w.refuse(decision.ResponseIncomplete, "client_write")
		return n, err
	}
	return n, nil
}

// passFrom gives the client the rest of r.
func (w *Writer) passFrom(r io.Reader) (int64, error) {
	n, err := io.Copy(struct{ io.Writer }{w}, r) // without ReadFrom, which this is a part of
	if err != nil && w.refusal == nil {
		return n, w.lost(err)
	}
	return n, err
}
