// SPDX-License-Identifier: Apache-2.0

package policies

import (
	"bytes"
	"encoding/json"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/storage/inmem"

	"github.com/metaguard/metaguard/module/dialect"
)

// update writes what tests make anew: the examples of input documents and the
// tables of the helpers.
var update = flag.Bool("update", false, "write the generated files")

var sampleAddress = netip.MustParseAddr("192.0.2.7")

func withData(data map[string]any) func(*rego.Rego) {
	return rego.Store(inmem.NewFromObject(data))
}

// generated compares a file with what it should be, or writes it.
func generated(t *testing.T, name string, want []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(name, want, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	got, err := os.ReadFile(name)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s is not what the dialects make (%v): go test ./policies -run '%s' -update", name, err, t.Name())
	}
}

// The examples are what the guard shows a policy of an instance's requests, one
// for each kind and method of each dialect.
func TestExamplesOfInput(t *testing.T) {
	wrong := matches(t, "input")
	var names []string
	for _, d := range dialects(t) {
		if described[d.Name()] != "" {
			continue // every server of it is another
		}
		var documents []any
		for _, in := range dialect.Samples(d) {
			document := roundTrip(t, sampleInput(in, "remote_ip", "instance:i-1", "i-1", "i-1", false))
			if found := wrong(document); found != "" {
				t.Errorf("%s %s %s: %s", d.Name(), in.Request.Method, in.Request.Path, found)
			}
			documents = append(documents, document)
		}
		var text bytes.Buffer
		encoder := json.NewEncoder(&text)
		encoder.SetEscapeHTML(false)
		encoder.SetIndent("", "  ")
		if err := encoder.Encode(documents); err != nil {
			t.Fatal(err)
		}
		generated(t, filepath.Join("schemas", "examples", d.Name()+".json"), text.Bytes())
		names = append(names, d.Name()+".json")
	}
	entries, err := os.ReadDir("schemas/examples")
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if !slices.Contains(names, entry.Name()) {
			t.Errorf("%s is of no dialect; there are %s", entry.Name(), strings.Join(names, " "))
		}
	}
}
