package metaguard

# METADATA
# title: The vocabulary of grants
# description: >-
#   Every grant that there is for a resource, by its kind and action. What is not
#   here cannot be granted as data, kind `unknown` above all. Beside these there
#   are `target:project`, `target:any` (caller.rego) and `admin_pass:read`
#   (answer.rego).
_grants := {
	"credentials": {"read": "credentials:read"},
	"health": {"read": "health:read"},
	"listing": {"read": "listing:read"},
	"metadata": {"read": "metadata:read"},
	"network": {"read": "network:read"},
	"password": {"read": "password:read", "write": "password:write"},
	"token": {"read": "token:read", "write": "token:write"},
	"userdata": {"read": "userdata:read"},
	"vendordata": {"read": "vendordata:read"},
}

# METADATA
# title: Reason
# description: >-
#   Why the built-in rules allow this request: the first reason that holds. Undefined
#   means that they do not.
_reason := "own_instance" if {
	input.resource.action == "read"
	input.resource.kind in {"listing", "metadata", "network", "userdata", "vendordata"}
	own
} else := "own_password_write" if {
	# That it happens only once is the latch's work: a policy keeps no state.
	input.resource.action == "write"
	input.resource.kind == "password"
	own
} else := "own_credentials_in_session" if {
	input.resource.action == "read"
	input.resource.kind == "credentials"
	input.session.valid == true
	own
} else := "health" if {
	input.resource.action == "read"
	input.resource.kind == "health"
	_identified
} else := "session_token" if {
	# An anonymous caller's token would be that of every anonymous caller.
	input.resource.action == "write"
	input.resource.kind == "token"
	input.target.instance_id == input.caller.instance_id
	_identified
} else := "granted" if {
	_grants[input.resource.kind][input.resource.action] in granted
	_within_reach(input.resource.kind)
}

# METADATA
# title: Permissions
# description: The reasons to allow this request, the built-in one and the team's. None means no.
_permissions contains _reason

# METADATA
# title: Permissions of the team
_permissions contains code if some code in data.metaguard.team.allow

# METADATA
# title: Denied
# description: The team refuses this request. One reason is enough, whatever allows it.
_denied if count(data.metaguard.team.deny) > 0

# METADATA
# title: Allowed by the team
# description: The team allows this request, whatever the built-in rules say.
_team_allows if count(data.metaguard.team.allow) > 0

# METADATA
# title: The team speaks
# description: >-
#   The team has a say in this request. Where none of its rules looks at the request,
#   this is known before there is one.
_team_speaks if _denied

# METADATA
# title: The team speaks by an allow
_team_speaks if _team_allows

# METADATA
# title: The team speaks by what it hides
_team_speaks if _team_hides

# METADATA
# title: Missing
# description: Why nothing allows this request. Read only where nothing does. What there is no grant for is unknown.
_missing contains "resource_unknown" if not _grants[input.resource.kind][input.resource.action]

# METADATA
# title: Missing grant
_missing contains code if {
	grant := _grants[input.resource.kind][input.resource.action]
	not grant in granted
	code := concat("_", [input.resource.kind, input.resource.action, "not_granted"])
}

# METADATA
# title: Missing session
_missing contains "session_not_valid" if {
	input.resource.kind == "credentials"
	own
}

# METADATA
# title: Missing grant on the target
_missing contains "target_not_granted" if not _within_reach(input.resource.kind)
