// SPDX-License-Identifier: Apache-2.0

package tests

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/metaguard/metaguard/tests/harness"
)

// planted stands at the beginning of every body that must not pass. A client
// that sees it was given a part of an answer that it should not have had.
const planted = "PLANTED"

const (
	textPath    = "/openstack/latest/user_data"
	jsonPath    = "/openstack/latest/meta_data.json"
	listingPath = "/openstack/latest/"
)

// unknownEntries is a team's policy for listings that name what no Nova has: such
// entries can be read.
const unknownEntries = `package metaguard.team

allow contains "unknown_entry" if {
	input.resource.kind == "unknown"
	input.resource.version == "latest"
	startswith(input.caller.address, "127.")
}
`

// answerCase is what the server does and what every client must then get.
type answerCase struct {
	name    string
	path    string         // textPath if it is empty
	server  string         // the bytes of the answer, then the connection is closed …
	steps   []harness.Step // … or what else the server does
	status  int
	body    string            // of an answer that passes
	header  map[string]string // headers besides those that every answer has
	code    string            // "reason/code" of an answer that does not
	removed *string           // what the log says was removed, if that matters
	unasked bool              // the server is not even asked
}

// answerSite is a site whose scripted server answers each request with the
// case that its User-Agent names.
type answerSite struct {
	*site
	server *harness.Scripted

	mu    sync.Mutex
	cases map[string][]harness.Step
	odd   []string // requests that no case expects
}

// newAnswerSite starts a site that speaks HTTP/1 and HTTP/2. upstream is what
// stands in the block of `upstream`.
func newAnswerSite(t *testing.T, settings, upstream string, files map[string]string) *answerSite {
	t.Helper()
	s := prepareAnswerSite(t, settings, upstream, files)
	s.Run(s.address)
	return s
}

func prepareAnswerSite(t *testing.T, settings, upstream string, files map[string]string) *answerSite {
	t.Helper()
	s := &answerSite{site: prepareSite(t, settings, files), cases: make(map[string][]harness.Step)}
	s.server = harness.NewScripted(t, s.script)
	s.edit(t, "Caddyfile", "persist_config off", "persist_config off\n\tservers {\n\t\tprotocols h1 h2c\n\t}")
	s.edit(t, "Caddyfile", "upstream "+s.upstream.Address, "upstream "+s.server.Address+" {\n"+upstream+"\n\t\t}")
	return s
}

// script finds the steps for a request. The server sees a GET, whatever the
// client asked.
func (s *answerSite) script(request string) []harness.Step {
	_, rest, _ := strings.Cut(request, "\r\nUser-Agent: ")
	agent, _, _ := strings.Cut(rest, "\r\n")
	s.mu.Lock()
	defer s.mu.Unlock()
	steps, known := s.cases[agent]
	if !known || !strings.HasPrefix(request, "GET ") {
		s.odd = append(s.odd, request)
	}
	return steps
}

// play says what the server does for an agent.
func (s *answerSite) play(agent string, steps ...harness.Step) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cases[agent] = steps
}

// run asks every case of a table with every client, GET and HEAD, and compares.
// Cases run side by side, which -parallel would bound: many of them wait.
func (s *answerSite) run(t *testing.T, table []answerCase) {
	t.Helper()
	const atOnce = 48
	slots := make(chan struct{}, atOnce)
	var group sync.WaitGroup
	results := make([][]shown, len(table))
	for i := range table {
		if table[i].path == "" {
			table[i].path = textPath
		}
		if table[i].steps == nil {
			table[i].steps = []harness.Step{harness.Send(table[i].server)}
		}
		agent := fmt.Sprintf("case/%d", i)
		s.play(agent, table[i].steps...)
		slots <- struct{}{}
		group.Go(func() {
			defer func() { <-slots }()
			results[i] = show(s.address, table[i].path, agent)
		})
	}
	group.Wait()
	asked := 0
	expected := make(map[string]answerCase) // by decision id
	for i, test := range table {
		t.Run(test.name, func(t *testing.T) {
			for _, got := range results[i] {
				for _, wrong := range test.compare(got.get, got.getErr) {
					t.Errorf("%s: %s", got.version, wrong)
				}
				for _, wrong := range test.compareHead(got.get, got.head, got.headErr) {
					t.Errorf("%s HEAD: %s", got.version, wrong)
				}
				if got.endErr != nil {
					t.Errorf("%s: %v", got.version, got.endErr)
				}
			}
		})
		for _, got := range results[i] {
			expected[got.get.id()], expected[got.head.id()] = test, test
			if !test.unasked {
				asked += 2
			}
		}
	}
	s.finish(t, asked, expected)
}

// shown is what one client was told.
type shown struct {
	version                 string
	get, head               reply
	getErr, headErr, endErr error
}

// show asks with every client.
func show(address, path, agent string) (all []shown) {
	results := make(chan shown)
	clients := askers(address)
	for version, client := range clients {
		go func() {
			got := shown{version: version}
			got.get, got.getErr = client.ask(http.MethodGet, path, agent)
			got.head, got.headErr = client.ask(http.MethodHead, path, agent)
			got.endErr = client.end()
			results <- got
		}()
	}
	for range clients {
		all = append(all, <-results)
	}
	return all
}

