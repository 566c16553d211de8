// SPDX-License-Identifier: Apache-2.0

package module

import (
	"net/http"
	"slices"
	"testing"

	"github.com/metaguard/metaguard/module/decision"
)

// Neutron's agent passes on only these, and sends a request again after 404.
func TestAgentStatus(t *testing.T) {
	passes := []int{200, 400, 403, 404, 409, 500}
	for _, reason := range decision.Reasons() {
		if reason == decision.PolicyAllow {
			continue
		}
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			for _, denyStatus := range []int{403, 404} {
				status := reason.Status()
				if status == 0 {
					status = denyStatus
				}
				got := agentStatus(status, method)
				if !slices.Contains(passes, got) {
					t.Errorf("%s, %s: %d", reason, method, got)
				}
				if got == http.StatusNotFound && method == http.MethodPost {
					t.Errorf("%s: a refused write would be sent twice", reason)
				}
			}
		}
	}
	for _, test := range []struct{ status, want int }{{401, 403}, {405, 400}, {408, 400}, {413, 400}, {429, 500}, {502, 500}, {503, 500}, {504, 500}, {409, 409}, {400, 400}} {
		if got := agentStatus(test.status, http.MethodPost); got != test.want {
			t.Errorf("%d: %d, want %d", test.status, got, test.want)
		}
	}
}
