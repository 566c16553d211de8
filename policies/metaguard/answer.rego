package metaguard

# METADATA
# title: Redact
# description: >-
#   What is hidden from an allowed answer: JSON pointers, member names at any depth
#   and entries of a listing, the built-in ones and the team's together. A member
#   is there only if it names something.
_redact := {part: sort(hidden) |
	some part, hidden in {"json": _hidden_json, "keys": _hidden_keys, "listing": _hidden_entries}
	count(hidden) > 0
}

# METADATA
# title: Hidden members
# description: JSON pointers that the team hides.
_hidden_json contains pointer if some pointer in data.metaguard.team.redact_json

# METADATA
# title: Hidden keys
# description: >-
#   Names of members that are hidden at any depth. admin_pass is a password in
#   clear that some clouds put into their metadata. A password resource itself is never
#   redacted: it passes as it was written or not at all.
_hidden_keys contains "admin_pass" if {
	input.resource.action == "read"
	input.resource.kind != "password"
	not "admin_pass:read" in granted
}

# METADATA
# title: Keys that the team hides
_hidden_keys contains name if some name in data.metaguard.team.redact_keys

# METADATA
# title: Hidden entries
# description: >-
#   The entries of a listing that the same caller could not read: those that the
#   built-in rules do not allow and the team neither, and those that the team denies.
#   The team's rules judge each as if it were asked for.
_hidden_entries contains entry if {
	some entry, kind in _listed
	not _reason(kind, "read")
	not _team_allows(entry, kind)
}

# METADATA
# title: Entries that the team denies
_hidden_entries contains entry if {
	data.metaguard.team.deny # without such rules there is nothing to ask
	some entry, kind in _listed
	_team_denies(entry, kind)
}

# METADATA
# title: Entries that the team hides by name
_hidden_entries contains entry if some entry in data.metaguard.team.redact_listing

# METADATA
# title: Team allows
# description: The team would allow reading this entry.
_team_allows(entry, kind) if {
	segments := _segments(entry)
	count(data.metaguard.team.allow) > 0 with input.resource.kind as kind
		with input.resource.key as entry
		with input.resource.sensitive as kind == "password"
		with input.request.segments as segments
		with input.request.path as concat("", ["/", concat("/", segments)])
}

# METADATA
# title: Team denies
# description: The team would deny reading this entry.
_team_denies(entry, kind) if {
	segments := _segments(entry)
	count(data.metaguard.team.deny) > 0 with input.resource.kind as kind
		with input.resource.key as entry
		with input.resource.sensitive as kind == "password"
		with input.request.segments as segments
		with input.request.path as concat("", ["/", concat("/", segments)])
}

# METADATA
# title: Segments
# description: The path of an entry. The listing `version` stands beside what it lists.
_segments(entry) := array.concat(array.slice(input.request.segments, 0, 2), [entry])

# METADATA
# title: Entries
# description: >-
#   What a version's listing can name, by tree, and of what kind it is. Below
#   meta-data everything is metadata, so there is nothing to tell apart.
_entries := {
	"ec2": {
		"meta-data": "listing",
		"user-data": "userdata",
	},
	"openstack": {
		"meta_data.json": "metadata",
		"network_data.json": "network",
		"password": "password",
		"user_data": "userdata",
		"vendor_data.json": "vendordata",
		"vendor_data2.json": "vendordata",
	},
}

# METADATA
# title: Listed
# description: What this listing can name. Nova has two trees of versions.
_listed := _entries.openstack if {
	input.resource.kind == "listing"
	input.resource.dialect == "openstack"
	input.request.segments[0] == "openstack"
	input.resource.version != ""
}

# METADATA
# title: Listed in the EC2 tree
_listed := _entries.ec2 if {
	input.resource.kind == "listing"
	input.resource.dialect == "openstack"
	input.request.segments[0] != "openstack"
	input.resource.version != ""
	input.resource.key == ""
}