// finish compares the decision log, and makes sure that the server was asked
// once for each request and nothing of a refused body is in the log.
func (s *answerSite) finish(t *testing.T, asked int, expected map[string]answerCase) {
	t.Helper()
	if got := s.server.Asked(); got != asked {
		t.Errorf("the server was asked %d times for %d requests", got, asked)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, request := range s.odd {
		t.Errorf("the server saw %q", request)
	}
	lines := s.decisionsOf(t, slices.Collect(maps.Keys(expected)))
	wrong := make(map[string]int)
	for id, test := range expected {
		line := lines[id]
		if said, want := logged(line), test.logged(); said != want {
			wrong[fmt.Sprintf("%s: the log says %q, want %q", test.name, said, want)]++
		}
		removed := ""
		if line["removed"] != nil {
			removed = fmt.Sprintf("%v/%v", line["removed"], line["removed_password_keys"])
		}
		if test.removed != nil && removed != *test.removed {
			wrong[fmt.Sprintf("%s: the log says that %q was removed, want %q", test.name, removed, *test.removed)]++
		}
	}
	for what, times := range wrong {
		t.Errorf("%s (%d times)", what, times)
	}
	if strings.Contains(s.Log(), planted) {
		t.Error("a part of a body is in the log")
	}
}

// logged is what the decision log says of an answer.
func logged(line map[string]any) string {
	return fmt.Sprintf("%v %v %v/%v", line["verdict"], line["outcome"], line["reason"], line["code"])
}

// logged is what the decision log must say of it.
func (c answerCase) logged() string {
	if c.code == "" {
		return "allow forwarded policy_allow/<nil>"
	}
	if c.unasked {
		return "deny refused " + c.code
	}
	return "allow failed " + c.code
}

// decisionsOf gives the decision-log lines of these ids, once they are there.
func (s *answerSite) decisionsOf(t *testing.T, ids []string) map[string]map[string]any {
	t.Helper()
	lines := make(map[string]map[string]any)
	read := 0 // of the log, which is long
	s.Eventually("every decision is in the log", func() bool {
		log := s.Log()
		for line := range strings.Lines(log[read:]) {
			if !strings.HasSuffix(line, "\n") {
				break // the rest of it is still to come
			}
			read += len(line)
			var entry map[string]any
			if strings.Contains(line, `"decision_id"`) && json.Unmarshal([]byte(line), &entry) == nil && entry["msg"] == "decision" {
				lines[fmt.Sprint(entry["decision_id"])] = entry
			}
		}
		return !slices.ContainsFunc(ids, func(id string) bool { return lines[id] == nil })
	})
	return lines
}

// compare says what is wrong with the answer to a GET.
func (c answerCase) compare(got reply, err error) (wrong []string) {
	say := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	if err != nil {
		say("%v", err)
		return wrong
	}
	if c.code == "" {
		if got.status != c.status || got.body != c.body {
			say("got %d %.300q, want %d %.300q", got.status, got.body, c.status, c.body)
		}
	} else {
		why, _, _ := strings.Cut(c.code, "/")
		want := fmt.Sprintf("%s: %s (decision %s)\n", http.StatusText(c.status), why, got.id())
		if got.status != c.status || got.body != want {
			say("got %d %.300q, want %d %q", got.status, got.body, c.status, want)
		}
		if strings.Contains(got.body+fmt.Sprint(got.header), planted) {
			say("a part of the refused answer passed: %q %v", got.body, got.header)
		}
	}
	if extra := c.unexpected(got.header); extra != "" {
		say("headers: %s", extra)
	}
	return wrong
}

// compareHead says what is wrong with the answer to a HEAD: it must be that to
// the GET, without its body.
func (c answerCase) compareHead(get, head reply, err error) (wrong []string) {
	if err != nil {
		return []string{err.Error()}
	}
	if head.status != get.status || head.body != "" {
		wrong = append(wrong, fmt.Sprintf("got %d %q, want %d", head.status, head.body, get.status))
	}
	for _, name := range slices.Sorted(maps.Keys(get.header)) {
		if name != "Date" && name != "X-Metaguard-Decision" && head.header.Get(name) != get.header.Get(name) {
			wrong = append(wrong, fmt.Sprintf("%s: %q, for a GET %q", name, head.header.Get(name), get.header.Get(name)))
		}
	}
	return wrong
}

// unexpected names the headers that are not as they should be: beside those of
// the guard and the case's own there may be none.
func (c answerCase) unexpected(got http.Header) string {
	want := http.Header{"Content-Type": {"text/plain; charset=utf-8"}}
	if c.code != "" {
		want["Cache-Control"], want["X-Content-Type-Options"] = []string{"no-store"}, []string{"nosniff"}
	}
	if c.status == http.StatusNoContent {
		delete(want, "Content-Type")
	}
	for name, value := range c.header {
		want[name] = []string{value}
		if value == "" {
			delete(want, name)
		}
	}
	var list []string
	for name, values := range got {
		switch name {
		case "Date", "Content-Length", "X-Metaguard-Decision":
		case "Server":
			if !slices.Equal(values, []string{"Caddy"}) {
				list = append(list, fmt.Sprintf("Server: %q", values))
			}
		case "Connection":
			if !slices.Equal(values, []string{"close"}) && !slices.Equal(values, []string{"keep-alive"}) {
				list = append(list, fmt.Sprintf("Connection: %q", values))
			}
		default:
			if !slices.Equal(values, want[name]) {
				list = append(list, fmt.Sprintf("%s: %q, want %q", name, values, want[name]))
			}
		}
	}
	for name, values := range want {
		if got[name] == nil {
			list = append(list, fmt.Sprintf("no %s, want %q", name, values))
		}
	}
	slices.Sort(list)
	return strings.Join(list, "; ")
}
