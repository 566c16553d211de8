# Operators read passwords, by a grant in data.json, but in office hours only. At any
# other time the grant is void; for the rest of the night there is the break-glass
# example.

package metaguard.team

# METADATA
# title: Outside of office hours
# description: Only of those who hold a grant, so that others are told what they lack.
deny contains "outside_office_hours" if {
	input.resource.kind == "password"
	input.resource.action == "read"
	"operator" in input.caller.roles
	"password:read" in data.metaguard.granted
	not _office_hours
}

# METADATA
# title: Office hours
# description: From the beginning of one hour to the beginning of another, in UTC. Without data it is never.
_office_hours if {
	now := time.now_ns()
	time.weekday(now) in data.office_hours.days
	[hour, _, _] := time.clock(now)
	hour >= data.office_hours.from
	hour < data.office_hours.until
}
