package metaguard

# METADATA
# title: Redact
# description: >-
#   What is hidden from an allowed answer: JSON pointers, member names at any depth
#   and entries of a listing, the built-in ones and the team's together. A member
#   is there only if it names something. What else is hidden is what this policy
#   refuses: the guard asks it for every entry of a listing, and for every member of
#   a document that holds a whole tree, as if the caller had asked for that alone.
_redact := {"keys": ["admin_pass"]} if {
	# What most requests come to, without the sets below.
	_hides_admin_pass
	not _team_hides
} else := {part: sort(hidden) |
	some part, hidden in {"json": _hidden_json, "keys": _hidden_keys, "listing": _hidden_entries}
	count(hidden) > 0
}

# METADATA
# title: Hides admin_pass
# description: >-
#   admin_pass is a password in clear that some clouds put into their metadata. A
#   password resource itself is never redacted: it passes as it was written or not
#   at all.
_hides_admin_pass if {
	input.resource.action == "read"
	input.resource.kind != "password"
	not "admin_pass:read" in granted
}

# METADATA
# title: The team hides keys
# description: There is more to hide than the built-in policy does, members by their names, at any depth.
_team_hides if data.metaguard.team.redact_keys

# METADATA
# title: The team hides members
# description: There is more to hide than the built-in policy does, members by their places.
_team_hides if data.metaguard.team.redact_json

# METADATA
# title: The team hides entries
# description: There is more to hide than the built-in policy does, entries of listings.
_team_hides if data.metaguard.team.redact_listing

# METADATA
# title: Hidden members
# description: JSON pointers that the team hides.
_hidden_json contains pointer if some pointer in data.metaguard.team.redact_json

# METADATA
# title: Hidden keys
# description: Names of members that are hidden at any depth.
_hidden_keys contains "admin_pass" if _hides_admin_pass

# METADATA
# title: Keys that the team hides
_hidden_keys contains name if some name in data.metaguard.team.redact_keys

# METADATA
# title: Hidden entries
# description: >-
#   Entries that the team hides from listings by name. Those that the same caller
#   could not read are no matter of this rule: the guard asks for each by itself.
_hidden_entries contains entry if some entry in data.metaguard.team.redact_listing
