// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"bytes"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// Every check has a name of its own and says what people need, and the README
// lists it with its severity.
func TestChecks(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	form := regexp.MustCompile(`^[a-z]+(_[a-z]+)*$`)
	seen := map[string]bool{}
	for _, c := range checks {
		if !form.MatchString(c.id) || seen[c.id] {
			t.Errorf("the id %q", c.id)
		}
		seen[c.id] = true
		if c.asks == "" || c.why == "" || c.do == "" || c.run == nil || !slices.Contains(severities, c.severity) {
			t.Errorf("%s does not say everything", c.id)
		}
		if row := fmt.Sprintf("| `%s` | %s | %s |", c.id, c.severity, c.asks); !strings.Contains(string(readme), row) {
			t.Errorf("the README does not have the row\n%s", row)
		}
	}
	for _, id := range regexp.MustCompile("\n\\| `([a-z_]+)` \\| (?:problem|warning|note) \\|").FindAllStringSubmatch(string(readme), -1) {
		if !seen[id[1]] {
			t.Errorf("the README has the check %s, which there is not", id[1])
		}
	}
}

// The report for people has the worst first, and no control bytes.
func TestReport(t *testing.T) {
	r := Report{
		Looked: []string{"Caddyfile"}, AdvisoriesAsOf: "2026-01-02",
		Findings: []Finding{
			{"a_note", Note, "one", "x:1", "w", "d"}, {"a_problem", Problem, "esc\x1b[31maped\n", "y\x00:2", "w", "d"}, {"a_problem", Problem, "three", "y:3", "w", "d"},
		},
		Unchecked: []Unchecked{{"c", "", "--skip", true}, {"d", "", "--skip", true}, {"e", "there", "gone", false}},
	}
	r.sort()
	var b bytes.Buffer
	if err := r.write(&b); err != nil {
		t.Fatal(err)
	}
	const want = `looked at Caddyfile

PROBLEM a_problem
  y?:2: esc?[31maped?
  y:3: three
  why: w
  do:  d

NOTE a_note
  x:1: one
  why: w
  do:  d

not checked: c d (--skip)
not checked: e (there: gone)

2 problems, 0 warnings, 1 note; 1 could not be checked; known vulnerabilities as of 2026-01-02
`
	if b.String() != want {
		t.Errorf("%s", b.String())
	}
}

func TestExitCode(t *testing.T) {
	unable := []Unchecked{{ID: "x", Why: "gone"}}
	for name, test := range map[string]struct {
		report Report
		want   int
	}{
		"nothing":           {Report{}, 0},
		"a note":            {Report{Findings: []Finding{{Severity: Note}}}, 0},
		"a warning":         {Report{Findings: []Finding{{Severity: Note}, {Severity: Warning}}}, 1},
		"a problem":         {Report{Findings: []Finding{{Severity: Problem}}}, 1},
		"unable":            {Report{Findings: []Finding{{Severity: Note}}, Unchecked: unable}, 2},
		"unable and more":   {Report{Findings: []Finding{{Severity: Warning}}, Unchecked: unable}, 1},
		"left out on wish":  {Report{Unchecked: []Unchecked{{ID: "x", Why: "--skip", Chosen: true}}}, 0},
		"both of the kinds": {Report{Unchecked: append([]Unchecked{{ID: "x", Chosen: true}}, unable...)}, 2},
	} {
		if got := test.report.exitCode(); got != test.want {
			t.Errorf("%s: %d, want %d", name, got, test.want)
		}
	}
}

