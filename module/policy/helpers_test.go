// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/metaguard/metaguard/module/decision"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// files maps paths below a directory to contents.
type files map[string]string

// dir makes a directory with these files.
func dir(t testing.TB, content files) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range content {
		write(t, filepath.Join(root, name), text)
	}
	return root
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// whole is a policy that replaces the built-in one.
func whole(body string) files { return files{"policy.rego": "package metaguard\n\n" + body + "\n"} }

func engine(t testing.TB, cfg Config, opts ...Option) *Engine {
	t.Helper()
	if cfg.Timeout == 0 {
		// A busy machine must not make a test fail.
		cfg.Timeout = time.Minute
	}
	e, err := New(t.Context(), cfg, opts...)
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	t.Cleanup(func() { e.Stop(context.Background()) })
	return e
}

// instance is an instance that asks for its own resource.
func instance(kind decision.Kind, action decision.Action) *decision.Input {
	in := &decision.Input{
		Version: decision.Version,
		Request: decision.Request{
			ID: "0193", Method: "GET", Path: "/openstack/latest/" + string(kind),
			Segments: []string{"openstack", "latest", string(kind)},
			Query:    map[string][]string{},
			Host:     "169.254.169.254", Protocol: "HTTP/1.1",
			Headers: map[string]string{"user-agent": "Cloud-Init/25.1", "accept": "*/*"},
		},
		Caller: decision.Caller{
			Source: "neutron", ID: "instance:5f1c6a6e-1d0a-4b5e-9d53-0d3f6f0f2a11",
			InstanceID: "5f1c6a6e-1d0a-4b5e-9d53-0d3f6f0f2a11", ProjectID: "9b1c8f7de0c94ac9b2d5c1f4a5f1e6d2",
			Address: netip.MustParseAddr("10.0.0.5"),
		},
		Resource: decision.Resource{
			Dialect: "openstack", Kind: kind, Version: "latest", Key: string(kind), Action: action,
			Sensitive: kind == decision.KindPassword,
		},
	}
	if action == decision.Write {
		in.Request.Method = "POST"
		in.Request.Body = &decision.Body{Size: 344, Format: decision.FormatRSABase64, KeyBits: 2048}
	}
	in.Target = decision.Target{
		InstanceID: in.Caller.InstanceID, ProjectID: in.Caller.ProjectID, Address: in.Caller.Address,
	}
	return in
}

// eventually polls until ok holds.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("never happened: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

// findingsOf gives the findings of an error from New or a LoadEvent.
func findingsOf(t testing.TB, err error) []Finding {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("got %T (%v), want *Error", err, err)
	}
	if len(e.Findings) == 0 {
		t.Fatal("an *Error without findings")
	}
	return e.Findings
}
