// SPDX-License-Identifier: Apache-2.0

package tests

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/metaguard/metaguard/tests/harness"
)

// checked is what POST /metaguard/check answers.
type checked struct {
	Verdict, Reason, Code, Outcome string
	Status                         int
	AgentStatus                    int `json:"agent_status"`
	Codes, Rules                   []string
	Redact                         map[string][]string
	Revision                       string
	Input                          map[string]any
}

func (m *managed) check(t *testing.T, body string) checked {
	t.Helper()
	var answer checked
	code, text := m.admin.Ask(t, http.MethodPost, "/metaguard/check", body)
	if code != 200 {
		t.Fatalf("%s: %d %s", body, code, text)
	}
	if err := json.Unmarshal([]byte(text), &answer); err != nil {
		t.Fatal(err)
	}
	return answer
}

// A described request gets the verdict, reason and status of a real one, and
// leaves nothing behind.
func TestCheck(t *testing.T) {
	t.Parallel()
	m := newWatched(t, byAddress+"\nidentify keystone {\n\turl http://127.0.0.1:9/v3\n\ttarget request inventory.json\n}\nsession optional\nlimit {\n\trequests 1/h burst 1\n}",
		map[string]string{"policy/team.rego": "package metaguard.team\n\nallow contains \"helpdesk\" if \"helpdesk\" in input.caller.roles\n\nredact_keys contains \"uuid\" if input.resource.kind == \"metadata\"\n"})
	rsa := `"body": {"format": "rsa_base64"}`
	for name, test := range map[string]struct {
		body, want    string
		status, agent int
		code          string
	}{
		"allowed":               {`"address": "127.0.0.1", "path": "/openstack/latest/user_data"`, "allow policy_allow forwarded", 0, 0, "own_instance"},
		"answered as empty":     {`"address": "127.0.0.1", "path": "/openstack/latest/password"`, "deny policy_deny empty", 200, 200, "password_read_not_granted"},
		"not known":             {`"address": "127.0.0.1", "path": "/secret"`, "deny policy_deny refused", 404, 404, ""},
		"nobody there":          {`"address": "127.0.0.9", "path": "/openstack"`, "deny identity_missing refused", 401, 403, ""},
		"a write":               {`"address": "127.0.0.1", "path": "/openstack/latest/password", "method": "POST", ` + rsa, "allow policy_allow forwarded", 0, 0, "own_password_write"},
		"a write in clear":      {`"address": "127.0.0.1", "path": "/openstack/latest/password", "method": "POST", "body": {"format": "text", "size": 1020}`, "allow policy_allow forwarded", 0, 0, "own_password_write"},
		"a long write":          {`"address": "127.0.0.1", "path": "/openstack/latest/password", "method": "POST", "body": {"format": "text", "size": 1021}`, "deny body_too_large refused", 413, 400, ""},
		"a huge write":          {`"address": "127.0.0.1", "path": "/openstack/latest/password", "method": "POST", "body": {"format": "binary", "size": 9000000000000}`, "deny body_too_large refused", 413, 400, ""},
		"an empty write":        {`"address": "127.0.0.1", "path": "/openstack/latest/password", "method": "POST"`, "deny password_empty refused", 400, 400, ""},
		"a body where none is":  {`"address": "127.0.0.1", "path": "/openstack/latest/user_data", ` + rsa, "deny body_unexpected refused", 400, 400, ""},
		"ambiguous":             {`"address": "127.0.0.1", "path": "/openstack/../latest"`, "deny request_ambiguous refused", 400, 400, ""},
		"escaped":               {`"address": "127.0.0.1", "path": "/openstack/%2e%2e/latest"`, "deny request_ambiguous refused", 400, 400, ""},
		"a query":               {`"address": "127.0.0.1", "path": "/openstack?x=1"`, "deny request_ambiguous refused", 400, 400, ""},
		"a method":              {`"address": "127.0.0.1", "path": "/openstack", "method": "PUT"`, "deny method_not_allowed refused", 405, 400, ""},
		"a header":              {`"address": "127.0.0.1", "path": "/openstack", "headers": {"Upgrade": "h2c"}`, "deny header_refused refused", 400, 400, ""},
		"another's data":        {`"caller": {"as": "user:u", "source": "keystone"}, "target": "` + instance2 + `", "path": "/openstack/latest/user_data"`, "deny policy_deny refused", 403, 403, ""},
		"another's, by a role":  {`"caller": {"as": "user:u", "source": "keystone", "roles": ["helpdesk"]}, "target": "` + instance2 + `", "path": "/openstack/latest/user_data"`, "allow policy_allow forwarded", 0, 0, "helpdesk"},
		"another's, by header":  {`"caller": {"as": "user:u", "roles": ["helpdesk"]}, "headers": {"X-Metaguard-Target": "` + instance2 + `"}, "path": "/openstack/latest/user_data"`, "allow policy_allow forwarded", 0, 0, "helpdesk"},
		"nobody's":              {`"caller": {"as": "user:u"}, "path": "/openstack/latest/user_data"`, "deny target_unknown refused", 403, 403, ""},
		"a session":             {`"address": "127.0.0.1", "path": "/openstack/latest/user_data", "session_age": "30s"`, "allow policy_allow forwarded", 0, 0, "own_instance"},
		"a session token":       {`"address": "127.0.0.1", "path": "/metaguard/session", "method": "PUT", "headers": {"X-Metaguard-Session-Ttl-Seconds": "60"}`, "allow policy_allow answered", 200, 200, ""},
		"a token without a TTL": {`"address": "127.0.0.1", "path": "/metaguard/session", "method": "PUT"`, "deny header_refused refused", 400, 400, ""},
	} {
		got := m.check(t, "{"+test.body+"}")
		if text := got.Verdict + " " + got.Reason + " " + got.Outcome; text != test.want || got.Status != test.status || got.AgentStatus != test.agent {
			t.Errorf("%s: %s %d %d (%s), want %s %d %d", name, text, got.Status, got.AgentStatus, got.Code, test.want, test.status, test.agent)
		}
		if asked := strings.HasPrefix(got.Reason, "policy_"); asked != (got.Revision != "") || asked != (got.Input != nil) || asked && len(got.Codes) == 0 {
			t.Errorf("%s: %+v", name, got)
		}
		if test.code != "" && strings.Join(got.Codes, " ") != test.code {
			t.Errorf("%s: codes %q, want %s", name, got.Codes, test.code)
		}
	}
	if got := m.check(t, `{"address": "127.0.0.1", "path": "/openstack/latest/meta_data.json"}`); strings.Join(got.Redact["keys"], " ") == "" || !strings.Contains(strings.Join(got.Rules, " "), "access.rego:") {
		t.Errorf("%+v", got)
	}
	// Not one of them was counted, logged, limited, kept or sent.
	status := m.status(t)
	if n := status.Counters.Requests; n["allow"]+n["deny"] != 0 || status.Sites[0].Memory.Peak != 0 {
		t.Errorf("counted: %v, memory %+v", n, status.Sites[0].Memory)
	}
	if text := m.admin.Get(t, "/metaguard/decisions"); !strings.Contains(text, `"ever":0`) {
		t.Errorf("kept: %s", text)
	}
	if strings.Contains(m.Log(), `"decision_id"`) || len(m.upstream.Requests()) != 0 {
		t.Errorf("logged, or sent: %q", m.upstream.Requests())
	}
	if answer := m.get(t, userdataPath); answer.Status != 200 {
		t.Errorf("limited: %+v", answer)
	}
}

