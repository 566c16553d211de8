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
	if refusal := response.Normalize(reply, x.h.responseRules); refusal != nil {
		return nil, refusal
	}
	switch {
	case reply.Status/100 != 2: // an error page is replaced, and this one is no page
		return nil, decision.Refuse(decision.ResponseTooLarge, "error_over_limit")
	case length >= 0:
		reply.Header["Content-Length"] = []string{strconv.FormatInt(length, 10)}
	case x.r.ProtoMajor == 1 && x.r.ProtoMinor == 0:
		// Its end would be that of the connection, and so would a cut.
		return nil, decision.Refuse(decision.ResponseTooLarge, "stream_without_length")
	default:
		delete(reply.Header, "Content-Length")
	}
	x.timer.Stop() // from here on only a pause is too long
	x.outcome, x.status = outcomeStreamed, reply.Status
	x.setVariables() // before the header, which may show them
	header := x.w.Header()
	for name, values := range reply.Header {
		header[name] = values
	}
	client := clientStream{x.w, http.NewResponseController(x.w)}
	_ = client.control.SetWriteDeadline(time.Now().Add(writeTimeout)) // not every connection has one
	x.w.WriteHeader(reply.Status)
	return client, nil // net/http sends no body to a HEAD
}

// endStream ends an answer that was passed on whole.
func (x *exchange) endStream() {
	x.outcome = outcomeStreamed
	_ = http.NewResponseController(x.w).SetWriteDeadline(time.Time{}) // the connection may serve others
}

// clientStream gives the client the time of one answer for every part.
type clientStream struct {
	io.Writer
	control *http.ResponseController
}

// Write sends a part.
func (s clientStream) Write(p []byte) (int, error) {
	_ = s.control.SetWriteDeadline(time.Now().Add(writeTimeout)) // not every connection has one
	return s.Writer.Write(p)
}
