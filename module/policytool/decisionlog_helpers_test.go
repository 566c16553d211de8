// SPDX-License-Identifier: Apache-2.0

package policytool

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/spf13/cobra"

	"github.com/metaguard/metaguard/module/decision"
	"github.com/metaguard/metaguard/module/policy"
)

// noon is when the first decision of a test was made.
var noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

// policyDir makes a directory with one file of Rego in package metaguard.team,
// and perhaps one of data.
func policyDir(t testing.TB, rego, data string) string {
	t.Helper()
	dir := t.TempDir()
	files := map[string]string{"team.rego": "package metaguard.team\n\n" + rego + "\n"}
	if data != "" {
		files["data.json"] = data
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// asks is a request of an instance about itself.
func asks(kind decision.Kind, action decision.Action, instance, project string) decision.Input {
	in := decision.Input{
		Version: decision.Version,
		Request: decision.Request{
			Method: "GET", Path: "/openstack/latest/" + string(kind), Segments: []string{"openstack", "latest", string(kind)},
			Query: map[string][]string{}, Host: "169.254.169.254", Protocol: "HTTP/1.1",
			Headers: map[string]string{"user-agent": "Cloud-Init/25.1", "accept": "*/*"},
		},
		Caller: decision.Caller{
			Source: "neutron", ID: "instance:" + instance, InstanceID: instance, ProjectID: project,
			Address: netip.MustParseAddr("10.0.0.5"), Roles: []string{}, Claims: map[string]any{},
		},
		Resource: decision.Resource{
			Dialect: "openstack", Kind: kind, Version: "latest", Key: string(kind), Action: action, Sensitive: kind == decision.KindPassword,
		},
	}
	if action == decision.Write {
		in.Request.Method = "POST"
		in.Request.Body = &decision.Body{Size: 344, Format: decision.FormatRSABase64, KeyBits: 2048}
	}
	in.Target = decision.Target{InstanceID: instance, ProjectID: project, Address: in.Caller.Address}
	return in
}

// user is a request of a caller that is no instance, about an instance.
func user(kind decision.Kind, id, project string, roles []string, instance, instanceProject string) decision.Input {
	in := asks(kind, decision.Read, instance, instanceProject)
	in.Caller = decision.Caller{
		Source: "keystone", ID: "user:" + id, ProjectID: project, Address: netip.MustParseAddr("10.0.0.250"),
		Roles: roles, Claims: map[string]any{},
	}
	return in
}

// recorder writes a decision log as a server in front of a policy would.
type recorder struct {
	policy *policy.Policy
	mode   string
	lines  bytes.Buffer
	count  int
}

func newRecorder(t testing.TB, mode string, paths ...string) *recorder {
	t.Helper()
	p, err := policy.Load(t.Context(), policy.Config{Paths: paths})
	if err != nil {
		t.Fatal(err)
	}
	return &recorder{policy: p, mode: mode}
}

// add records one decision, a minute after the one before.
func (l *recorder) add(t testing.TB, in decision.Input) {
	t.Helper()
	at := noon.Add(time.Duration(l.count) * time.Minute)
	l.count++
	in.Request.ID = fmt.Sprintf("0190-%d", l.count)
	input := inputOf(t, in)
	result := l.policy.Judge(context.Background(), policy.Query{Input: input, Time: at, Unbounded: true})
	verdict := decision.Allow
	if !result.Decision.Allow {
		if verdict = decision.Deny; l.mode == "audit" {
			verdict = decision.WouldDeny
		}
	}
	event := map[string]any{
		"level": "info", "logger": "http.handlers.metaguard.event", "msg": "decision event",
		"decision_id": in.Request.ID, "path": "metaguard/decision", "revision": result.Revision,
		"input": jsonOf(t, input), "timestamp": at,
		"custom": map[string]any{"metaguard": map[string]any{
			"verdict": verdict, "reason": result.Reason, "mode": l.mode, "rules": result.Rules,
		}},
	}
	if result.Output != nil {
		event["result"] = jsonOf(t, result.Output)
	}
	if len(result.Answers) > 0 {
		event["nd_builtin_cache"] = result.Answers
	}
	line, err := json.Marshal(event)
	if err != nil {
		t.Fatal(err)
	}
	l.lines.Write(line)
	l.lines.WriteByte('\n')
}

func jsonOf(t testing.TB, value ast.Value) any {
	t.Helper()
	plain, err := ast.JSON(value)
	if err != nil {
		t.Fatal(err)
	}
	return plain
}

func inputOf(t testing.TB, in decision.Input) ast.Value {
	t.Helper()
	input, err := policy.InputValue(&in)
	if err != nil {
		t.Fatal(err)
	}
	return input
}

// file gives what was recorded as a file.
func (l *recorder) file(t testing.TB) string {
	t.Helper()
	return write(t, "decisions.ndjson", l.lines.String())
}

// run runs a command and gives what it wrote.
func run(t testing.TB, command *cobra.Command, args ...string) (out, warnings string, err error) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	command.SetOut(&stdout)
	command.SetErr(&stderr)
	command.SetArgs(args)
	command.SilenceErrors = true
	err = command.ExecuteContext(t.Context())
	return stdout.String(), stderr.String(), err
}
