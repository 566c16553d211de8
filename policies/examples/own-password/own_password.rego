# Every instance may read its own password, whichever project it is in. No grant says
# "every instance", so this takes a rule. It opens what the built-in policy keeps
# shut: the smoke test finds it, and data.json accepts just that finding.

package metaguard.team

# METADATA
# title: Own password
# description: An instance reads its own password, and no other's.
allow contains "own_password" if {
	input.resource.kind == "password"
	input.resource.action == "read"
	data.metaguard.own
}
