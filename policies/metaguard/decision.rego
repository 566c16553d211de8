# METADATA
# title: The built-in policy of Metaguard
# description: >-
#   An instance may read its own resources and write its password once. Reading a
#   password needs a grant; reading credentials needs a valid session or a grant;
#   acting on another's target needs a grant. admin_pass is hidden everywhere without
#   a grant. Health and session tokens are for anyone identified. Nobody else gets
#   anything. The guard hides from listings what this policy would refuse.
#
#   A team adds rules to package metaguard.team, all of them optional: the sets
#   allow, deny, redact_json, redact_keys and redact_listing, and the value status.
package metaguard

# METADATA
# title: The decision
# description: >-
#   What the guard enforces: `allow` and `reasons`, with `status` only in a refusal and
#   `redact` only in an allow (schemas/decision.json). A team's denial beats
#   everything; then one reason to allow is enough; then there is nothing.
# entrypoint: true
default decision := {"allow": false, "reasons": ["not_allowed"]}

# METADATA
# title: The decision, step by step
# description: >-
#   The first that holds: what most requests come to, the team's denial, an allow, with
#   what is hidden from the answer, the empty answer, a refusal with what is missing.
decision := {"allow": true, "reasons": ["own_instance"], "redact": {"keys": ["admin_pass"]}} if {
	# An instance that holds no grant reads its own, and no team says anything. The steps
	# below come to the same, at twice the cost.
	input.resource.action == "read"
	input.resource.kind in {"listing", "metadata", "network", "userdata", "vendordata"}
	own
	input.caller.roles == []
	not data.metaguard.grants.instance_id[input.caller.instance_id]
	not data.metaguard.grants.project_id[input.caller.project_id]
	not data.metaguard.grants.caller_id[input.caller.id]
	not _team_speaks
} else := _refusal(sort(data.metaguard.team.deny)) if {
	_denied
} else := {"allow": true, "reasons": sort(_permissions), "redact": _redact} if {
	count(_permissions) > 0
	count(_redact) > 0
} else := {"allow": true, "reasons": sort(_permissions)} if {
	count(_permissions) > 0
} else := {"allow": false, "reasons": sort(_missing), "status": 200} if {
	_answers_empty
} else := _refusal(sort(_missing)) if {
	count(_missing) > 0
}

# METADATA
# title: Refusal
# description: A refusal with the team's status, where it says one. Whether it is one of those that are valid is the guard's to judge.
_refusal(reasons) := {"allow": false, "reasons": reasons, "status": status} if {
	status := data.metaguard.team.status
} else := {"allow": false, "reasons": reasons, "status": 404} if {
	# What no server of this kind has. Clients that go through a list of their own,
	# such as ec2metadata, take any other status for the end.
	input.resource.kind == "unknown"
	"resource_unknown" in reasons
} else := {"allow": false, "reasons": reasons}

# METADATA
# title: Answers empty
# description: >-
#   An instance that may write its password but not read it is told, with status
#   200, that there is none: cloudbase-init asks before it writes and gives up on any
#   error. Where the team denies such a write, this does not hold.
_answers_empty if {
	input.resource.kind == "password"
	input.resource.action == "read"
	own # and so its write would be allowed
	not _denied with input.resource.action as "write"
		with input.request.method as "POST"
		with input.request.body as {"format": "rsa_base64", "key_bits": 2048, "size": 344}
}
