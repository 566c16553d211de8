// SPDX-License-Identifier: Apache-2.0

package module

import (
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/metaguard/metaguard/module/decision"
	"github.com/metaguard/metaguard/module/dialect"
	"github.com/metaguard/metaguard/module/response"
)

// What becomes of an answer that is longer than max_buffer.
const (
	overflowRefuse = "refuse"
	overflowStream = "stream"
)

// streamTimeout is how long all of a stream may take: one that never ends would
// keep the process from stopping.
const streamTimeout = 10 * time.Minute

// streamable tells whether an answer may be passed on before it is whole: only
// where nothing of it is ever hidden or checked. A JSON document must parse, and
// it and listings lose keys; what is sensitive passes whole or not at all.
func (x *exchange) streamable() bool {
	resource := x.match.Resource
	return x.h.Response.Overflow == overflowStream &&
		resource.Kind != decision.KindUnknown && resource.Action == decision.Read &&
		!resource.Sensitive && x.match.Format == dialect.Text
}

// stream begins to pass on an answer. It sends the header and gives what takes
// the body. What the status and header may not be is refused as ever.
func (x *exchange) stream(reply *response.Answer, length int64) (io.Writer, *decision.Refusal) {
	if refusal := x.checkMark(reply); refusal != nil { // before Normalize takes the mark away
		return nil, refusal
	}
	if refusal := response.Normalize(reply, x.h.responseRules); refusal != nil {
		return nil, refusal
	}
	switch {
	case reply.Status/100 != 2: // an error page is replaced, and this one is no page
		return nil, decision.Refuse(decision.ResponseTooLarge, "error_over_limit")
	case reply.Status == http.StatusNoContent || reply.Status == http.StatusResetContent:
		return nil, decision.Refuse(decision.ResponseUnreadable, "body_not_allowed")
	case x.r.ProtoMajor == 1 && x.r.ProtoMinor == 0:
		return nil, decision.Refuse(decision.ResponseTooLarge, "stream_to_http10") // it could not tell a cut
	case x.request.Head && length >= 0:
		reply.Header["Content-Length"] = []string{strconv.FormatInt(length, 10)}
	default:
		// In chunks, also where the length is known: urllib3 before version 2,
		// which Neutron's agent uses, takes a body that is too short for whole.
		delete(reply.Header, "Content-Length")
	}
	x.timer.Reset(streamTimeout)
	x.outcome, x.status = outcomeStreamed, reply.Status
	x.setVariables() // before the header, which may show them
	header := x.w.Header()
	for name, values := range reply.Header {
		header[name] = values
	}
	x.limitWriting()
	x.w.WriteHeader(reply.Status)
	if x.request.Head {
		_ = http.NewResponseController(x.w).Flush() // a client that left is noticed by its request's context
		return io.Discard, nil
	}
	return clientStream{x}, nil
}

// clientStream sends every part at once, and gives the client the time of one
// answer for it.
type clientStream struct{ *exchange }

// Write sends a part.
func (s clientStream) Write(p []byte) (int, error) {
	s.limitWriting()
	n, err := s.w.Write(p)
	if err == nil {
		err = http.NewResponseController(s.w).Flush()
	}
	return n, err
}