// In audit mode a check says what would be published.
func TestCheckInAuditMode(t *testing.T) {
	t.Parallel()
	m := newWatched(t, byAddress+"\nmode audit\nsession required", nil)
	for body, want := range map[string]string{
		`{"address": "127.0.0.1", "path": "/openstack/latest/user_data"}`:                       "would_deny session_missing forwarded 0",
		`{"address": "127.0.0.1", "path": "/openstack/latest/password", "session_age": "1s"}`:   "would_deny policy_deny forwarded 0",
		`{"address": "127.0.0.1", "path": "/openstack/../password", "session_age": "1s"}`:       "deny request_ambiguous refused 400",
		`{"address": "127.0.0.1", "path": "/openstack/latest/user_data", "session_age": "60m"}`: "allow policy_allow forwarded 0",
	} {
		got := m.check(t, body)
		if text := fmt.Sprint(got.Verdict, " ", got.Reason, " ", got.Outcome, " ", got.Status); text != want {
			t.Errorf("%s: %s, want %s", body, text, want)
		}
	}
}

// What is not a description of a request is refused, and says why.
func TestCheckRefuses(t *testing.T) {
	t.Parallel()
	m := newWatched(t, byAddress, nil)
	for body, want := range map[string]string{
		``:   "reading the body",
		`[]`: "reading the body",
		`{"path": "/", "address": "127.0.0.1"} {}`:           "reading the body",
		`{"path": "/", "address": "127.0.0.1", "x": 1}`:      `"x\"`,
		`{"Path": "/", "address": "127.0.0.1"}`:              `Path`,
		`{"path": "/", "path": "/", "address": "127.0.0.1"}`: "duplicate",
		`{"path": "/"}`: "say who calls",
		`{"path": "/", "address": "127.0.0.1", "caller": {"as": "anonymous"}}`:                 "say who calls",
		`{"path": "/", "address": "me"}`:                                                       "is no IP address",
		`{"path": "/", "caller": {"as": "me"}}`:                                                "is no caller",
		`{"path": "/", "caller": {"as": "user:u", "source": "keystone"}}`:                      "is none of this site's, which are: remote_ip",
		`{"path": "", "address": "127.0.0.1"}`:                                                 "path",
		`{"path": "/a b%", "address": "127.0.0.1"}`:                                            "path",
		`{"path": "/", "address": "127.0.0.1", "site": "other"}`:                               "which site? there are: 127.0.0.1:",
		`{"path": "/", "address": "127.0.0.1", "headers": {"a b": "c"}}`:                       "cannot be sent",
		`{"path": "/", "address": "127.0.0.1", "headers": {"a": "c\r\nd: e"}}`:                 "cannot be sent",
		`{"path": "/", "address": "127.0.0.1", "headers": {"a_b": "c"}}`:                       "does not arrive",
		`{"path": "/", "address": "127.0.0.1", "headers": {"X-Metaguard-Session": "c"}}`:       "says who calls",
		`{"path": "/", "address": "127.0.0.1", "headers": {"a": "b", "A": "c"}}`:               "twice",
		`{"path": "/", "address": "127.0.0.1", "session_age": "1s"}`:                           "has no sessions",
		`{"path": "/", "address": "127.0.0.1", "session_age": "yesterday"}`:                    "session_age",
		`{"path": "/", "address": "127.0.0.1", "target_project": "p"}`:                         "target_project",
		`{"path": "/", "address": "127.0.0.1", "body": {"format": "pem"}}`:                     "body.format",
		`{"path": "/", "address": "127.0.0.1", "body": {"format": "text", "size": -1}}`:        "body.size",
		`{"path": "/", "address": "127.0.0.1", "body": {"format": "text", "key_bits": 2048}}`:  "body.key_bits",
		`{"path": "/", "address": "127.0.0.1", "host": "` + strings.Repeat("x", 70_000) + `"}`: "more than 65536 bytes",
	} {
		code, text := m.admin.Ask(t, http.MethodPost, "/metaguard/check", body)
		if code != 400 || !strings.Contains(text, want) {
			t.Errorf("%.80s: %d %s, want %s", body, code, text, want)
		}
	}
}

