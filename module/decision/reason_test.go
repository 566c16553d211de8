// SPDX-License-Identifier: Apache-2.0

package decision

import (
	"errors"
	"net/http"
	"testing"
)

// The table of statuses is what clients and operators rely on.
func TestReasonStatuses(t *testing.T) {
	want := map[int][]Reason{
		http.StatusBadRequest:            {RequestAmbiguous, HeaderRefused, HostRefused, BodyUnexpected, BodyIncomplete, BodyUnreadable, PasswordEmpty, PasswordNotEncrypted},
		http.StatusUnauthorized:          {IdentityMissing, IdentityInvalid, SessionMissing, SessionInvalid},
		0:                                {PolicyDeny, PolicyUndefined, PolicyMalformed, TargetUnknown},
		http.StatusMethodNotAllowed:      {MethodNotAllowed},
		http.StatusRequestTimeout:        {BodyTimeout},
		http.StatusRequestEntityTooLarge: {BodyTooLarge},
		http.StatusTooManyRequests:       {RateLimited},
		http.StatusConflict:              {PasswordAlreadySet, PasswordWritePending},
		http.StatusBadGateway:            {ResponseIncomplete, ResponseTooLarge, ResponseUnreadable, UpstreamRedirect, UpstreamUnreachable, PasswordUnverified, PasswordMismatch},
		http.StatusGatewayTimeout:        {UpstreamTimeout},
		http.StatusServiceUnavailable:    {PolicyError, PolicyTimeout, PolicyCancelled, PolicyNotReady, IdentityUnavailable, LatchUnavailable, Overloaded, LogFull},
	}
	count := 1 // policy_allow
	for status, reasons := range want {
		count += len(reasons)
		for _, reason := range reasons {
			if got := reason.Status(); got != status || !reason.Valid() {
				t.Errorf("%s: %d, want %d", reason, got, status)
			}
		}
	}
	if all := Reasons(); len(all) != count {
		t.Errorf("%d reasons, %d in the table", len(all), count)
	}
	if status := Reason("made_up").Status(); status != http.StatusServiceUnavailable || Reason("made_up").Valid() || !PolicyAllow.Valid() {
		t.Errorf("a word outside the vocabulary has status %d", status)
	}
}

// Only what the policy or the session rules refuse is forwarded in audit mode.
func TestAuditForwardsPolicyAndSessionOnly(t *testing.T) {
	forwarded := map[Reason]bool{
		PolicyDeny: true, PolicyUndefined: true, PolicyError: true, PolicyTimeout: true, PolicyCancelled: true,
		PolicyMalformed: true, PolicyNotReady: true, SessionMissing: true, SessionInvalid: true,
	}
	for _, reason := range Reasons() {
		if reason.OfPolicy() != forwarded[reason] {
			t.Errorf("%s: %t, want %t", reason, reason.OfPolicy(), forwarded[reason])
		}
	}
}

func TestRefusal(t *testing.T) {
	cause := errors.New("cause")
	refusal := RefuseWith(BodyTooLarge, "over_limit", cause)
	if got := refusal.Error(); got != "body_too_large (over_limit): cause" {
		t.Error(got)
	}
	if !errors.Is(refusal, cause) {
		t.Error("the cause is lost")
	}
	if got := Refuse(PolicyDeny, "").Error(); got != "policy_deny" {
		t.Error(got)
	}
}
