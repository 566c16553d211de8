// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/util"
	"go.yaml.in/yaml/v3"

	"github.com/metaguard/metaguard/module/decision"
	"github.com/metaguard/metaguard/module/pace"
)

// yamlGrants are the grants of so many instances in YAML, a line each.
func yamlGrants(holders int) string {
	var text strings.Builder
	text.WriteString("metaguard:\n  grants:\n    instance_id:\n")
	for i := range holders - 1 {
		fmt.Fprintf(&text, "      i-%d: [\"password:read\"]\n", i)
	}
	fmt.Fprintf(&text, "      %s: [\"password:read\"]\n", instance(decision.KindPassword, decision.Read).Caller.InstanceID)
	return text.String()
}

// A large object in YAML is a table as it is in JSON, and decides.
func TestLargeYAML(t *testing.T) {
	p := engine(t, Config{Paths: []string{dir(t, files{"a.yaml": yamlGrants(2 * tableFrom)})}}).Policy()
	if count := grantsOf(t, p).count; count != 2*tableFrom {
		t.Errorf("%d grants", count)
	}
	if r := p.Decide(t.Context(), instance(decision.KindPassword, decision.Read)); r.Reason != decision.PolicyAllow {
		t.Errorf("%+v", r)
	}
	for name, text := range map[string]string{
		"mistake": strings.Replace(yamlGrants(2*tableFrom), "i-1000: [\"password", "i-1000: [\"passwords", 1),
		"twice":   strings.Replace(yamlGrants(2*tableFrom), "i-1000:", "i-0:", 1),
	} {
		_, err := New(t.Context(), Config{Paths: []string{dir(t, files{"a.yaml": text})}})
		if found := findingsOf(t, err); len(found) != 1 || found[0].Line != 1004 {
			t.Errorf("%s: %v", name, found)
		}
	}
}

// An object that the parser would take minutes for is refused at once.
func TestTooLargeYAML(t *testing.T) {
	_, err := New(t.Context(), Config{Paths: []string{dir(t, files{"a.yaml": yamlGrants(10 * maxYAMLMembers)})}})
	if found := findingsOf(t, err); len(found) != 1 || found[0].Line != 4 || found[0].Code != CodeDataInvalid || !strings.Contains(found[0].Message, "JSON") {
		t.Errorf("%v", found)
	}
}

// FuzzYAML holds a document against how OPA reads it, and what is refused against the
// parser itself.
func FuzzYAML(f *testing.F) {
	for _, text := range []string{
		"a: 1\nb: [x, 2023-01-01, 0x10, .5, 1e3, yes, ~]\n", "a: &x {b: 1}\nc: *x\nd: {<<: *x, e: 2}\n", "a: 1\n'a': 2\n", "1: a\n\"1\": b\n", "? [a]\n: b\n",
		"a: |\n  text\n ", "a: 1\n---\nb: 2\n", "{\"a\": 1.0, \"b\": 1e400}", "%YAML 1.1\n---\na: !!int 1\n", "a: !!binary aGk=\n", "\ufeffa: 1\n", "a: 1\nb: *c\n", "",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		text, line, err := jsonOfYAML(content)
		if err != nil {
			if line < 0 || err.Error() == "" {
				t.Errorf("%d: %v", line, err)
			}
			return
		}
		var direct any
		if err := yaml.Unmarshal(content, &direct); err != nil && strings.Contains(err.Error(), "already defined") {
			t.Errorf("taken, where the parser says %v", err)
		}
		got, _, _, err := parseJSON(text, new(pace.Pace))
		var want any
		if refused := util.Unmarshal(content, &want); refused != nil {
			t.Fatalf("taken, where OPA says %v", refused)
		}
		if err != nil && json.Valid(content) {
			return // JSON in a file of YAML is read as strictly as JSON
		}
		if err != nil || !reflect.DeepEqual(plain(got), want) {
			t.Errorf("%v, OPA has %v (%v)", got, want, err)
		}
	})
}
