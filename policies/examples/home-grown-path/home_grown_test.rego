package home_grown_path_test

import data.metaguard
import data.metaguard.testing

_instance := testing.instance("i-1", "p-1")

_files := {"/site/ca.pem": true, "/site/old.pem": false}

_decide(caller, method, path) := decision if {
	decision := metaguard.decision with input as testing.request(caller, method, path)
		with data.site.files as _files
}

test_instances_read_what_is_named if {
	_decide(_instance, "GET", "/site/ca.pem").reasons == ["site_file"]
	_decide(_instance, "HEAD", "//site/ca.pem").allow
}

test_nothing_else_is_open if {
	every path in ["/site", "/site/", "/site/ca.pem/", "/site/key.pem", "/site/old.pem", "/openstack/2099-01-01/password"] {
		_decide(_instance, "GET", path) == {"allow": false, "reasons": ["resource_unknown"], "status": 404}
	}
}

test_nobody_else_reads_them if {
	every caller in [testing.user("ann", "p-1", ["admin"]), testing.anonymous] {
		not _decide(caller, "GET", "/site/ca.pem").allow
	}
}

# A path that a dialect knows is not opened by being named.
test_a_known_path_is_not_opened if {
	files := {"/openstack/latest/password": true}
	not metaguard.decision.allow with input as testing.request(_instance, "GET", "/openstack/latest/password")
		with data.site.files as files
}
