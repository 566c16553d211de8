// SPDX-License-Identifier: Apache-2.0

package module

import (
	"fmt"
	"net/http"
	"time"

	"github.com/metaguard/metaguard/module/decision"
	"github.com/metaguard/metaguard/module/response"
)

// writeTimeout is how long a client may take to accept an answer. Until then
// the answer's memory counts against max_total, which all clients share.
const writeTimeout = 30 * time.Second

// answer sends the normalised answer.
func (x *exchange) answer() *decision.Refusal {
	return x.send(outcomeForwarded)
}

// answerEmpty answers a password read as if no password were set, without
// asking the legacy server.
func (x *exchange) answerEmpty() *decision.Refusal {
	x.reply = &response.Answer{Status: http.StatusOK, Header: make(http.Header, 4), Body: []byte(x.match.Empty)}
	response.PasswordHeaders(x.reply.Header)
	return x.send(outcomeEmpty)
}

func (x *exchange) send(as outcome) *decision.Refusal {
	x.outcome = as
	x.status = x.reply.Status
	x.setVariables() // before the header, which may show them
	x.limitWriting()
	if err := response.Write(x.w, x.reply, x.request.Head); err != nil {
		x.outcome = outcomeAborted
		x.err = fmt.Errorf("writing the answer: %w", err)
	}
	return nil
}

// limitWriting gives the client the time of one answer.
func (x *exchange) limitWriting() {
	_ = http.NewResponseController(x.w).SetWriteDeadline(time.Now().Add(writeTimeout)) // not every connection has one
}

// endWriting sends what is still held back while the client's time runs, and
// then leaves the connection to other requests.
func (x *exchange) endWriting() {
	control := http.NewResponseController(x.w)
	_ = control.Flush() // a client that left is no error of ours
	_ = control.SetWriteDeadline(time.Time{})
}