// The last decisions are there in the fields of the log, and outlast a reload.
func TestDecisions(t *testing.T) {
	t.Parallel()
	m := prepareManaged(t, byAddress, nil)
	m.edit(t, "Caddyfile", "exclude admin.api", "exclude admin.api http.handlers.metaguard.decision")
	m.watch(t)
	m.ask(t, userdataPath)
	id := m.get(t, "/secret").Header.Get("X-Metaguard-Decision")
	harness.RawFrom(t, "127.0.0.2", m.address, "GET "+userdataPath+" HTTP/1.1\r\nHost: m\r\nConnection: close\r\n\r\n")
	if err := m.admin.Load(m.adapted(t)); err != nil {
		t.Fatal(err)
	}
	var answer struct {
		Ever, Overwritten, Matched int
		Decisions                  []map[string]any
	}
	ask := func(query string) []map[string]any {
		t.Helper()
		answer.Decisions = nil
		if err := json.Unmarshal([]byte(m.admin.Get(t, "/metaguard/decisions"+query)), &answer); err != nil {
			t.Fatal(err)
		}
		return answer.Decisions
	}
	if got := ask(""); len(got) != 3 || answer.Ever != 3 || answer.Overwritten != 0 || got[0]["caller"] != "instance:"+instance2 || got[2]["caller"] != "instance:"+instance1 {
		t.Errorf("%+v", answer)
	}
	for query, want := range map[string]int{
		"?verdict=deny": 1, "?verdict=allow": 2, "?limit=1": 1, "?caller=instance:" + instance1: 2, "?since=10m": 3,
		"?reason=policy_deny": 1, "?decision_id=" + id: 1, "?since=2100-01-01T00:00:00Z": 0,
	} {
		if got := ask(query); len(got) != want {
			t.Errorf("%s: %v", query, got)
		}
	}
	denied := ask("?decision_id=" + id)[0]
	for name, want := range map[string]any{"path": "/secret", "reason": "policy_deny", "status": 404.0, "outcome": "refused", "source": "remote_ip", "peer": "127.0.0.1"} {
		if denied[name] != want {
			t.Errorf("%s is %v, want %v", name, denied[name], want)
		}
	}
	if strings.Contains(m.Log(), `"msg":"decision"`) {
		t.Error("the log has the decisions too, so that this test shows less than it says")
	}
	for _, query := range []string{"?verdict=no", "?limit=0", "?since=x", "?who=me"} {
		if code, text := m.admin.Ask(t, http.MethodGet, "/metaguard/decisions"+query, ""); code != 400 {
			t.Errorf("%s: %d %s", query, code, text)
		}
	}
	output, err := m.Command("status", "--decisions", "--address", m.admin.Address)
	if err != nil || !strings.Contains(output, id) || !strings.Contains(output, "3 of 3 decisions") {
		t.Errorf("%v\n%s", err, output)
	}
}
