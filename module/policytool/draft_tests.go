// SPDX-License-Identifier: Apache-2.0

package policytool

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/format"
)

// tests writes a Rego test for each grant: a request as it was recorded is
// served with the grant, and not without it.
func (d *drafter) tests(p *plan) ([]byte, error) {
	var tests, requests bytes.Buffer
	names, numbers := map[string]int{}, map[*observed]int{}
	for _, g := range p.grants() {
		o := p.witnesses[g]
		if numbers[o] == 0 {
			numbers[o] = len(numbers) + 1
			literal, err := literal(o.input)
			if err != nil {
				return nil, err
			}
			fmt.Fprintf(&requests, "\n# Decision %s of %s\n_request_%d := %s\n", comment(o.id), stamp(o.time), numbers[o], literal)
		}
		request := fmt.Sprintf(" with input as _request_%d", numbers[o])
		if d.asksClock {
			request += fmt.Sprintf(" with time.now_ns as %d", o.time.UnixNano())
		}
		rest, err := d.others(p, g)
		if err != nil {
			return nil, err
		}
		served, unserved := "metaguard.decision.allow", "not metaguard.decision.allow"
		if g.name == adminPassGrant {
			served, unserved = `not "admin_pass" in metaguard.decision.redact.keys`, `"admin_pass" in metaguard.decision.redact.keys`
		}
		u := usesOf(p.uses[g])
		fmt.Fprintf(&tests, "\n# %s for %s: seen %s, last at %s in decision %s.\n", g.name, comment(g.String()), times(u.count), stamp(u.last), comment(u.id))
		fmt.Fprintf(&tests, "%s if {\n\t%s%s\n\t%s%s with %s\n}\n", testName(g, names), served, request, unserved, request, rest)
	}
	text := "# A draft: each grant of " + dataFile + " that was seen to be needed, with a request that needs it.\n" +
		"package draft_test\n\nimport data.metaguard\n" + tests.String() + requests.String()
	formatted, err := format.SourceWithOpts(testFile, []byte(text), format.Opts{RegoVersion: ast.RegoV1})
	if err != nil {
		return nil, fmt.Errorf("formatting the tests: %w", err)
	}
	return formatted, nil
}

// others says in Rego what a holder has without one grant.
func (d *drafter) others(p *plan, without grant) (string, error) {
	names := []string{}
	for _, g := range p.grants() {
		if g.holder == without.holder && g != without {
			names = append(names, g.name)
		}
	}
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
	object, ok := input.(ast.Object)
	if !ok {
		return input.String(), nil
	}
	var b strings.Builder
	b.WriteString("{\n")
	for _, key := range object.Keys() {
		value, err := ast.JSON(object.Get(key).Value)
		if err != nil {
			return "", fmt.Errorf("writing a request: %w", err)
		}
		text, err := encode(value)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&b, "\t%v: %s,\n", key, text)
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
