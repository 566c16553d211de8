package metaguard_test

import data.metaguard
import data.metaguard.testing

_redact(request, grants) := _judge(request, grants, {}).redact

_hidden(request, grants) := {entry | some entry in _redact(request, grants).listing}

_password_read := {"instance_id": {"i-1": ["password:read"]}}

test_admin_pass_is_hidden if {
	every kind in {"metadata", "network", "userdata", "vendordata"} {
		_redact(_for(kind, "read", _i1), {}) == {"keys": ["admin_pass"]}
	}
}

test_admin_pass_with_a_grant if {
	grants := {"instance_id": {"i-1": ["admin_pass:read"]}}
	_judge(_for("metadata", "read", _i1), grants, {}) == {"allow": true, "reasons": ["own_instance"]}
}

test_admin_pass_not_with_another_grant if {
	_redact(_for("metadata", "read", _i1), _password_read) == {"keys": ["admin_pass"]}
}

test_a_password_is_never_rewritten if {
	_judge(_for("password", "read", _i1), _password_read, {}) == {"allow": true, "reasons": ["granted"]}
}

test_a_write_has_nothing_to_hide if {
	_judge(_for("password", "write", _i1), {}, {}) == {"allow": true, "reasons": ["own_password_write"]}
	_judge(_for("token", "write", _i1), {}, {}) == {"allow": true, "reasons": ["session_token"]}
}

test_password_is_hidden_in_listings if {
	every version in ["2013-04-04", "2020-10-14", "latest"] {
		request := testing.at(_for("listing", "read", _i1), ["openstack", version])
		_hidden(request, {}) == {"password"}
		_hidden(request, _password_read) == set()
		_hidden(testing.at(request, ["openstack", version, "version"]), {}) == {"password"}
	}
}

test_other_listings_hide_nothing if {
	every segments in [[], ["openstack"], ["ec2"], ["latest"], ["ec2", "latest"], ["latest", "meta-data"], ["latest", "meta-data", "placement"]] {
		_hidden(testing.at(_for("listing", "read", _i1), segments), {}) == set()
	}
}

test_other_dialects_hide_nothing_yet if {
	request := testing.at(testing.input_for("generic", "listing", "read", _i1), ["openstack", "latest"])
	_hidden(request, {}) == set()
}

# What is no listing has no entries, whatever its path.
test_no_listing_no_entries if {
	_hidden(testing.at(_for("metadata", "read", _i1), ["openstack", "latest"]), {}) == set()
}

test_a_caller_sees_what_it_may_read if {
	grants := {"role": {"admin": ["listing:read", "userdata:read", "target:any"]}}
	request := testing.about(_for("listing", "read", _ann), "i-2", "p-2")
	_hidden(request, grants) == {"meta_data.json", "network_data.json", "password", "vendor_data.json", "vendor_data2.json"}
	_hidden(testing.at(request, ["ec2", "latest"]), grants) == set()
	_hidden(testing.at(request, ["latest"]), {"role": {"admin": ["listing:read", "target:any"]}}) == {"user-data"}
}

# Only a version's own listing has entries to tell apart.
test_a_caller_that_may_only_list if {
	request := testing.about(_for("listing", "read", _ann), "i-2", "p-2")
	grants := {"role": {"admin": ["listing:read", "metadata:read", "target:any"]}}
	_hidden(testing.at(request, ["latest"]), grants) == {"user-data"}
	_hidden(testing.at(request, ["ec2"]), grants) == set()
	_hidden(testing.at(request, ["latest", "meta-data"]), grants) == set()
	_hidden(json.patch(testing.at(request, ["latest"]), [{"op": "replace", "path": "/resource/kind", "value": "metadata"}]), grants) == set()
	_hidden(json.patch(testing.at(request, ["latest"]), [{"op": "replace", "path": "/resource/dialect", "value": "generic"}]), grants) == set()
}

test_listings_follow_a_team_that_allows if {
	decision := _judge(_for("listing", "read", _i1), {}, {"allow": {"all"}})
	decision.allow
	not decision.redact.listing
}

# Rules that differ by entry are tested with a real team, in team_test.go.
test_entries_that_the_team_denies if {
	hidden := metaguard._hidden_entries with input as _for("listing", "read", _i1)
		with data.metaguard.grants as {}
		with data.metaguard.team as {"deny": {"no"}}
	hidden == {"meta_data.json", "network_data.json", "password", "user_data", "vendor_data.json", "vendor_data2.json"}
}

test_team_redact if {
	team := {
		"redact_json": {"/meta/b", "/meta/a"},
		"redact_keys": {"random_seed"},
		"redact_listing": {"user_data"},
	}
	_judge(_for("listing", "read", _i1), {}, team).redact == {
		"json": ["/meta/a", "/meta/b"],
		"keys": ["admin_pass", "random_seed"],
		"listing": ["password", "user_data"],
	}
}
