package office_hours_test

import data.metaguard
import data.metaguard.testing

_grants := {"role": {"operator": ["password:read", "target:project"], "auditor": ["password:read", "target:project"]}}

_hours := {"days": ["Monday", "Friday"], "from": 7, "until": 17}

_read(roles) := testing.about(testing.ask(testing.user("ann", "p-1", roles), "GET", "password"), "i-1", "p-1")

_decide(request, now) := decision if {
	decision := metaguard.decision with input as request
		with data.metaguard.grants as _grants
		with data.office_hours as _hours
		with time.now_ns as time.parse_rfc3339_ns(now)
}

# The second of March 2026 is a Monday.
test_in_office_hours if {
	every now in ["2026-03-02T07:00:00Z", "2026-03-02T16:59:59.999Z", "2026-03-06T12:00:00Z"] {
		_decide(_read(["operator"]), now) == {"allow": true, "reasons": ["granted"]}
	}
}

test_outside_of_office_hours if {
	every now in ["2026-03-02T06:59:59.999Z", "2026-03-02T17:00:00Z", "2026-03-03T12:00:00Z", "2026-03-07T12:00:00Z"] {
		_decide(_read(["operator"]), now) == {"allow": false, "reasons": ["outside_office_hours"]}
	}
}

# The clock of the one who asks does not count, only the moment does.
test_in_utc if {
	_decide(_read(["operator"]), "2026-03-02T08:00:00+02:00").allow == false
}

test_never_without_data if {
	decision := metaguard.decision with input as _read(["operator"])
		with data.metaguard.grants as _grants
		with data.office_hours as {}
	decision.reasons == ["outside_office_hours"]
}

test_other_grants_hold_at_any_time if {
	_decide(_read(["auditor"]), "2026-03-01T03:00:00Z").allow
}

test_whoever_has_no_grant_is_told_so if {
	decision := metaguard.decision with input as _read(["operator"])
		with data.metaguard.grants as {}
		with data.office_hours as _hours
		with time.now_ns as time.parse_rfc3339_ns("2026-03-01T03:00:00Z")
	decision == {"allow": false, "reasons": ["password_read_not_granted", "target_not_granted"]}
}

test_instances_boot_at_night if {
	instance := testing.instance("i-1", "p-1")
	_decide(testing.ask(instance, "GET", "password"), "2026-03-01T03:00:00Z").status == 200
	_decide(testing.ask(instance, "POST", "password"), "2026-03-01T03:00:00Z").allow
	_decide(testing.ask(instance, "GET", "metadata"), "2026-03-01T03:00:00Z").allow
}
