// SPDX-License-Identifier: Apache-2.0

package tests

import (
	"strings"
	"testing"

	"github.com/metaguard/metaguard/tests/harness"
)

// A server that answers with the keys that it stores gets them put together as
// one password, which must be the one that was written. Keys that only begin
// like a chunk's never pass, and what has a hole in it is refused.
func TestPasswordDocuments(t *testing.T) {
	t.Parallel()
	s := newSite(t, byAddress, map[string]string{"policy/data.json": grant(instance1, "password:read")})
	password := strings.Repeat("p", 255) + strings.Repeat("q", 255) + "rest=\"\\"
	if answer := s.post(t, "", password); answer.Status != 200 {
		t.Fatalf("%d %q", answer.Status, answer.Body)
	}
	first, second := strings.Repeat("p", 255), strings.Repeat("q", 255)
	lines := "password_0=" + first + "\npassword_1=" + second + "\npassword_2=rest=\"\\\n"
	for _, test := range []struct {
		name, server string
		status       int
		body, reason string
		removed      any
	}{
		{"as it is", password, 200, password, "", nil},
		{
			"members", `{"password_2": "rest=\"\\", "password_0": "` + first + `", "password_1": "` + second + `", "password_3": ""}`,
			200, `{"password":"` + first + second + `rest=\"\\"}`, "", nil,
		},
		{
			"strays", `{"password_evil": "MARK", "password_0": "` + first + `", "password_1": "` + second + `", "password_2": "rest=\"\\", "password_10": "MARK"}`,
			200, `{"password":"` + first + second + `rest=\"\\"}`, "", 2.0,
		},
		{"lines", lines, 200, "password=" + password + "\n", "", nil},
		{"stray line", "password_evil=MARK\n" + lines, 200, "password=" + password + "\n", "", 1.0},
		{"empty", `{"password_0": "", "password_1": "", "password_2": "", "password_3": ""}`, 200, "", "", nil},
		{"strays alone", `{"password_9": "MARK"}`, 502, "", "password_mismatch", nil},
		{"stray lines alone", "password_9=MARK\n", 502, "", "password_mismatch", nil},
		{"an endless line end", "password_0=" + strings.Repeat("\r", 3900) + "\n", 502, "", "response_unreadable", nil},
		{"gap", `{"password_0": "` + first + `", "password_2": "MARK"}`, 502, "", "response_unreadable", nil},
		{"over-long chunk", `{"password_0": "` + first + `M", "password_1": "ARK"}`, 502, "", "response_unreadable", nil},
		{"cut", `{"password_0": "MARK"`, 502, "", "response_incomplete", nil},
		{"another password", `{"password_0": "MARK"}`, 502, "", "password_mismatch", nil},
		{"another password in lines", "password_0=MARK\n", 502, "", "password_mismatch", nil},
		{"other members beside", `{"password_0": "` + first + `", "password_1": "` + second + `", "password_2": "rest=\"\\", "admin": "MARK"}`, 502, "", "password_mismatch", nil},
		{"joined, with a stray, as Nova does", "MARK" + password, 502, "", "password_mismatch", nil},
		{"longer than max_size", strings.Repeat("MARK", 300), 502, "", "response_too_large", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			s.upstream.Script(func(string) string { return harness.OK(test.server) })
			got := s.get(t, "/openstack/latest/password")
			if got.Status != test.status || (test.status == 200 && got.Body != test.body) || (test.reason != "" && reason(got) != test.reason) {
				t.Errorf("%d %q, want %d %q %s", got.Status, got.Body, test.status, test.body, test.reason)
			}
			if strings.Contains(got.Body, "MARK") {
				t.Error("a key that only begins like a chunk's, or another password, passed")
			}
			if test.status == 200 && got.Header.Get("Content-Type") != "text/plain; charset=utf-8" {
				t.Errorf("%v", got.Header)
			}
			if removed := s.decisionOf(t, got)["removed_password_keys"]; removed != test.removed {
				t.Errorf("removed %v, want %v", removed, test.removed)
			}
		})
	}
	if strings.Contains(s.Log(), "MARK") || strings.Contains(s.Log(), first) {
		t.Error("a password is in the log")
	}
}
