# Passwords only for Windows images: an instance whose role is not "windows" has
# no password. It can neither write nor read one, and does not see one in a listing.
# Operators are no instances, and are left to their grants.

package metaguard.team

# METADATA
# title: Password of a Windows image
deny contains "password_not_windows" if {
	input.resource.kind == "password"
	input.caller.instance_id != ""
	not "windows" in input.caller.roles
}

# METADATA
# title: Status
# description: To such an instance there is no password at all.
status := 404 if input.resource.kind == "password"
