// SPDX-License-Identifier: Apache-2.0

package module

import (
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/metaguard/metaguard/module/decision"
)

// decisionHeader carries the decision id on every answer.
const decisionHeader = "X-Metaguard-Decision"

// retryAfter is how many seconds a client should wait before it asks again
// after a 503. Clients that boot come back.
const retryAfter = "5"

// refuse ends the request with a refusal, shaped for who is in front.
func (x *exchange) refuse(refusal *decision.Refusal) {
	if !x.writer.Streaming() {
		refusal = x.countRefusal(refusal)
	}
	x.reason, x.code, x.err = refusal.Reason, refusal.Code, refusal.Err
	if x.writer.Streaming() {
		x.cut = true // nothing can be said any more; publish breaks the connection off
		return
	}
	x.status = x.refusalStatus(refusal)
	header := x.w.Header()
	switch x.status {
	case http.StatusMethodNotAllowed:
		allow := refusal.Allow
		if len(allow) == 0 { // refused before the resource was known
			allow = []string{http.MethodGet, http.MethodHead}
		}
		header.Set("Allow", strings.Join(allow, ", "))
	case http.StatusServiceUnavailable:
		header.Set("Retry-After", retryAfter)
	}
	if refusal.RetryAfter > 0 {
		header.Set("Retry-After", strconv.Itoa(int(math.Ceil(refusal.RetryAfter.Seconds()))))
	}
	if x.r.ProtoMajor == 1 && x.r.ContentLength != 0 && !x.bodyComplete {
		// Go's server would read the rest of the body before it answers, as
		// slowly as the client likes.
		header.Set("Connection", "close")
		_ = http.NewResponseController(x.w).SetReadDeadline(time.Now().Add(time.Duration(x.h.BodyTimeout)))
	}
	body, contentType := refusalBody(x.r, x.status, refusal.Reason, x.id)
	header.Set("Content-Type", contentType)
	header.Set("Cache-Control", "no-store")
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Content-Length", strconv.Itoa(len(body)))
	x.setVariables() // before the header, which may show them
	x.limitWriting()
	x.w.WriteHeader(x.status)
	if x.r.Method != http.MethodHead {
		_, _ = x.w.Write([]byte(body)) // a client that left is no error of ours
	}
}

// refusalStatus is the status of a refusal: its own, the reason's, the
// decision's or the operator's deny_status, and then what a Neutron agent
// passes on.
func (x *exchange) refusalStatus(refusal *decision.Refusal) int {
	status := refusal.Reason.Status()
	if refusal.Status != 0 {
		status = refusal.Status
	}
	if status == 0 {
		status = x.h.DenyStatus
		if own := x.result.Decision.Status; own >= 400 && refusal.Reason == decision.PolicyDeny {
			status = own
		}
	}
	if x.agent {
		status = agentStatus(status, x.r.Method)
	}
	return status
}

// agentStatus shapes a status for Neutron's metadata agent, which turns every
// status but 200, 400, 403, 404, 409 and 500 into 500 and sends a request
// again after a 404 (neutron/agent/metadata/agent.py, _proxy_request).
func agentStatus(status int, method string) int {
	switch status {
	case http.StatusUnauthorized:
		return http.StatusForbidden
	case http.StatusMethodNotAllowed, http.StatusRequestTimeout, http.StatusRequestEntityTooLarge:
		return http.StatusBadRequest
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return http.StatusInternalServerError
	case http.StatusNotFound:
		if method != http.MethodGet && method != http.MethodHead {
			return http.StatusForbidden // a 404 would be sent twice
		}
	}
	return status
}

// refusalBody is one line: status text, reason and decision id. It never names
// the policy or its codes.
func refusalBody(r *http.Request, status int, reason decision.Reason, id string) (body, contentType string) {
	text := http.StatusText(status)
	if strings.Contains(r.Header.Get("Accept"), "application/json") {
		return fmt.Sprintf(`{"status":%d,"error":%q,"reason":%q,"decision":%q}`+"\n", status, text, reason, id), "application/json"
	}
	return fmt.Sprintf("%s: %s (decision %s)\n", text, reason, id), "text/plain; charset=utf-8"
}
