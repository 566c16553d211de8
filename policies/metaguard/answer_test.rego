package metaguard_test

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

# Entries are asked for one by one.
test_listings_name_no_entries if {
	every segments in [[], ["openstack"], ["openstack", "latest"], ["openstack", "latest", "version"], ["latest"], ["latest", "meta-data"]] {
		_hidden(testing.at(_for("listing", "read", _i1), segments), {}) == set()
	}
}

test_an_entry_is_a_request if {
	entries := {
		"meta_data.json": "metadata",
		"network_data.json": "network",
		"password": "password",
		"user_data": "userdata",
		"vendor_data.json": "vendordata",
		"nothing": "unknown",
	}
	shown := {entry | some entry, kind in entries; _judge(_for(kind, "read", _i1), {}, {}).allow}
	shown == {"meta_data.json", "network_data.json", "user_data", "vendor_data.json"}
	with_a_grant := {entry | some entry, kind in entries; _judge(_for(kind, "read", _i1), _password_read, {}).allow}
	with_a_grant == shown | {"password"}
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
		"listing": ["user_data"],
	}
}

# What a team hides of one kind comes to what the built-in policy hides.
test_team_redact_one_kind if {
	request := _for("metadata", "read", _i1)
	_judge(request, {}, {"redact_json": {"/a"}}).redact == {"json": ["/a"], "keys": ["admin_pass"]}
	_judge(request, {}, {"redact_keys": {"a"}}).redact == {"keys": ["a", "admin_pass"]}
	_judge(request, {}, {"redact_listing": {"a"}}).redact == {"keys": ["admin_pass"], "listing": ["a"]}
	_judge(request, {}, {"redact_json": set(), "redact_keys": set(), "redact_listing": set()}).redact == {"keys": ["admin_pass"]}
}
