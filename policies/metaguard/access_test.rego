package metaguard_test

import data.metaguard
import data.metaguard.testing

_i1 := testing.instance("i-1", "p-1")

_ann := testing.user("ann", "p-1", ["admin"])

_own_kinds := {"listing", "metadata", "network", "userdata", "vendordata"}

_all_kinds := _own_kinds | {"credentials", "health", "password", "token", "unknown"}

# Whatever a team has loaded beside these tests, they judge without it.
_judge(request, grants, team) := decision if {
	decision := metaguard.decision with input as request
		with data.metaguard.grants as grants
		with data.metaguard.team as team
}

_allowed(request, grants) := _judge(request, grants, {}).allow

_reasons(request, grants) := _judge(request, grants, {}).reasons

_for(kind, action, caller) := testing.input_for("openstack", kind, action, caller)

test_instance_reads_its_own if {
	every kind in _own_kinds {
		_allowed(_for(kind, "read", _i1), {})
		_reasons(_for(kind, "read", _i1), {}) == ["own_instance"]
	}
}

test_instance_reads_nothing_else if {
	every kind in _all_kinds - (_own_kinds | {"health"}) {
		not _allowed(_for(kind, "read", _i1), {})
	}
}

test_instance_reads_no_other_instance if {
	every kind in _all_kinds - {"health"} {
		request := testing.about(_for(kind, "read", _i1), "i-2", "p-1")
		not _allowed(request, {})
		not _allowed(testing.with_session(request, 1), {})
	}
}

test_instance_writes_its_password_and_tokens_only if {
	writable := {kind | some kind in _all_kinds; _allowed(_for(kind, "write", _i1), {})}
	writable == {"password", "token"}
	_reasons(_for("password", "write", _i1), {}) == ["own_password_write"]
}

test_instance_writes_no_other_password if {
	request := testing.about(_for("password", "write", _i1), "i-2", "p-1")
	not _allowed(request, {})
	_reasons(request, {}) == ["password_write_not_granted", "target_not_granted"]
}

test_password_read_needs_a_grant if {
	request := _for("password", "read", _i1)
	not _allowed(request, {})
	_reasons(request, {}) == ["password_read_not_granted"]
	_allowed(request, {"project_id": {"p-1": ["password:read"]}})
	_reasons(request, {"project_id": {"p-1": ["password:read"]}}) == ["granted"]
	not _allowed(request, {"project_id": {"p-2": ["password:read"]}})
	not _allowed(request, {"project_id": {"p-1": ["password:write", "target:any", "admin_pass:read"]}})
}

# A session is no permission to read a password.
test_password_read_not_by_session if {
	not _allowed(testing.with_session(_for("password", "read", _i1), 1), {})
}

test_credentials_need_a_session_or_a_grant if {
	request := _for("credentials", "read", _i1)
	not _allowed(request, {})
	_reasons(request, {}) == ["credentials_read_not_granted", "session_not_valid"]
	_allowed(request, {"instance_id": {"i-1": ["credentials:read"]}})
	_allowed(testing.with_session(request, 12), {})
	_reasons(testing.with_session(request, 12), {}) == ["own_credentials_in_session"]
}

test_a_session_is_for_the_instance_itself if {
	request := testing.with_session(testing.about(_for("credentials", "read", _i1), "i-2", "p-1"), 12)
	_reasons(request, {}) == ["credentials_read_not_granted", "target_not_granted"]
}

test_credentials_not_with_an_invalid_session if {
	session := {"present": true, "valid": false, "age_seconds": 0}
	request := json.patch(_for("credentials", "read", _i1), [{"op": "replace", "path": "/session", "value": session}])
	not _allowed(request, {})
}

# In a session the instance itself may still only read.
test_credentials_are_never_written if {
	request := testing.with_session(_for("credentials", "write", _i1), 1)
	not _allowed(request, {"instance_id": {"i-1": ["credentials:read"]}})
	_reasons(request, {}) == ["resource_unknown", "session_not_valid"]
}

test_another_target_needs_both_grants if {
	request := testing.about(_for("password", "read", _ann), "i-2", "p-1")
	_allowed(request, {"role": {"admin": ["password:read", "target:any"]}})
	_allowed(request, {"role": {"admin": ["password:read"]}, "caller_id": {"user:ann": ["target:project"]}})
	not _allowed(request, {"role": {"admin": ["password:read"]}})
	_reasons(request, {"role": {"admin": ["password:read"]}}) == ["target_not_granted"]
	not _allowed(request, {"role": {"admin": ["target:any"]}})
	_reasons(request, {"role": {"admin": ["target:any"]}}) == ["password_read_not_granted"]
	not _allowed(request, {"role": {"admin": ["metadata:read", "target:any"]}})
}

