// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"
	"slices"
	"strings"

	"github.com/metaguard/metaguard/module/pace"
)

// grantAttributes are what grants can be keyed by.
var grantAttributes = []string{"instance_id", "project_id", "role", "caller_id"}

// ownData are the names below data.metaguard that belong to the operator.
var ownData = []string{"grants", "settings"}

// checkNames refuses data that the built-in policy would not read.
func (d document) checkNames(p *pace.Pace, bad *findings) {
	refuse := func(path []string, hint, format string, args ...any) {
		d.refuse(bad, CodeDataUnknownName, path, hint, format, args...)
	}
	for _, name := range sortedKeys(d.root) {
		if slices.Contains(ownData, name) {
			refuse([]string{name}, "put it under metaguard", "data.%s is read by no rule of the built-in policy", name)
			continue
		}
		if name != "metaguard" && nearest(name, []string{"metaguard"}) != "" {
			refuse([]string{name}, `did you mean "metaguard"?`, "data.%s is read by no rule of the built-in policy", name)
		}
	}
	if len(d.prefix) > 0 && d.prefix[0] != "metaguard" {
		path := append(slices.Clone(d.prefix), "metaguard")
		if has(d.root, path) {
			refuse(path, "names of directories are part of the path of data: move the file up", "this lands at %s, where nothing reads it", dataPath(path))
		}
	}
	own, ok := objectOf(d.root["metaguard"])
	if !ok {
		if value, exists := d.root["metaguard"]; exists {
			refuse([]string{"metaguard"}, "", "data.metaguard must be an object, this is %s", kindOf(value))
		}
		return
	}
	for _, name := range sortedKeys(own) {
		if slices.Contains(ownData, name) {
			continue
		}
		hint := didYouMean(name, ownData)
		if hint == "" {
			hint = "there are: " + strings.Join(ownData, " ") + "; a team's own data belongs elsewhere below data"
		}
		refuse([]string{"metaguard", name}, hint, "data.metaguard.%s means nothing", name)
	}
	if grants, ok := own["grants"]; ok {
		d.checkGrants(grants, p, bad)
	}
	if settings, ok := own["settings"]; ok {
		d.checkSettings(settings, bad)
	}
}

// checkSettings checks data.metaguard.settings, which holds what the smoke test
// shall accept.
func (d document) checkSettings(settings any, bad *findings) {
	at := []string{"metaguard", "settings"}
	refuse := func(path []string, hint, format string, args ...any) {
		d.refuse(bad, CodeSettingsInvalid, path, hint, format, args...)
	}
	object, ok := objectOf(settings)
	if !ok {
		refuse(at, "", "%s must be an object, this is %s", dataPath(at), kindOf(settings))
		return
	}
	for _, name := range sortedKeys(object) {
		path := append(slices.Clone(at), name)
		if name != "accept" {
			hint := didYouMean(name, []string{"accept"})
			if hint == "" {
				hint = "there is: accept"
			}
			refuse(path, hint, "%s means nothing", dataPath(path))
			continue
		}
		list, ok := object[name].([]any)
		if !ok {
			refuse(path, "", "%s must be an array of strings, this is %s", dataPath(path), kindOf(object[name]))
			continue
		}
		for _, item := range list {
			if text, ok := item.(string); !ok || !acceptable.MatchString(text) {
				refuse(path, `write what the smoke test says, such as "password:read by own"`, "%s holds %v, which is no finding of the smoke test", dataPath(path), item)
			}
		}
	}
}

// Accepted is what data.metaguard.settings.accept lists in a policy that was loaded.
func Accepted(data map[string]any) []string {
	own, _ := objectOf(data["metaguard"])
	settings, _ := objectOf(own["settings"])
	list, _ := settings["accept"].([]any)
	names := make([]string, 0, len(list))
	for _, item := range list {
		if name, ok := item.(string); ok {
			names = append(names, name)
		}
	}
	return names
}

// checkGrants checks data.metaguard.grants.<attribute>.<value> = ["kind:action", …].
func (d document) checkGrants(grants any, p *pace.Pace, bad *findings) {
	at := []string{"metaguard", "grants"}
	refuse := func(path []string, hint, format string, args ...any) {
		d.refuse(bad, CodeGrantInvalid, path, hint, format, args...)
	}
	attributes, ok := objectOf(grants)
	if !ok {
		refuse(at, "", "%s must be an object, this is %s", dataPath(at), kindOf(grants))
		return
	}
	for _, attribute := range sortedKeys(attributes) {
		path := append(slices.Clone(at), attribute)
		if !slices.Contains(grantAttributes, attribute) {
			hint := didYouMean(attribute, grantAttributes)
			if hint == "" {
				hint = "there are: " + strings.Join(grantAttributes, " ")
			}
			refuse(path, hint, "a grant cannot be keyed by %q", attribute)
			continue
		}
		holders, ok := membersOf(attributes[attribute])
		if !ok {
			refuse(path, "", "%s must be an object, this is %s", dataPath(path), kindOf(attributes[attribute]))
			continue
		}
		wrong := map[string]string{} // few, of a million
		for holder, grants := range holders {
			if p.Step(); holder == "" {
				refuse(path, "", "%s has an empty name, which nobody has", dataPath(path))
			}
			if why := badGrant(grants); why != "" {
				wrong[holder] = why
			}
		}
		for _, holder := range sortedKeys(wrong) {
			path := append(slices.Clone(path), holder)
			refuse(path, `write it as ["password:read"]`, "%s %s", dataPath(path), wrong[holder])
		}
	}
}

// grantNames are the grants that the built-in policy reads, as in
// schemas/data.json.
var grantNames = []string{
	"admin_pass:read", "credentials:read", "health:read", "listing:read", "metadata:read", "network:read",
	"password:read", "password:write", "target:any", "target:project", "token:read", "token:write",
	"userdata:read", "vendordata:read",
}

// badGrant says what is wrong with the list of one holder, or "".
func badGrant(value any) string {
	list, ok := value.([]any)
	if !ok {
		return "must be an array of strings, this is " + kindOf(value)
	}
	for _, item := range list {
		name, ok := item.(string)
		if !ok {
			return "must hold strings only, this holds " + kindOf(item)
		}
		if !slices.Contains(grantNames, name) {
			return strings.TrimSpace(fmt.Sprintf("holds %q, which grants nothing; %s", name, didYouMean(name, grantNames)))
		}
	}
	return ""
}
