// SPDX-License-Identifier: Apache-2.0

package policytool

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/format"
)

// hidesAdminPass is a rule of its own, since what is not hidden is not defined
// either.
const hidesAdminPass = "_hides_admin_pass if \"" + adminPass + "\" in metaguard.decision.redact.keys\n"

// regoHeader begins every file of tests, and each part of one while it is
// formatted: OPA's formatter takes too long for a large file as a whole.
const regoHeader = "package draft_test\n"

// tests writes a Rego test for each grant: a request as it was recorded is
// served with the grant, and not without it.
func (d *drafter) tests(p *plan) ([]byte, error) {
	grants := p.grants()
	held := map[holder][]string{}
	for _, g := range grants {
		held[g.holder] = append(held[g.holder], g.name)
	}
	parts := []string{
		"# A draft: each grant of " + dataFile + " that was seen to be needed, with a request that needs it.\n" +
			regoHeader + "\nimport data.metaguard\n",
	}
	var requests []string
	helper := ""
	names, numbers := map[string]int{}, map[*observed]int{}
	for _, g := range grants {
		o := p.witnesses[g]
		if numbers[o] == 0 {
			numbers[o] = len(numbers) + 1
			value, err := literal(o.input)
			if err != nil {
				return nil, err
			}
			requests = append(requests, fmt.Sprintf("# Decision %s of %s\n_request_%d := %s\n", comment(o.id), stamp(o.time), numbers[o], value))
		}
		request := fmt.Sprintf(" with input as _request_%d", numbers[o])
		if d.asksClock {
			request += fmt.Sprintf(" with time.now_ns as %d", o.time.UnixNano())
		}
		rest, err := withoutGrant(held[g.holder], g)
		if err != nil {
			return nil, err
		}
		served, unserved := "metaguard.decision.allow", "not metaguard.decision.allow"
		if g.name == adminPassGrant {
			served, unserved, helper = "not _hides_admin_pass", "_hides_admin_pass", hidesAdminPass
		}
		u := usesOf(p.uses[g])
		parts = append(parts,
			fmt.Sprintf("# %s for %s: seen %s, last at %s in decision %s.\n", g.name, comment(g.String()), times(u.count), stamp(u.last), comment(u.id))+
				fmt.Sprintf("%s if {\n\t%s%s\n\t%s%s with %s\n}\n", testName(g, names), served, request, unserved, request, rest))
	}
	parts = append(parts, requests...)
	if helper != "" {
		parts = append(parts, helper)
	}
	for i, part := range parts[1:] {
		formatted, err := format.SourceWithOpts(testFile, []byte(regoHeader+"\n"+part), format.Opts{RegoVersion: ast.RegoV1})
		if err != nil {
			return nil, fmt.Errorf("formatting the tests: %w", err)
		}
		parts[i+1] = strings.TrimPrefix(string(formatted), regoHeader+"\n")
	}
	return []byte(strings.Join(parts, "\n")), nil
}

// withoutGrant says in Rego that a holder has all of its grants but one.
func withoutGrant(held []string, without grant) (string, error) {
	names := slices.DeleteFunc(slices.Clone(held), func(name string) bool { return name == without.name })
	value, err := encode(without.value)
	if err != nil {
		return "", err
	}
	list, err := encode(names)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("data.metaguard.grants.%s[%s] as %s", without.attribute, value, list), nil
}

// literal is an input as Rego, with one line for each of its members.
func literal(input ast.Value) (string, error) {
	value, err := ast.JSON(input)
	if err != nil {
		return "", fmt.Errorf("writing a request: %w", err)
	}
	members, ok := value.(map[string]any)
	if !ok {
		return encode(value)
	}
	var b strings.Builder
	b.WriteString("{\n")
	for _, name := range slices.Sorted(maps.Keys(members)) {
		key, err := encode(name)
		if err != nil {
			return "", err
		}
		text, err := encode(members[name])
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&b, "\t%s: %s,\n", key, text)
	}
	b.WriteString("}")
	return b.String(), nil
}

// encode writes JSON, which is Rego too.
func encode(value any) (string, error) {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return "", fmt.Errorf("writing a request: %w", err)
	}
	return strings.TrimSpace(b.String()), nil
}

// testName makes a name of a grant that no other test has.
func testName(g grant, taken map[string]int) string {
	word := func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}
	name := "test_" + strings.Map(word, g.attribute+"_"+g.value+"_"+g.name)
	taken[name]++
	if n := taken[name]; n > 1 {
		name = fmt.Sprintf("%s__%d", name, n)
	}
	return name
}

// comment keeps what came from outside on its line.
func comment(text string) string {
	return strings.Join(slices.Collect(strings.FieldsFuncSeq(text, func(r rune) bool { return r < ' ' || r == 0x7f })), " ")
}

func stamp(at time.Time) string { return at.UTC().Format(time.RFC3339) }

func times(n int) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}
