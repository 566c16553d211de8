package break_glass_test

import data.metaguard
import data.metaguard.testing

_window := {
	"callers": {"user:officer": true, "user:former-officer": false},
	"from": "2026-03-01T08:00:00Z",
	"until": "2026-03-01T12:00:00Z",
}

_from := time.parse_rfc3339_ns("2026-03-01T08:00:00Z")

_until := time.parse_rfc3339_ns("2026-03-01T12:00:00Z")

_instance := testing.instance("i-1", "p-1")

_asks(user) := testing.about(testing.input_for("openstack", "password", "read", testing.user(user, "p-1", [])), "i-1", "p-1")

_decide(request, now, grants) := decision if {
	decision := metaguard.decision with input as request
		with data.break_glass as _window
		with data.metaguard.grants as grants
		with time.now_ns as now
}

test_the_officer_in_the_window if {
	every now in [_from, _until - 1] {
		_decide(_asks("officer"), now, {}) == {"allow": true, "reasons": ["break_glass"]}
	}
}

test_the_officer_outside_of_it if {
	every now in [_from - 1, _until] {
		decision := _decide(_asks("officer"), now, {})
		decision == {"allow": false, "reasons": ["password_read_not_granted", "target_not_granted"]}
	}
}

test_nobody_else_in_the_window if {
	every user in ["eve", "former-officer"] {
		not _decide(_asks(user), _from, {}).allow
	}
}

test_grants_are_void if {
	grants := {"project_id": {"p-1": ["password:read", "target:any"]}}
	every request in [_asks("eve"), testing.input_for("openstack", "password", "read", _instance)] {
		_decide(request, _from, grants) == {"allow": false, "reasons": ["passwords_are_sealed"]}
	}
}

test_a_grant_does_not_stop_the_officer if {
	_decide(_asks("officer"), _from, {"caller_id": {"user:officer": ["password:read"]}}).allow
}

# What lets cloudbase-init boot stays as it is.
test_an_instance_boots if {
	_decide(testing.input_for("openstack", "password", "read", _instance), _from, {}).status == 200
	_decide(testing.input_for("openstack", "password", "write", _instance), _from, {}).allow
}

test_the_window_opens_nothing_else if {
	request := testing.about(testing.input_for("openstack", "userdata", "read", testing.user("officer", "p-1", [])), "i-1", "p-1")
	not _decide(request, _from, {}).allow
}
