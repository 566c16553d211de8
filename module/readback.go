// SPDX-License-Identifier: Apache-2.0

package module

import (
	"github.com/metaguard/metaguard/module/decision"
	"github.com/metaguard/metaguard/module/password"
	"github.com/metaguard/metaguard/module/response"
)

// checkPassword lets a password answer pass only if it is what was written, or
// what `unverified` allows. A server that shows the chunks that it stores gets
// them put together, and it is the whole that is checked.
func (x *exchange) checkPassword() *decision.Refusal {
	instance := x.target.InstanceID
	refusal := x.keeper.CheckRead(x.r.Context(), instance, x.reply.Body)
	if refusal == nil || refusal.Reason == decision.LatchUnavailable {
		return refusal
	}
	document, broken := password.ReadDocument(x.reply.Body)
	switch {
	case broken != nil:
		return broken
	case document == nil:
		return refusal
	}
	if refusal := x.keeper.CheckRead(x.r.Context(), instance, document.Password); refusal != nil {
		return refusal
	}
	x.removed.PasswordKeys = document.Dropped
	response.Replace(x.reply, document.Body)
	return nil
}
