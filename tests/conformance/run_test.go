// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/metaguard/metaguard/tests/harness"
)

// good is a server's right answers, by request line.
func good() map[string]string {
	return map[string]string{
		"PUT /latest/api/token":         harness.OK("planted-token"),
		"GET /json":                     harness.OK(`{"a": {"b/c": [1, {"d": "planted-member"}]}}`),
		"GET /listing":                  harness.OK("one\ntwo/\n0=k\n"),
		"GET /exact":                    harness.OK("exactly"),
		"GET /pattern":                  harness.OK("value 42"),
		"GET /header":                   "HTTP/1.1 200 OK\r\nEtag: planted-etag\r\nContent-Length: 0\r\n\r\n",
		"GET /optional":                 "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
		"GET /tree/":                    harness.OK("leaf\nbelow/\nsecurity-credentials/\n"),
		"GET /tree/leaf":                harness.OK("x"),
		"GET /tree/below/":              harness.OK("0=key\n"),
		"GET /tree/below/0/openssh-key": harness.OK("ssh-rsa"),
		"GET /one":                      harness.OK("x"),
		"GET /two":                      harness.OK("x"),
		"GET /with?v=planted-member":    harness.OK("x"),
		"POST /write":                   harness.OK(""),
	}
}

const transcriptText = head + `headers: ["User-Agent: Client/1"]
steps:
  - name: token
    method: PUT
    path: /latest/api/token
    headers: ["Content-Length: 0", "X-Ttl: 60"]
    save: {token: {body: true}}
  - name: json
    path: /json
    headers: ["X-Token: ${token}"]
    expect: {json: {has: [/a/b~1c/1/d], lacks: [/a/secret]}}
    save: {member: {json: /a/b~1c/1/d}}
  - name: listing
    path: /listing
    expect: {listing: {has: [one], lacks: [password]}}
    save: {entry: {entries: "^(one|two)/?$"}, first: {choose: [none, one], otherwise: other}}
  - name: exact
    path: /exact
    expect: {body: exactly}
  - name: pattern
    path: /pattern
    expect: {pattern: "^value [0-9]+$"}
  - name: header
    path: /header
    expect: {headers: {Etag: "^planted"}}
    save: {etag: {header: Etag}}
  - {name: optional, path: /optional, expect: {status: [200, 404]}}
  - {name: tree, crawl: /tree/}
  - {name: each, each: entry, path: "/${entry}"}
  - {name: with, path: "/with?v=${member}", headers: ["If-None-Match: ${etag}"]}
  - {name: write, method: POST, path: /write, writes: true, body: planted-password}
  - {name: not asked, path: /never, unless: {token: "planted-.*"}}
  - {name: not there, path: /never, needs: [more]}
`

// rows plays the transcript against answers and gives the verdict of each step.
func rows(t *testing.T, answers map[string]string) (map[string]result, []string) {
	t.Helper()
	upstream := harness.NewUpstream(t, func(request string) string {
		line, _, _ := strings.Cut(request, " HTTP/1.1\r\n")
		if answer, found := answers[line]; found {
			return answer
		}
		return "HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n"
	})
	target, err := parseTarget("http://" + upstream.Address)
	if err != nil {
		t.Fatal(err)
	}
	target.timeout = 20 * time.Second
	target.extra = []header{{"Authorization", "planted-authorization"}}
	transcript, err := parseTranscript("d/c.yaml", []byte(transcriptText))
	if err != nil {
		t.Fatal(err)
	}
	r := &runner{target: target, write: true}
	results := make(map[string]result)
	var text strings.Builder
	all := r.run(context.Background(), transcript)
	for _, row := range all {
		results[row.Step] = row
	}
	if err := printTable(&text, all); err != nil {
		t.Fatal(err)
	}
	if err := printJSON(&text, all); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(text.String(), "planted") {
		t.Errorf("a secret is printed:\n%s", text.String())
	}
	return results, upstream.Requests()
}

