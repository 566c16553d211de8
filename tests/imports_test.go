// SPDX-License-Identifier: Apache-2.0

package tests

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const path = "github.com/metaguard/metaguard/"

// mayImport says who may import whom: cmd -> module -> the middle floor ->
// decision. The packages of the middle floor do not import one another; where
// two must talk, module hands one to the other.
var mayImport = map[string][]string{
	"cmd/metaguard": {"module", "module/legacy"},
	"module":        {"module/policy", "module/policytool", "module/doctor", "module/identity", "module/dialect", "module/session", "module/password", "module/response", "module/canonical", "module/legacy", "module/decision"},
	"module/policy": {"policies", "module/pace", "module/decision"},
	// The commands read what was recorded with the dialect's tables; they know
	// no server.
	"module/policytool": {"module/policy", "module/dialect", "module/decision", "policies"},
	// The doctor asks servers in the dialect's words; what needs the policy
	// engine is handed to it.
	"module/doctor":    {"module/dialect", "module/decision"},
	"module/identity":  {"module/pace", "module/decision"},
	"module/dialect":   {"module/decision"},
	"module/session":   {"module/decision"},
	"module/password":  {"module/decision"},
	"module/response":  {"module/decision"},
	"module/canonical": {"module/decision"},
	"module/legacy":    {"module/decision"},
	"module/pace":      {},
	"module/decision":  {},
	"policies":         {},
	"tests/harness":    {},
}

// mayNotKnow says which packages must do without a large dependency.
var mayNotKnow = map[string][]string{
	"module/decision":  {""}, // nothing but the standard library
	"module/pace":      {""},
	"module/policy":    {"github.com/caddyserver/caddy"},
	"module/canonical": {"github.com/caddyserver/caddy", "github.com/open-policy-agent/opa"},
	"module/response":  {"github.com/open-policy-agent/opa"},
	"module/identity":  {"github.com/open-policy-agent/opa"},
	"module/password":  {"github.com/open-policy-agent/opa"},
	"module/dialect":   {"github.com/open-policy-agent/opa"},
	"module/doctor":    {"github.com/open-policy-agent/opa"},
}

func TestImports(t *testing.T) {
	output, err := exec.Command("go", "list", "-json=ImportPath,Imports", path+"...").Output()
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for decoder := json.NewDecoder(strings.NewReader(string(output))); ; {
		var listed struct {
			ImportPath string
			Imports    []string
		}
		if err := decoder.Decode(&listed); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		name, ours := strings.CutPrefix(listed.ImportPath, path)
		if !ours {
			continue
		}
		seen++
		allowed, known := mayImport[name]
		if !known && !strings.HasPrefix(name, "tests") {
			t.Errorf("%s is not on the list of packages: say here what it may import", name)
			continue
		}
		for _, imported := range listed.Imports {
			if inner, ours := strings.CutPrefix(imported, path); ours {
				if known && !slices.Contains(allowed, inner) {
					t.Errorf("%s imports %s", name, inner)
				}
				continue
			}
			for _, forbidden := range mayNotKnow[name] {
				if strings.Contains(imported, ".") && strings.HasPrefix(imported, forbidden) {
					t.Errorf("%s imports %s", name, imported)
				}
			}
		}
	}
	if seen < 10 {
		t.Fatalf("only %d packages were listed", seen)
	}
}
