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
	x.reply = &response.Answer{Status: http.StatusOK, Header: make(http.Header, 4)}
	response.PasswordHeaders(x.reply.Header)
	return x.send(outcomeEmpty)
}

func (x *exchange) send(as outcome) *decision.Refusal {
	x.outcome = as
	x.status = x.reply.Status
	x.setVariables() // before the header, which may show them
	control := http.NewResponseController(x.w)
	_ = control.SetWriteDeadline(time.Now().Add(writeTimeout)) // not every connection has one
	if err := response.Write(x.w, x.reply, x.request.Head); err != nil {
		x.outcome = outcomeAborted
		x.err = fmt.Errorf("writing the answer: %w", err)
		return nil
	}
	_ = control.SetWriteDeadline(time.Time{}) // the connection may serve others
	return nil
}
