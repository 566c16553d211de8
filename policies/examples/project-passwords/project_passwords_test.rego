package project_passwords_test

import data.metaguard
import data.metaguard.testing

_project := "6a0f9d3c2b1e4f58a7c6d5e4f3b2a190"

_read(project_id) := testing.input_for("openstack", "password", "read", testing.instance("i-1", project_id))

test_the_project_reads_its_passwords if {
	decision := metaguard.decision with input as _read(_project)
	decision == {"allow": true, "reasons": ["granted"]}
}

test_an_instance_reads_only_its_own if {
	request := testing.about(_read(_project), "i-2", _project)
	not metaguard.decision.allow with input as request
}

test_others_are_told_that_there_is_none if {
	decision := metaguard.decision with input as _read("another")
	decision == {"allow": false, "reasons": ["password_read_not_granted"], "status": 200}
}

test_the_listing_shows_it_to_the_project_only if {
	# It shows the entries that can be read.
	metaguard.decision.allow with input as _read(_project)
	not metaguard.decision.allow with input as _read("another")
}
