// SPDX-License-Identifier: Apache-2.0

package module

import (
	"net/http"
	"slices"
	"time"

	"github.com/metaguard/metaguard/module/decision"
	"github.com/metaguard/metaguard/module/dialect"
	"github.com/metaguard/metaguard/module/password"
	"github.com/metaguard/metaguard/module/response"
)

// transaction is a request's part in reading a password that the server makes,
// and forgets when it is told that its reader has it.
type transaction struct {
	read            *password.Read
	acknowledgement *password.Acknowledgement
	accepted        bool // the server said that it has forgotten the password
	done            bool // the password was acknowledged before: nothing is sent
}

// begin notes the read, or takes the right to acknowledge one, before anything
// is sent.
func (x *exchange) beginTransaction() (refusal *decision.Refusal) {
	t, instance := &x.transaction, x.target.InstanceID
	switch x.match.Transaction {
	case dialect.TransactionRead:
		t.read, refusal = x.keeper.BeginRead(x.r.Context(), instance, x.caller.ID)
	case dialect.TransactionAcknowledge:
		t.acknowledgement, t.done, refusal = x.keeper.Acknowledge(x.r.Context(), instance, x.caller.ID)
	case dialect.NoTransaction:
	}
	return refusal
}

// checkIssued lets an answer to the read of a password pass that the server has
// made: a word that says that there is none, or one line of printable text. What
// passes is in the latch before: a client with its answer may read again at once.
func (x *exchange) checkIssued() *decision.Refusal {
	read, body := x.transaction.read, x.reply.Body
	if len(body) > x.keeper.MaxSize() {
		read.Saw(password.SeenUnfit, nil)
		return decision.Refuse(decision.ResponseTooLarge, "password_over_max_size")
	}
	line, ok := password.OneLine(body)
	switch {
	case !ok:
		read.Saw(password.SeenUnfit, nil)
		return decision.Refuse(decision.ResponseUnreadable, "password_not_one_line")
	case len(line) == 0 || slices.Contains(x.h.traits.Nothing, string(line)):
		read.Saw(password.SeenNone, nil)
	case slices.Contains(x.h.traits.Complaints, string(line)):
		read.Saw(password.SeenNothing, nil)
	default:
		read.Saw(password.SeenPassword, line)
	}
	return read.Record()
}

// checkAcknowledged lets only the server's words pass as the answer to an
// acknowledgement. An answer that says nothing leaves the reader to try again.
func (x *exchange) checkAcknowledged() *decision.Refusal {
	line, ok := password.OneLine(x.reply.Body)
	switch {
	case ok && slices.Contains(x.h.traits.Nothing, string(line)):
		x.transaction.accepted = true
	case ok && (len(line) == 0 || slices.Contains(x.h.traits.Complaints, string(line))):
	default:
		return decision.Refuse(decision.ResponseUnreadable, "acknowledgement_not_understood")
	}
	return nil
}

// settleAcknowledgement tells the latch what the server said. That the latch
// cannot be told changes nothing of it: the client, which has its password, gets
// the answer, and may at worst acknowledge once more.
func (x *exchange) settleAcknowledgement() {
	t := &x.transaction
	if t.acknowledgement == nil {
		return
	}
	outcome := password.Unknown
	switch {
	case x.unsent:
		outcome = password.Unsent
	case t.accepted:
		outcome = password.Accepted
	}
	x.note(t.acknowledgement.Settle(outcome))
}

// settleRead tells the latch whether the client has got the password: all of it
// was handed to a connection that was not closed by then.
func (x *exchange) settleRead() {
	if x.transaction.read == nil {
		return
	}
	delivered := false
	if x.outcome == outcomeForwarded && x.r.Context().Err() == nil {
		// Asked before the flush: after it a client with its answer may well leave.
		delivered = http.NewResponseController(x.w).Flush() == nil
	}
	x.note(x.transaction.read.Settle(delivered))
}

// note puts a failure in the log that does not change the answer.
func (x *exchange) note(failure *decision.Refusal) {
	if failure != nil && x.err == nil {
		x.code, x.err = failure.Code, failure
	}
}

// answerAcknowledged says what the server would: that the password was
// acknowledged, as the same reader or another one has done.
func (x *exchange) answerAcknowledged() *decision.Refusal {
	x.code = "acknowledged_before"
	return x.answerEmpty()
}

// mustEnd is until when a request must be at its end that goes on when its client
// hangs up: one whose outcome must be known.
func (x *exchange) mustEnd() (deadline time.Time, detached bool) {
	switch {
	case x.reservation != nil:
		return x.reservation.Deadline(), true
	case x.transaction.acknowledgement != nil:
		return x.transaction.acknowledgement.Deadline(), true
	}
	return time.Time{}, false
}

// checkPasswordAnswer holds a successful answer to a password request against
// what is known, and gives it its header.
func (x *exchange) checkPasswordAnswer() (refusal *decision.Refusal) {
	switch {
	case x.passwordRead() && x.h.traits.Issues:
		refusal = x.checkIssued()
	case x.transaction.acknowledgement != nil:
		refusal = x.checkAcknowledged()
	case x.passwordRead():
		refusal = x.checkPassword()
	case x.passwordWrite():
		// A server that echoes what it had would tell it to who may only write.
		response.Replace(x.reply, nil)
	default:
		return nil
	}
	if refusal == nil {
		response.PasswordHeaders(x.reply.Header)
	}
	return refusal
}