func TestAddresses(t *testing.T) {
	parse := func(text string) address {
		t.Helper()
		known, ok := parseAddress(text, 80)
		if !ok {
			t.Errorf("%q is taken for none", text)
		}
		return known
	}
	for _, same := range [][]string{
		{"127.0.0.1:8774", "localhost:8774", "[::1]:8774", ":8774", "0.0.0.0:8774", "[::]:8774", "tcp/127.0.0.1:8774", "LOCALHOST.:8774", "127.9.9.9:8774", "[::ffff:127.0.0.1]:8774", "127.1:8774", "0x7f000001:8774", "2130706433:8774", "http://127.0.0.1:8774/x", "a.localhost:8774"},
		{"10.0.0.5", "10.0.0.5:80", "http://10.0.0.5", "http://10.0.0.5:80/", "[::ffff:10.0.0.5]:80", "tcp4/10.0.0.5:80"},
		{"https://10.0.0.5", "10.0.0.5:443"},
		{"fd00::5", "[fd00::5]:80", "[fd00:0::5]"},
		{"nova:80", "NOVA", "nova.:80"},
		{"unix//run/x.sock", "unix//run/./x.sock", "unix//run/x.sock|0666", "unix:///run/x.sock"},
	} {
		for _, other := range same {
			if !parse(same[0]).same(parse(other)) || !parse(other).same(parse(same[0])) {
				t.Errorf("%s and %s are not the same: %v %v", same[0], other, parse(same[0]), parse(other))
			}
		}
	}
	for _, different := range [][2]string{
		{"127.0.0.1:8774", "127.0.0.1:8775"},
		{"10.0.0.5:80", "127.0.0.1:80"},
		{"unix//run/x.sock", "unix//run/y.sock"},
		{"nova:80", "10.0.0.5:80"},
		{"128.0.0.1:80", "127.0.0.1:80"},
	} {
		if parse(different[0]).same(parse(different[1])) {
			t.Errorf("%v are the same", different)
		}
	}
	if !parse("nova:80").perhaps(parse("10.0.0.5:80")) || !parse("nova:80").perhaps(parse(":80")) ||
		parse("nova:80").perhaps(parse("10.0.0.5:81")) || parse("10.0.0.6:80").perhaps(parse("10.0.0.5:80")) || parse("nova:80").perhaps(parse("nova:80")) {
		t.Error("what may be the same")
	}
	for _, none := range []string{"", "{http.request.host}:80", "x y", "udp/127.0.0.1:80", "http://", "{env.METAGUARD_NOT_SET}"} {
		if known, ok := parseAddress(none, 80); ok {
			t.Errorf("%q is %v", none, known)
		}
	}
	if _, ok := parseAddress("word", 0); ok {
		t.Error("a word is taken for an address")
	}
}

func TestListensPublic(t *testing.T) {
	for listen, want := range map[string]bool{
		":80": true, "0.0.0.0:80": true, "[::]:80": true, "10.0.0.5:80": true, "metadata.internal:80": true, "tcp/:80": true, "udp/:80": true,
		"127.0.0.1:80": false, "[::1]:80": false, "localhost:80": false, "127.0.0.2:80": false, "unix//run/x": false, "fd/3": false,
	} {
		if got := listensPublic(listen); got != want {
			t.Errorf("%s: %v", listen, got)
		}
	}
}

func TestClockOff(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 900_000_000, time.UTC)
	for name, test := range map[string]struct {
		date, asked, answered time.Time
		off                   bool
	}{
		"right":                {now.Truncate(time.Second), now, now.Add(time.Millisecond), false},
		"a slow answer":        {now.Add(9 * time.Second), now, now.Add(20 * time.Second), false},
		"a second":             {now.Add(-time.Second), now, now, false},
		"just within":          {now.Add(-6 * time.Second), now, now, false},
		"behind":               {now.Add(-7 * time.Second), now, now, true},
		"ahead":                {now.Add(6 * time.Second), now, now, true},
		"ahead of a slow one":  {now.Add(27 * time.Second), now, now.Add(20 * time.Second), true},
		"behind of a slow one": {now.Add(-7 * time.Second), now, now.Add(20 * time.Second), true},
	} {
		if off := clockOff(test.date, test.asked, test.answered); (off != 0) != test.off || strings.HasPrefix(name, "behind") && off > 0 || strings.HasPrefix(name, "ahead") && off < 0 {
			t.Errorf("%s: %v", name, off)
		}
	}
}

func TestLines(t *testing.T) {
	text, err := parseText("Caddyfile", []byte("{\n\tlog {\n\t\tlevel DEBUG\n\t}\n\tdebug\n}\n:80 {\n\thandle /x {\n\t\tmetaguard {\n\t\t\tupstream \"a\nb\" c\n\t\t}\n\t}\n\trespond \"{\"\n}\n"))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, line := range text.lines() {
		got = append(got, fmt.Sprintf("%s %v %s %q", line.where, line.global, strings.Join(line.within, ">"), line.words))
	}
	want := []string{
		`Caddyfile:2 true log ["log"]`, `Caddyfile:3 true log>level ["level" "DEBUG"]`, `Caddyfile:5 true debug ["debug"]`,
		`Caddyfile:8 false handle ["handle" "/x"]`, `Caddyfile:9 false handle>metaguard ["metaguard"]`,
		`Caddyfile:10 false handle>metaguard>upstream ["upstream" "a\nb" "c"]`,
	}
	if len(got) < len(want) || !slices.Equal(got[:len(want)], want) {
		t.Errorf("%s", strings.Join(got, "\n"))
	}
}
