package metaguard_test

import data.metaguard
import data.metaguard.testing

_decide(request, team) := _judge(request, {}, team)

_empty := {"allow": false, "reasons": ["password_read_not_granted"], "status": 200}

test_password_read_without_grant_is_empty if {
	_decide(_for("password", "read", _i1), {}) == _empty
}

test_empty_is_for_the_instance_itself if {
	every caller in [_ann, testing.anonymous] {
		decision := _decide(_for("password", "read", caller), {})
		not decision.status
	}
	about := _decide(testing.about(_for("password", "read", _i1), "i-2", "p-1"), {})
	about == {"allow": false, "reasons": ["password_read_not_granted", "target_not_granted"]}
}

test_empty_is_for_password_reads_only if {
	every kind in _all_kinds - {"password", "unknown"} {
		decision := _decide(_for(kind, "read", _i1), {})
		not decision.status
	}
	other := _decide(testing.about(_for("password", "write", _i1), "i-2", "p-1"), {})
	not other.status
}

# The one status that a team's does not replace: an instance has to boot.
test_empty_whatever_status_the_team_says if {
	_decide(_for("password", "read", _i1), {"status": 404}) == _empty
}

test_team_deny_is_never_empty if {
	_decide(_for("password", "read", _i1), {"deny": {"no"}}) == {"allow": false, "reasons": ["no"]}
	_decide(_for("password", "read", _i1), {"deny": {"no"}, "status": 404}) == {"allow": false, "reasons": ["no"], "status": 404}
}

# A team whose rules deny nothing is no team that denies.
test_team_that_denies_nothing if {
	_decide(_for("health", "read", _i1), {"deny": set(), "allow": set()}) == {
		"allow": true,
		"reasons": ["health"],
		"redact": {"keys": ["admin_pass"]},
	}
}

test_empty_is_for_reading if {
	request := json.patch(_for("password", "read", _i1), [{"op": "replace", "path": "/resource/action", "value": "erase"}])
	_decide(request, {}) == {"allow": false, "reasons": ["resource_unknown"]}
}

test_team_status_of_a_refusal if {
	_decide(_for("credentials", "read", _i1), {"status": 404}).status == 404
	_decide(_for("unknown", "read", _i1), {"status": 403}) == {"allow": false, "reasons": ["resource_unknown"], "status": 403}
}

# Clients survive a 404 where nothing is, and the server itself says so.
test_unknown_is_not_found if {
	every caller in [_i1, _ann, testing.anonymous] {
		_decide(_for("unknown", "read", caller), {}) == {"allow": false, "reasons": ["resource_unknown"], "status": 404}
	}
	_decide(_for("unknown", "read", _i1), {"deny": {"no"}}) == {"allow": false, "reasons": ["no"]}
}

# What a team says that is no status reaches the guard, which refuses it.
test_team_status_passes_as_it_is if {
	_decide(_for("unknown", "read", _i1), {"status": false}).status == false
	_decide(_for("unknown", "read", _i1), {"status": "404"}).status == "404"
}

test_team_status_not_of_an_allow if {
	_decide(_for("health", "read", _i1), {"status": 404}) == {"allow": true, "reasons": ["health"], "redact": {"keys": ["admin_pass"]}}
}

test_nothing_without_input if {
	every request in [{}, null, [], "", {"resource": {"kind": "metadata"}, "caller": {}}] {
		_decide(request, {}).allow == false
	}
	_decide({}, {}) == {"allow": false, "reasons": ["not_allowed"]}
}

# What most requests come to at once is what the steps come to, which a grant of nothing
# makes it take.
test_most_requests_come_to_the_same if {
	every kind in _own_kinds | {"password"} {
		every action in {"read", "write"} {
			request := _for(kind, action, _i1)
			every asked in [request, testing.about(request, "i-2", "p-1"), testing.about(request, "", "")] {
				_comes_to_the_same(asked)
			}
		}
	}
}

_comes_to_the_same(request) if {
	every team in [{}, {"deny": {"no"}}, {"allow": {"yes"}}, {"deny": set(), "allow": set()}, {"redact_keys": {"x"}}, {"status": 404}] {
		_judge(request, {"instance_id": {"i-1": []}}, team) == _judge(request, {}, team)
	}
}

test_own_resources_with_a_role if {
	request := _for("metadata", "read", testing.instance_with_roles("i-1", "p-1", ["windows"]))
	_judge(request, {"role": {"windows": ["admin_pass:read"]}}, {}) == {"allow": true, "reasons": ["own_instance"]}
	_judge(request, {"role": {"linux": ["admin_pass:read"]}}, {}) == _decide(_for("metadata", "read", _i1), {})
}

# A rule that asks for a decision may replace what it rests on.
test_no_way_around_own if {
	decision := metaguard.decision with input as _for("metadata", "read", _i1)
		with data.metaguard.grants as {}
		with data.metaguard.team as {}
		with data.metaguard.own as false
	not decision.allow
}
