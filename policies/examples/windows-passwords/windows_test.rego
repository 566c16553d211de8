package windows_passwords_test

import data.metaguard
import data.metaguard.testing

_windows := testing.instance_with_roles("i-1", "p-1", ["windows"])

_linux := testing.instance_with_roles("i-2", "p-1", ["linux"])

_for(kind, action, caller) := testing.input_for("openstack", kind, action, caller)

test_windows_writes_its_password if {
	metaguard.decision.allow with input as _for("password", "write", _windows)
}

# cloudbase-init asks before it writes, and goes on after an empty 200 only.
test_windows_is_told_that_there_is_none if {
	metaguard.decision.status == 200 with input as _for("password", "read", _windows)
}

test_linux_has_no_password if {
	every action in {"read", "write"} {
		decision := metaguard.decision with input as _for("password", action, _linux)
		decision == {"allow": false, "reasons": ["password_not_windows"], "status": 404}
	}
}

test_a_grant_does_not_help_linux if {
	not metaguard.decision.allow with input as _for("password", "read", _linux)
		with data.metaguard.grants as {"project_id": {"p-1": ["password:read"]}}
}

test_the_listing_shows_it_to_windows_with_a_grant_only if {
	grants := {"project_id": {"p-1": ["password:read"]}}

	# It shows the entries that can be read.
	not metaguard.decision.allow with input as _for("password", "read", _linux)
		with data.metaguard.grants as grants
	metaguard.decision.allow with input as _for("password", "read", _windows)
		with data.metaguard.grants as grants
}

test_everything_else_is_as_before if {
	metaguard.decision.allow with input as _for("metadata", "read", _linux)
}

test_operators_are_left_to_their_grants if {
	request := testing.about(_for("password", "read", testing.user("ann", "p-1", ["admin"])), "i-1", "p-1")
	metaguard.decision.allow with input as request
		with data.metaguard.grants as {"role": {"admin": ["password:read", "target:project"]}}
	not metaguard.decision.allow with input as request
}
