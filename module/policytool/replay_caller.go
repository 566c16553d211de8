// SPDX-License-Identifier: Apache-2.0

package policytool

import (
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// callers is a group of callers that one grant or rule would reach alike.
type callers struct {
	// name is the group's part of a name, such as neutron:project:6a0f.
	name string
	// text is the group in words.
	text string
}

// callerOf tells the group of a caller: an instance by its project, whoever
// else by its roles, and in either case by the source that vouches for it,
// since some can be trusted more than others.
func callerOf(input ast.Value) callers {
	source := text(input, "caller", "source")
	instance := text(input, "caller", "instance_id") != ""
	project := text(input, "caller", "project_id")
	roles := sorted(texts(get(input, "caller", "roles")))
	if source == "" || source == "anonymous" {
		return callers{name: "anonymous", text: "anonymous"}
	}
	name, words := escape(source)+":", "callers"
	switch {
	case instance && project != "":
		name, words = name+"project:"+escape(project), "instances of project "+project
	case len(roles) > 0:
		name, words = name+"role:"+escape(roles...), "role "+strings.Join(roles, ", ")
	case instance:
		name, words = name+"instances", "instances"
	case project != "":
		name, words = name+"members:"+escape(project), "members of project "+project
	default:
		name += "callers"
	}
	return callers{name: name, text: words + " (" + source + ")"}
}
