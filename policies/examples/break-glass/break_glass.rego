# Nobody reads passwords: no grant opens one. In an emergency a named caller may
# read those of all instances, between two instants in data.json. An instance may
# still write its own.

package metaguard.team

# METADATA
# title: Sealed
# description: A grant for password reads, wherever it comes from, is void.
deny contains "passwords_are_sealed" if {
	_reads_password
	"password:read" in data.metaguard.granted
	not _glass_broken
}

# METADATA
# title: Break glass
allow contains "break_glass" if {
	_reads_password
	_glass_broken
}

# METADATA
# title: Reads a password
_reads_password if {
	input.resource.kind == "password"
	input.resource.action == "read"
}

# METADATA
# title: Glass broken
# description: >-
#   The window begins at `from` and ends before `until`. A date that cannot be read is
#   an error, and an error is a refusal.
_glass_broken if {
	data.break_glass.callers[input.caller.id] == true
	now := time.now_ns()
	now >= time.parse_rfc3339_ns(data.break_glass.from)
	now < time.parse_rfc3339_ns(data.break_glass.until)
}
