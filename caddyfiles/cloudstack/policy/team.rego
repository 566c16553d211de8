# CloudStack's clients read the password that the router has made, acknowledge it, and
# set it. The built-in policy alone answers that there is none; data.json accepts that
# this opens it.
package metaguard.team

# METADATA
# title: Own password
# description: An instance reads the password that was made for it, and no other's.
allow contains "own_password" if {
	input.resource.kind == "password"
	input.resource.action == "read"
	data.metaguard.own
}
