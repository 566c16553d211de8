package own_password_test

import data.metaguard
import data.metaguard.testing

_instance := testing.instance("i-1", "p-1")

_read := testing.request(_instance, "GET", "/openstack/latest/password")

test_an_instance_reads_its_own if {
	decision := metaguard.decision with input as _read
	decision == {"allow": true, "reasons": ["own_password"]}
}

test_an_instance_reads_no_other if {
	every project in ["p-1", "p-2"] {
		not metaguard.decision.allow with input as testing.about(_read, "i-2", project)
	}
}

test_nobody_else_reads_it if {
	every caller in [testing.user("ann", "p-1", ["admin"]), testing.anonymous] {
		not metaguard.decision.allow with input as testing.about(testing.ask(caller, "GET", "password"), "i-1", "p-1")
	}
}

# A caller and a target without an instance are not the same instance.
test_not_by_having_no_instance if {
	not metaguard.decision.allow with input as testing.ask(testing.anonymous, "GET", "password")
}

test_writing_is_as_before if {
	metaguard.decision.reasons == ["own_password_write"] with input as testing.ask(_instance, "POST", "password")
}

# The guard shows an entry of a listing where this holds.
test_the_listing_shows_it if {
	metaguard.decision.allow with input as testing.request(_instance, "GET", "/openstack/latest/password")
}
