// SPDX-License-Identifier: Apache-2.0

package decision

import "net/http"

// Reason is the closed vocabulary of why a request ended as it did. It is the
// log field, the metric label and the line in a refusal's body alike.
type Reason string

// What policies say.
const (
	PolicyAllow     Reason = "policy_allow"
	PolicyDeny      Reason = "policy_deny"
	PolicyUndefined Reason = "policy_undefined"
	PolicyError     Reason = "policy_error"
	PolicyTimeout   Reason = "policy_timeout"
	PolicyCancelled Reason = "policy_cancelled"
	PolicyMalformed Reason = "policy_malformed"
	PolicyNotReady  Reason = "policy_not_ready"
)

// What is wrong with a request or its caller.
const (
	RequestAmbiguous    Reason = "request_ambiguous"
	MethodNotAllowed    Reason = "method_not_allowed"
	HeaderRefused       Reason = "header_refused"
	HostRefused         Reason = "host_refused"
	IdentityMissing     Reason = "identity_missing"
	IdentityInvalid     Reason = "identity_invalid"
	IdentityUnavailable Reason = "identity_unavailable"
	TargetUnknown       Reason = "target_unknown"
	SessionMissing      Reason = "session_missing"
	SessionInvalid      Reason = "session_invalid"
	BodyUnexpected      Reason = "body_unexpected"
	BodyIncomplete      Reason = "body_incomplete"
	BodyTimeout         Reason = "body_timeout"
	BodyTooLarge        Reason = "body_too_large"
	BodyUnreadable      Reason = "body_unreadable"
)

// What the password rules say.
const (
	PasswordEmpty        Reason = "password_empty"
	PasswordAlreadySet   Reason = "password_already_set"
	PasswordNotEncrypted Reason = "password_not_encrypted"
	PasswordWritePending Reason = "password_write_pending"
	PasswordUnverified   Reason = "password_unverified"
	PasswordMismatch     Reason = "password_mismatch"
	LatchUnavailable     Reason = "latch_unavailable"
)

// What limits and the legacy server say.
const (
	RateLimited         Reason = "rate_limited"
	Overloaded          Reason = "overloaded"
	LogFull             Reason = "log_full"
	ResponseIncomplete  Reason = "response_incomplete"
	ResponseTooLarge    Reason = "response_too_large"
	ResponseUnreadable  Reason = "response_unreadable"
	UpstreamRedirect    Reason = "upstream_redirect"
	UpstreamUnreachable Reason = "upstream_unreachable"
	UpstreamTimeout     Reason = "upstream_timeout"
)

// statuses holds the HTTP status of every reason but PolicyAllow. A zero means
// the operator's deny_status, unless the decision brings its own.
var statuses = map[Reason]int{
	RequestAmbiguous:     http.StatusBadRequest,
	HeaderRefused:        http.StatusBadRequest,
	HostRefused:          http.StatusBadRequest,
	BodyUnexpected:       http.StatusBadRequest,
	BodyIncomplete:       http.StatusBadRequest,
	BodyUnreadable:       http.StatusBadRequest,
	PasswordEmpty:        http.StatusBadRequest,
	PasswordNotEncrypted: http.StatusBadRequest,

	IdentityMissing: http.StatusUnauthorized,
	IdentityInvalid: http.StatusUnauthorized,
	SessionMissing:  http.StatusUnauthorized,
	SessionInvalid:  http.StatusUnauthorized,

	PolicyDeny:      0,
	PolicyUndefined: 0,
	PolicyMalformed: 0,
	TargetUnknown:   0,

	MethodNotAllowed: http.StatusMethodNotAllowed,
	BodyTimeout:      http.StatusRequestTimeout,
	BodyTooLarge:     http.StatusRequestEntityTooLarge,
	RateLimited:      http.StatusTooManyRequests,

	PasswordAlreadySet:   http.StatusConflict,
	PasswordWritePending: http.StatusConflict,

	ResponseIncomplete:  http.StatusBadGateway,
	ResponseTooLarge:    http.StatusBadGateway,
	ResponseUnreadable:  http.StatusBadGateway,
	UpstreamRedirect:    http.StatusBadGateway,
	UpstreamUnreachable: http.StatusBadGateway,
	PasswordUnverified:  http.StatusBadGateway,
	PasswordMismatch:    http.StatusBadGateway,
	UpstreamTimeout:     http.StatusGatewayTimeout,

	PolicyError:         http.StatusServiceUnavailable,
	PolicyTimeout:       http.StatusServiceUnavailable,
	PolicyCancelled:     http.StatusServiceUnavailable,
	PolicyNotReady:      http.StatusServiceUnavailable,
	IdentityUnavailable: http.StatusServiceUnavailable,
	LatchUnavailable:    http.StatusServiceUnavailable,
	Overloaded:          http.StatusServiceUnavailable,
	LogFull:             http.StatusServiceUnavailable,
}

// Status is the HTTP status of a refusal for this reason; 0 means the
// operator's deny_status. A word outside the vocabulary is a server error,
// never a success.
func (r Reason) Status() int {
	status, ok := statuses[r]
	if !ok {
		return http.StatusServiceUnavailable
	}
	return status
}

// Valid tells whether r belongs to the vocabulary.
func (r Reason) Valid() bool {
	_, ok := statuses[r]
	return ok || r == PolicyAllow
}

// OfPolicy tells whether r came from the policy or the session rules, which
// are the only refusals that audit mode forwards.
func (r Reason) OfPolicy() bool {
	switch r {
	case PolicyDeny, PolicyUndefined, PolicyError, PolicyTimeout, PolicyCancelled,
		PolicyMalformed, PolicyNotReady, SessionMissing, SessionInvalid:
		return true
	default:
		return false
	}
}

// Reasons lists the whole vocabulary, for documentation and metrics.
func Reasons() []Reason {
	all := make([]Reason, 0, len(statuses)+1)
	all = append(all, PolicyAllow)
	for reason := range statuses {
		all = append(all, reason)
	}
	return all
}