test_health_for_anyone_identified if {
	_allowed(_for("health", "read", _i1), {})
	_allowed(testing.about(_for("health", "read", _ann), "", ""), {})
	_reasons(_for("health", "read", _ann), {}) == ["health"]
	not _allowed(_for("health", "write", _i1), {})
}

test_anonymous_gets_nothing if {
	every kind in _all_kinds {
		every action in {"read", "write"} {
			not _allowed(_for(kind, action, testing.anonymous), {})
			not _allowed(testing.with_session(_for(kind, action, testing.anonymous), 1), {})
			not _allowed(testing.about(_for(kind, action, testing.anonymous), "i-1", "p-1"), {})
		}
	}
	_reasons(_for("health", "read", testing.anonymous), {}) == ["health_read_not_granted"]
}

test_anonymous_health_as_a_grant if {
	request := testing.about(_for("health", "read", testing.anonymous), "", "")
	_allowed(request, {"caller_id": {"anonymous": ["health:read"]}})
	_reasons(request, {"caller_id": {"anonymous": ["health:read"]}}) == ["granted"]
}

test_caller_without_instance_gets_health_and_tokens_only if {
	allowed := {[kind, action] |
		some kind in _all_kinds
		some action in {"read", "write"}
		_allowed(_for(kind, action, _ann), {})
	}
	allowed == {["health", "read"], ["token", "write"]}
}

# Each grant opens its own resource and no other.
test_every_grant_opens_one_resource if {
	every kind, actions in metaguard._grants {
		every action, name in actions {
			opened := {[k, a] |
				some k in _all_kinds
				some a in {"read", "write"}
				_allowed(_for(k, a, _ann), {"caller_id": {"user:ann": [name]}})
			}
			opened == {[kind, action], ["health", "read"], ["token", "write"]}
			name == concat(":", [kind, action])
		}
	}
}

test_unknown_is_denied_with_every_grant if {
	names := [name | some actions in metaguard._grants; some name in actions]
	every caller in [_i1, _ann] {
		request := _for("unknown", "read", caller)
		not _allowed(request, {"project_id": {"p-1": array.concat(names, ["target:any", "unknown:read"])}})
		_reasons(request, {}) == ["resource_unknown"]
	}
}

test_a_kind_that_is_new_is_denied if {
	not _allowed(_for("weather", "read", _i1), {"instance_id": {"i-1": ["weather:read", "target:any"]}})
}

test_team_allow if {
	_judge(_for("unknown", "read", testing.anonymous), {}, {"allow": {"b_code", "a_code"}}) == {
		"allow": true,
		"reasons": ["a_code", "b_code"],
		"redact": {"keys": ["admin_pass"]},
	}
}

test_team_deny_beats_all if {
	team := {"allow": {"yes"}, "deny": {"no_b", "no_a"}, "redact_keys": {"x"}}
	_judge(_for("metadata", "read", _i1), {}, team) == {"allow": false, "reasons": ["no_a", "no_b"]}
}

test_grants_do_not_beat_team_deny if {
	grants := {"instance_id": {"i-1": ["password:read"]}}
	_judge(_for("password", "read", _i1), grants, {"deny": {"no"}}) == {"allow": false, "reasons": ["no"]}
}

# A token is for whoever is identified, an instance or not.
test_identified_gets_a_session_token if {
	every caller in [_i1, _ann] {
		request := _for("token", "write", caller)
		_allowed(request, {})
		_reasons(request, {}) == ["session_token"]
	}
	not _allowed(_for("token", "read", _i1), {})
	not _allowed(testing.about(_for("token", "write", _i1), "i-2", "p-1"), {})
}

# All anonymous callers would share one.
test_anonymous_gets_a_session_token_by_grant_only if {
	request := _for("token", "write", testing.anonymous)
	not _allowed(request, {})
	_reasons(request, {}) == ["token_write_not_granted"]
	_allowed(request, {"caller_id": {"anonymous": ["token:write"]}})
}

test_team_refuses_a_session_token if {
	not _judge(_for("token", "write", _i1), {}, {"deny": {"no_tokens"}}).allow
}
