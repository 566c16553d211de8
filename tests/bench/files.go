// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"
)

// granted is how many of the callers have a grant.
const granted = 1000

// grants are those of a site that uses them: some callers may read their password.
func grants() map[string]string {
	return map[string]string{"policy/data.json": grantsOf(granted)}
}

// toldApart has a policy tell all callers apart, by a rule that is asked in refusals only:
// a verdict is remembered for all that are alike, and a decision never seen would be rare.
func toldApart(files map[string]string) map[string]string {
	files["policy/apart.rego"] = "package metaguard.team\n\nstatus := 404 if startswith(input.caller.instance_id, \"-\")\n"
	return files
}

// grantsOf gives the first n callers a grant.
func grantsOf(n int) string {
	var text strings.Builder
	text.WriteString(`{"metaguard": {"grants": {"instance_id": {`)
	for i := range n {
		if i > 0 {
			text.WriteString(",\n")
		}
		one := newCaller(uint64(i))
		fmt.Fprintf(&text, "%q: [\"password:read\"]", one.instance)
	}
	text.WriteString("}}}}\n")
	return text.String()
}

// inventory knows every caller of the crowd by its address.
func inventory() map[string]string {
	files := grants()
	files["inventory.json"] = inventoryOf(callerCount)
	return files
}

func inventoryOf(n int) string {
	var text strings.Builder
	text.WriteString("[\n")
	for i := range n {
		if i > 0 {
			text.WriteString(",\n")
		}
		one := newCaller(uint64(i))
		fmt.Fprintf(&text, `{"address": %q, "instance_id": %q, "project_id": %q}`, one.address, one.instance, one.project)
	}
	text.WriteString("\n]\n")
	return text.String()
}

// naive is a rule as a team writes it first: it looks through a list.
func naive() map[string]string {
	files := grants()
	files["policy/team.rego"] = `package metaguard.team

_blocked_agents := ["curl/7.1", "wget/1.0", "python-urllib/2.7", "go-http-client/1.0", "libwww-perl/6.0"]

deny contains "agent_blocked" if {
	some agent in _blocked_agents
	startswith(lower(input.request.headers["user-agent"]), agent)
}

deny contains "weekend_project" if {
	some project in ["ffffffffffffffffffffffffffffffff", "eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee"]
	input.caller.project_id == project
	input.resource.kind == "userdata"
}
`
	return files
}
