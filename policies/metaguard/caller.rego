package metaguard

# METADATA
# title: Granted
# description: >-
#   The names of all grants that the caller holds, by its instance, its project,
#   its roles and its id. A policy may ask `"password:read" in data.metaguard.granted`.
#   Each attribute is one look-up by key, so the number of grants does not matter,
#   and an empty attribute holds none.
granted contains name if {
	some name in data.metaguard.grants.instance_id[input.caller.instance_id]
	input.caller.instance_id != ""
}

# METADATA
# title: Granted to the project
granted contains name if {
	some name in data.metaguard.grants.project_id[input.caller.project_id]
	input.caller.project_id != ""
}

# METADATA
# title: Granted to a role
granted contains name if {
	some role in input.caller.roles
	role != ""
	some name in data.metaguard.grants.role[role]
}

# METADATA
# title: Granted to the caller by its id
granted contains name if {
	some name in data.metaguard.grants.caller_id[input.caller.id]
	input.caller.id != ""
}

# METADATA
# title: Own
# description: The caller is an instance and asks for its own data.
own if {
	input.caller.instance_id != ""
	input.caller.instance_id == input.target.instance_id
}

# METADATA
# title: Within reach
# description: >-
#   The caller may act on this target: on itself without a grant, on the instances of
#   its project with `target:project`, on any with `target:any`. The health of a server
#   is no one's data and has no target.
_within_reach("health")

# METADATA
# title: Within reach of the instance itself
_within_reach(_) if own

# METADATA
# title: Within reach of the address itself
_within_reach(_) if _own_address

# METADATA
# title: Within reach by a grant on any target
_within_reach(_) if "target:any" in granted

# METADATA
# title: Within reach by a grant on the project
_within_reach(_) if {
	input.caller.project_id != ""
	input.caller.project_id == input.target.project_id
	"target:project" in granted
}

# METADATA
# title: Own address
# description: >-
#   Neither the caller nor the target is a known instance, and both have the same
#   verified address: the caller asks for itself.
_own_address if {
	input.caller.instance_id == ""
	input.target.instance_id == ""
	input.caller.address != ""
	input.caller.address == input.target.address
}

# METADATA
# title: Identified
# description: An identity source vouches for the caller.
_identified if {
	input.caller.source != ""
	input.caller.source != "anonymous"
}
