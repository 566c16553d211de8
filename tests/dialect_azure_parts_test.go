// SPDX-License-Identifier: Apache-2.0

package tests

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/metaguard/metaguard/tests/azureserver"
	"github.com/metaguard/metaguard/tests/harness"
)

// azureWalk visits every part of a document with its path below the instance.
func azureWalk(path string, node any, visit func(path string, value any, leaf bool)) {
	switch node := node.(type) {
	case map[string]any:
		visit(path, node, false)
		for _, name := range slices.Sorted(maps.Keys(node)) {
			azureWalk(path+"/"+name, node[name], visit)
		}
	case []any:
		visit(path, node, false)
		for i, element := range node {
			azureWalk(fmt.Sprint(path, "/", i), element, visit)
		}
	default:
		visit(path, node, true)
	}
}

// A document holds exactly the parts that could be had one by one, and a listing
// names exactly those.
func TestAzurePartsOfDocuments(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		rego string
		gone []string // what the policy hides, below the instance
	}{
		"all":       {``, nil},
		"user data": {`deny contains "user_data" if input.resource.kind == "userdata"`, []string{"/compute/customData", "/compute/userData"}},
		"by path":   {`deny contains "disk" if "encryptionSettings" in input.request.segments`, []string{"/compute/storageProfile/osDisk/encryptionSettings"}},
		"an element": {
			`deny contains "key" if startswith(input.resource.key, "instance/compute/publicKeys/1")`,
			[]string{"/compute/publicKeys/1"},
		},
		"listings": {"deny contains \"listing\" if input.resource.kind == \"listing\"\n\tinput.resource.key == \"instance/network\"", nil},
		"network":  {`deny contains "network" if input.resource.kind == "network"`, []string{"/network"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rego := "package metaguard.team\n\n" + strings.Replace(test.rego, " if ", " if {\n\tstartswith(input.caller.address, \"127.\")\n\t", 1)
			if test.rego != "" {
				rego += "\n}\n"
			}
			s := newAzureSite(t, byAddress, map[string]string{"policy/team.rego": rego})
			get := func(path, format string) harness.Answer {
				return s.ask(t, "127.0.0.1", "GET /metadata/instance"+path+azureVersion+"&extended=true"+format, azureMetadata)
			}
			var full any
			if err := json.Unmarshal([]byte(azureserver.Instance), &full); err != nil {
				t.Fatal(err)
			}
			got := make(map[string]bool)
			azureWalk("", azureDecode(t, get("", "").Body), func(path string, _ any, _ bool) { got[path] = true })
			var hidden []string
			azureWalk("", full, func(path string, value any, leaf bool) {
				alone := get(path, "&format=text")
				if !leaf {
					alone = get(path, "")
				}
				if (alone.Status == 200) != got[path] {
					t.Errorf("%s: alone %d, in the document %v", path, alone.Status, got[path])
				}
				if alone.Status != 200 {
					hidden = append(hidden, path)
					return
				}
				if leaf {
					if alone.Body != fmt.Sprint(value) {
						t.Errorf("%s: %q, want %v", path, alone.Body, value)
					}
					return
				}
				azureListing(t, path, get(path, "&format=text"), value, func(path string) bool {
					return get(path, "&format=text").Status == 200
				})
			})
			for _, path := range test.gone {
				if !slices.Contains(hidden, path) {
					t.Errorf("%s is not hidden", path)
				}
			}
			if len(test.gone) == 0 && len(hidden) > 0 {
				t.Errorf("hidden: %q", hidden)
			}
		})
	}
}

// An instance with all the disks that one can have (64, by the page about sizes)
// is redacted, too.
func TestAzureManyDisks(t *testing.T) {
	t.Parallel()
	s := newAzureSite(t, byAddress, nil)
	disks := azureDecode(t, azureserver.Instance).(map[string]any)
	storage := disks["compute"].(map[string]any)["storageProfile"].(map[string]any)
	one := storage["dataDisks"].([]any)
	for len(storage["dataDisks"].([]any)) < 64 {
		storage["dataDisks"] = append(storage["dataDisks"].([]any), one...)
	}
	document, err := json.Marshal(disks)
	if err != nil {
		t.Fatal(err)
	}
	s.upstream.Script(func(string) string { return harness.OK(string(document)) })
	start := time.Now()
	answer := s.ask(t, "127.0.0.1", "GET /metadata/instance"+azureVersion, azureMetadata)
	if answer.Status != 200 || answer.Body != string(document) {
		t.Errorf("%d %.200q", answer.Status, answer.Body)
	}
	t.Logf("%d bytes in %v", len(document), time.Since(start))
}

func azureDecode(t *testing.T, body string) (document any) {
	t.Helper()
	if err := json.Unmarshal([]byte(body), &document); err != nil {
		t.Fatalf("%v: %q", err, body)
	}
	return document
}

// azureListing holds a listing, if it may be read, against what it should name.
func azureListing(t *testing.T, path string, listing harness.Answer, node any, allowed func(path string) bool) {
	t.Helper()
	if listing.Status != 200 {
		return
	}
	named := strings.Fields(listing.Body)
	azureWalk(path, node, func(below string, _ any, _ bool) {
		name := strings.TrimPrefix(below, path+"/")
		if below == path || strings.Contains(name, "/") {
			return
		}
		listed := slices.Contains(named, name) || slices.Contains(named, name+"/")
		if alone := allowed(below); listed != alone {
			t.Errorf("%s names %q: %v, allowed alone: %v", path, name, listed, alone)
		}
	})
}

// What the page does not list is hidden from documents until it is known.
func TestAzureLaterNames(t *testing.T) {
	t.Parallel()
	s := newAzureSite(t, byAddress, nil)
	s.upstream.Script(func(string) string {
		return harness.OK(`{"compute": {"vmId": "a", "laterSecret": "PLANTED", "UserData": "PLANTED", "a b": "PLANTED"}, "later": {"x": "PLANTED"}}`)
	})
	answer := s.ask(t, "127.0.0.1", "GET /metadata/instance"+azureVersion, azureMetadata)
	if want := `{"compute": {"vmId": "a"}}`; answer.Status != 200 || answer.Body != want {
		t.Errorf("%d %s, want %s", answer.Status, answer.Body, want)
	}
}
