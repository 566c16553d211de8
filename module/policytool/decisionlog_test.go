// SPDX-License-Identifier: Apache-2.0

package policytool

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/metaguard/metaguard/module/decision"
)

// event is one line of Metaguard's decision log.
const event = `{"level":"info","ts":1795521600.1,"logger":"http.handlers.metaguard.event","msg":"decision event",` +
	`"labels":{"id":"a","version":"1"},"decision_id":"0190-1","revision":"r1","bundles":{},"path":"metaguard/decision",` +
	`"input":{"version":1,"request":{"id":"0190-1","path":"/x"},"caller":{"id":"instance:i-1","claims":{"n":1.50,"big":12345678901234567890123}}},` +
	`"result":{"allow":false,"reasons":["password_read_not_granted"],"status":200},` +
	`"nd_builtin_cache":{"time.now_ns":{"[]":1795521600123456789}},` +
	`"requested_by":"10.0.0.5","timestamp":"2026-11-24T12:00:00.123456789Z","metrics":{"timer_rego_query_eval_ns":58000},` +
	`"custom":{"metaguard":{"verdict":"would_deny","reason":"policy_deny","mode":"audit","rules":["built-in:metaguard/access.rego:64"]}}}`

// write makes a file for a test.
func write(t testing.TB, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func zipped(t testing.TB, text string) string {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// readAll gives the records of some files, and what was unreadable.
func readAll(t testing.TB, paths ...string) ([]*record, *unreadableError) {
	t.Helper()
	var all []*record
	var unreadable *unreadableError
	err := readLogs(t.Context(), paths, func(r *record) error {
		all = append(all, r)
		return nil
	})
	if err != nil && !errors.As(err, &unreadable) {
		t.Fatal(err)
	}
	return all, unreadable
}

func TestReadLogsReadsEveryMember(t *testing.T) {
	all, unreadable := readAll(t, write(t, "log", event+"\n"))
	if len(all) != 1 || unreadable != nil {
		t.Fatalf("got %d records, %v", len(all), unreadable)
	}
	r := all[0]
	if r.ID != "0190-1" || r.Revision != "r1" || r.Mode != "audit" || r.Line != 1 || r.Altered {
		t.Errorf("got %+v", r)
	}
	if r.Reason != decision.PolicyDeny || r.Verdict != decision.WouldDeny || !r.Decided || r.Allow || r.Status != 200 {
		t.Errorf("got %+v", r)
	}
	if !slices.Equal(r.Codes, []string{"password_read_not_granted"}) || !slices.Equal(r.Rules, []string{"built-in:metaguard/access.rego:64"}) {
		t.Errorf("got codes %v, rules %v", r.Codes, r.Rules)
	}
	if want := time.Date(2026, 11, 24, 12, 0, 0, 123456789, time.UTC); !r.Time.Equal(want) {
		t.Errorf("got time %v", r.Time)
	}
	claims := get(r.Input, "caller", "claims")
	if want := ast.MustParseTerm(`{"n": 1.50, "big": 12345678901234567890123}`); want.Value.Compare(claims) != 0 || claims.String() != want.String() {
		t.Errorf("got claims %v, want %v", claims, want)
	}
	if now, ok := r.Answers.Get("time.now_ns", ast.NewArray()); !ok || now.String() != "1795521600123456789" {
		t.Errorf("got answers %v", r.Answers)
	}
}

func TestReadLogsTakesEveryForm(t *testing.T) {
	console := `{"decision_id":"c","input":{"a":1},"result":{"allow":true},"timestamp":"2026-11-24T12:00:00Z","level":"info","msg":"Decision Log"}`
	upload := "[" + event + ",\n" + console + "]\n[" + console + "]"
	tests := map[string]struct {
		text string
		want []string
	}{
		"lines":             {event + "\n\n" + console, []string{"0190-1", "c"}},
		"other loggers":     {`{"msg":"serving"}` + "\n" + `{"decision_id":"no input"}` + "\r\n" + console + "\r\n", []string{"c"}},
		"masked input":      {strings.Replace(console, `{"a":1}`, "null", 1), nil},
		"upload":            {upload, []string{"0190-1", "c", "c"}},
		"zipped lines":      {zipped(t, event+"\n"+console), []string{"0190-1", "c"}},
		"zipped twice":      {zipped(t, event+"\n") + zipped(t, console+"\n"), []string{"0190-1", "c"}},
		"zipped upload":     {zipped(t, "\n "+upload), []string{"0190-1", "c", "c"}},
		"nothing":           {"", nil},
		"an empty array":    {"[]", nil},
		"a very long line":  {console + "\n" + strings.Replace(console, `"a":1`, `"a":"`+strings.Repeat("x", 1<<20)+`"`, 1) + "\n", []string{"c", "c"}},
		"only white space ": {" \n\n", nil},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			all, unreadable := readAll(t, write(t, "log", test.text))
			if unreadable != nil {
				t.Fatal(unreadable)
			}
			var got []string
			for _, r := range all {
				got = append(got, r.ID)
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

func TestReadLogsNamesWhatIsUnreadable(t *testing.T) {
	long := `{"decision_id":"` + strings.Repeat("x", maxLine) + `"}`
	tests := map[string]struct {
		text     string
		readable int
		want     string
	}{
		"cut":           {event + "\n" + event[:200] + "\n" + event, 2, "log:2: no valid JSON"},
		"text":          {"hello\n" + event, 1, "log:1: no valid JSON"},
		"array in line": {event + "\n[" + event + "]", 1, "log:2: no JSON object"},
		"two on a line": {event + event, 0, "log:1: something stands behind"},
		"no time":       {strings.Replace(event, `"timestamp"`, `"time"`, 1), 0, "log:1: a decision without a timestamp"},
		"bad time":      {strings.Replace(event, `2026-11`, `2026-13`, 1), 0, "log:1: reading /timestamp"},
		"too long":      {event + "\n" + long + "\n" + event, 2, "log:2: longer than 16 MiB"},
		"too long last": {event + "\n" + long, 1, "log:2: longer than 16 MiB"},
		"bad UTF-8":     {strings.Replace(event, `"/x"`, "\"\xff\"", 1), 0, "log:1: no valid JSON"},
		"cut upload":    {"[" + event + "," + event[:200], 1, "log:2: the rest of the file cannot be read"},
		"long upload":   {"[" + event + "," + strings.Replace(long, "x", strings.Repeat("x", maxLine), 1) + "]", 1, "log:2: the rest of the file cannot be read"},
		"bad upload":    {"[" + event + " oops", 1, "log:2: the rest of the file cannot be read"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			all, unreadable := readAll(t, write(t, "log", test.text))
			if len(all) != test.readable {
				t.Errorf("got %d records, want %d", len(all), test.readable)
			}
			if unreadable == nil || unreadable.Count != 1 || !strings.Contains(unreadable.Error(), test.want) {
				t.Errorf("got %v, want %q", unreadable, test.want)
			}
		})
	}
}

func TestReadLogsFailsWhereAFileDoes(t *testing.T) {
	none := func(*record) error { return nil }
	if err := readLogs(t.Context(), []string{filepath.Join(t.TempDir(), "absent")}, none); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	text := zipped(t, event+"\n")
	if err := readLogs(t.Context(), []string{write(t, "log.gz", text[:len(text)-9])}, none); err == nil || !strings.Contains(err.Error(), "reading ") {
		t.Errorf("a cut archive: got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := readLogs(ctx, []string{write(t, "log", event)}, none); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: got %v", err)
	}
}

func TestQuestionsDifferByMoreThanTheirID(t *testing.T) {
	lines := []string{
		event,
		strings.ReplaceAll(event, "0190-1", "0190-2"),
		strings.Replace(event, `"path":"/x"`, `"path":"/y"`, 1),
		strings.Replace(event, `"id":"instance:i-1"`, `"id":"instance:i-2"`, 1),
	}
	all, _ := readAll(t, write(t, "log", strings.Join(lines, "\n")))
	if all[0].question != all[1].question {
		t.Error("the request id makes another question")
	}
	if all[0].question == all[2].question || all[0].question == all[3].question || all[2].question == all[3].question {
		t.Error("two questions are taken for one")
	}
}

func TestFindDecision(t *testing.T) {
	path := write(t, "log", "oops\n"+strings.ReplaceAll(event, "0190-1", "other")+"\n"+event)
	r, err := findDecision(t.Context(), []string{path}, "0190-1")
	if err != nil || r.Line != 3 {
		t.Errorf("got %+v, %v", r, err)
	}
	if _, err := findDecision(t.Context(), []string{path}, "absent"); err == nil || !strings.Contains(err.Error(), "no decision absent") {
		t.Errorf("got %v", err)
	}
}

func FuzzRecord(f *testing.F) {
	f.Add([]byte(event))
	f.Add([]byte("[" + event + "]"))
	f.Add([]byte(event[:300]))
	f.Add([]byte(zipped(f, event)))
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(t.TempDir(), "log")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		_ = readLogs(t.Context(), []string{path}, func(r *record) error {
			if r.ID == "" || r.Input == nil || r.Time.IsZero() || r.Reason == "" || r.Verdict == "" || r.Line < 1 {
				t.Errorf("half a record: %+v", r)
			}
			// What was read must mean what OPA itself reads.
			value, err := ast.ValueFromReader(strings.NewReader(r.Input.String()))
			if err != nil || value.Compare(r.Input) != 0 {
				t.Errorf("%v is read as %v, %v", r.Input, value, err)
			}
			return nil
		})
	})
}