func TestRun(t *testing.T) {
	results, requests := rows(t, good())
	for step, row := range results {
		want := passed
		if step == "not asked" || step == "not there" {
			want = leftOut
		}
		if row.Result != want {
			t.Errorf("%s: %+v", step, row)
		}
	}
	for _, want := range []string{
		"PUT /latest/api/token HTTP/1.1\r\nHost: ", "\r\nUser-Agent: Client/1\r\nContent-Length: 0\r\nX-Ttl: 60\r\nAuthorization: planted-authorization\r\n\r\n",
		"\r\nX-Token: planted-token\r\n", "\r\nIf-None-Match: planted-etag\r\n",
		"\r\nContent-Length: 16\r\n\r\nplanted-password",
	} {
		if !strings.Contains(strings.Join(requests, ""), want) {
			t.Errorf("nothing was sent like %q", want)
		}
	}
	if got := results["tree"].Got; got != "4 answered" {
		t.Errorf("the crawl: %s", got)
	}
}

// TestWrongAnswers: each sort of wrong answer fails its step, and no other but
// those that wait for what it should have given.
func TestWrongAnswers(t *testing.T) {
	const denied = "HTTP/1.1 403 Forbidden\r\nX-Metaguard-Decision: id-1\r\nContent-Length: 43\r\n\r\nForbidden: policy_deny (decision id-1)\n1234"
	for name, tt := range map[string]struct {
		request, answer, step, got string
		also                       []string // are left out
	}{
		"status":                        {"GET /exact", "HTTP/1.1 500 x\r\nContent-Length: 0\r\n\r\n", "exact", "500, 0 bytes: another status", nil},
		"redirect":                      {"GET /exact", "HTTP/1.1 302 x\r\nLocation: /one\r\nContent-Length: 0\r\n\r\n", "exact", "302", nil},
		"optional, but not so":          {"GET /optional", "HTTP/1.1 403 x\r\nContent-Length: 0\r\n\r\n", "optional", "403", nil},
		"body":                          {"GET /exact", harness.OK("exactly\n"), "exact", "another body", nil},
		"pattern":                       {"GET /pattern", harness.OK("value x"), "pattern", "does not match", nil},
		"no header":                     {"GET /header", harness.OK(""), "header", "no header Etag", []string{"with"}},
		"header":                        {"GET /header", "HTTP/1.1 200 OK\r\nEtag: other\r\nContent-Length: 0\r\n\r\n", "header", "another value", []string{"with"}},
		"no JSON":                       {"GET /json", harness.OK("planted{"), "json", "no JSON document", []string{"with"}},
		"more than JSON":                {"GET /json", harness.OK(`{"a": {"b/c": [1, {"d": 1}]}} {}`), "json", "no JSON document", []string{"with"}},
		"no member":                     {"GET /json", harness.OK(`{"a": {"b/c": [1]}}`), "json", "no member /a/b~1c/1/d", []string{"with"}},
		"member too many":               {"GET /json", harness.OK(`{"a": {"secret": "planted", "b/c": [1, {"d": 1}]}}`), "json", "a member /a/secret", []string{"with"}},
		"no entry":                      {"GET /listing", harness.OK("two\n"), "listing", "no entry one", []string{"each"}},
		"entry too many":                {"GET /listing", harness.OK("one\npassword\n"), "listing", "an entry password", []string{"each"}},
		"cut":                           {"GET /exact", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nexact", "exact", "the answer was cut", nil},
		"no HTTP":                       {"GET /exact", "planted\r\n\r\n", "exact", "no HTTP answer", nil},
		"nothing":                       {"GET /exact", "", "exact", "the answer was cut", nil},
		"no token":                      {"PUT /latest/api/token", "HTTP/1.1 403 x\r\nContent-Length: 0\r\n\r\n", "token", "403", []string{"json", "with", "not asked"}},
		"leaf refused":                  {"GET /tree/leaf", "HTTP/1.1 404 x\r\nContent-Length: 0\r\n\r\n", "tree", "3 answered, 1 advertised and not: 404 at /tree/leaf", nil},
		"directory refused":             {"GET /tree/below/", denied[:len(denied)-4], "tree", "the answer was cut at /tree/below/", nil},
		"entry with a terminal's codes": {"GET /tree/below/", harness.OK("\x1b[31mred\n"), "tree", `410 at /tree/below/%1B%5B31mred`, nil},
		"each":                          {"GET /two", "HTTP/1.1 500 x\r\nContent-Length: 0\r\n\r\n", "each 1", "500", nil},
		"write":                         {"POST /write", "HTTP/1.1 409 x\r\nContent-Length: 0\r\n\r\n", "write", "409", nil},
	} {
		t.Run(name, func(t *testing.T) {
			answers := good()
			answers[tt.request] = tt.answer
			results, _ := rows(t, answers)
			for step, row := range results {
				switch {
				case step == tt.step:
					if row.Result != failed || !strings.Contains(row.Got, tt.got) {
						t.Errorf("%s: %+v, want %q", step, row, tt.got)
					}
				case row.Result == failed:
					t.Errorf("%s fails, too: %+v", step, row)
				}
			}
			for _, step := range tt.also {
				if results[step].Result != leftOut {
					t.Errorf("%s: %+v, want it left out", step, results[step])
				}
			}
		})
	}
}

// TestRefusal: a refusal's reason and decision id are named where Metaguard's
// own header vouches for them, and nothing else of a body is.
func TestRefusal(t *testing.T) {
	refused := func(id, body string) string {
		return fmt.Sprintf("HTTP/1.1 403 Forbidden\r\nX-Metaguard-Decision: %s\r\nContent-Length: %d\r\n\r\n%s", id, len(body), body)
	}
	for name, tt := range map[string]struct{ answer, reason string }{
		"text":          {refused("id-1", "Forbidden: policy_deny (decision id-1)\n"), "policy_deny"},
		"JSON":          {refused("id-1", `{"status":403,"error":"Forbidden","reason":"policy_deny","decision":"id-1"}`+"\n"), "policy_deny"},
		"another id":    {refused("id-2", "Forbidden: policy_deny (decision id-1)\n"), ""},
		"no header":     {"HTTP/1.1 403 x\r\nContent-Length: 39\r\n\r\nForbidden: policy_deny (decision id-1)\n", ""},
		"more text":     {refused("id-1", "Forbidden: policy_deny (decision id-1)\nplanted"), ""},
		"JSON, no word": {refused("id-1", `{"reason":"planted secret","decision":"id-1"}`), ""},
	} {
		t.Run(name, func(t *testing.T) {
			answers := good()
			answers["GET /exact"], answers["GET /tree/leaf"] = tt.answer, tt.answer
			results, _ := rows(t, answers)
			for _, step := range []string{"exact", "tree"} {
				row := results[step]
				if row.Result != failed || row.Reason != tt.reason || strings.Contains(row.Got, "(decision id-1)") != (tt.reason != "") {
					t.Errorf("%s: %+v, want %q", step, row, tt.reason)
				}
			}
		})
	}
}

func TestWaits(t *testing.T) {
	transcript, err := parseTranscript("d/c.yaml", []byte(head+"steps: [{name: poll, path: /poll, waits: 100ms}]\n"))
	if err != nil {
		t.Fatal(err)
	}
	released := make(chan struct{})
	for name, tt := range map[string]struct {
		script []harness.Step
		want   verdict
		got    string
	}{
		"held":     {[]harness.Step{harness.Pause(released)}, passed, "held for 100ms"},
		"answered": {[]harness.Step{harness.Send(harness.OK("x"))}, passed, "200, 1 bytes"},
		"refused":  {[]harness.Step{harness.Send("HTTP/1.1 403 x\r\nContent-Length: 0\r\n\r\n")}, failed, "403"},
		"closed":   {[]harness.Step{harness.ResetConn()}, failed, ""},
	} {
		t.Run(name, func(t *testing.T) {
			server := harness.NewScripted(t, func(string) []harness.Step { return tt.script })
			target, err := parseTarget("http://" + server.Address)
			if err != nil {
				t.Fatal(err)
			}
			target.timeout = 20 * time.Second
			row := (&runner{target: target}).run(context.Background(), transcript)[0]
			if row.Result != tt.want || !strings.Contains(row.Got, tt.got) {
				t.Errorf("%+v", row)
			}
		})
	}
	close(released)
}

// TestEndlessListing: a listing that lists itself ends, as a failure.
func TestEndlessListing(t *testing.T) {
	transcript, err := parseTranscript("d/c.yaml", []byte(head+"steps: [{name: tree, crawl: /}]\n"))
	if err != nil {
		t.Fatal(err)
	}
	upstream := harness.NewUpstream(t, func(string) string { return harness.OK("again/\n") })
	target, err := parseTarget("http://" + upstream.Address)
	if err != nil {
		t.Fatal(err)
	}
	target.timeout = 20 * time.Second
	row := (&runner{target: target}).run(context.Background(), transcript)[0]
	if row.Result != failed || !strings.Contains(row.Got, "more than 16 levels") {
		t.Errorf("%+v", row)
	}
}

func TestExitCodes(t *testing.T) {
	upstream := harness.NewUpstream(t, func(string) string { return harness.OK(`{"compute": {}, "network": {}}`) })
	target := "http://" + upstream.Address
	for name, tt := range map[string]struct {
		arguments []string
		code      int
		said      string
	}{
		"all passed":        {[]string{"--target", target, "--dialect", "azure", "--client", "cloud-init"}, exitPassed, "2 ok, 0 failed, 0 left out"},
		"client tells":      {[]string{"--target", target, "--client", "guest-agent"}, exitFailed, "FAILED"},
		"JSON":              {[]string{"--target", target, "--dialect", "azure", "--json"}, exitPassed, `"left_out": 2`},
		"list":              {[]string{"--list"}, exitPassed, "cloudbase-init"},
		"list of a dialect": {[]string{"--list", "--dialect", "gce"}, exitPassed, "guest-agent"},
		"help":              {[]string{"--help"}, exitPassed, "-target"},
		"no target":         {nil, exitUsage, "--target is needed"},
		"bad target":        {[]string{"--target", "127.0.0.1", "--dialect", "azure"}, exitUsage, "--target is no"},
		"no dialect":        {[]string{"--target", target}, exitUsage, "--dialect is needed: azure"},
		"ambiguous client":  {[]string{"--target", target, "--client", "cloud-init"}, exitUsage, "--dialect is needed"},
		"unknown dialect":   {[]string{"--target", target, "--dialect", "x"}, exitUsage, "no such dialect"},
		"nothing to run":    {[]string{"--target", target, "--client", "azidentity"}, exitUsage, "--have"},
		"unknown need":      {[]string{"--target", target, "--dialect", "azure", "--have", "credential"}, exitUsage, "no client needs"},
		"unknown variable":  {[]string{"--target", target, "--dialect", "azure", "--var", "x=y"}, exitUsage, "no client has"},
		"bad variable":      {[]string{"--target", target, "--dialect", "azure", "--var", "planted"}, exitUsage, "want name=value"},
		"bad header":        {[]string{"--target", target, "--dialect", "azure", "--header", "planted"}, exitUsage, "--header"},
		"bad timeout":       {[]string{"--target", target, "--timeout", "0s"}, exitUsage, "--timeout"},
		"argument":          {[]string{"--target", target, "x"}, exitUsage, "unexpected argument"},
		"unknown flag":      {[]string{"--targett", target}, exitUsage, "not defined"},
	} {
		t.Run(name, func(t *testing.T) {
			got := play(t, tt.arguments...)
			if got.code != tt.code || !strings.Contains(got.out+got.err, tt.said) {
				t.Errorf("exit code %d, want %d and %q\n%s%s", got.code, tt.code, tt.said, got.out, got.err)
			}
			if strings.Contains(got.out+got.err, "planted") {
				t.Errorf("a value is printed: %s%s", got.out, got.err)
			}
			if name == "JSON" && !json.Valid([]byte(got.out)) {
				t.Errorf("no JSON: %s", got.out)
			}
		})
	}
}
