package no_browsers_test

import data.metaguard
import data.metaguard.testing

_instance := testing.instance("i-1", "p-1")

_chrome := "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/140.0.0.0 Safari/537.36"

_from(agent, path) := testing.with_header(testing.request(_instance, "GET", path), "user-agent", agent)

test_a_browser_finds_nothing if {
	every path in ["/openstack/latest/meta_data.json", "/openstack/latest", "/openstack/latest/password", "/latest/user-data"] {
		decision := metaguard.decision with input as _from(_chrome, path)
		decision == {"allow": false, "reasons": ["browser"], "status": 404}
	}
}

test_in_any_case if {
	not metaguard.decision.allow with input as _from("mOZILLA/4.0", "/openstack/latest/meta_data.json")
}

test_a_grant_does_not_help if {
	not metaguard.decision.allow with input as _from(_chrome, "/openstack/latest/password")
		with data.metaguard.grants as {"instance_id": {"i-1": ["password:read"]}}
}

test_clients_are_as_before if {
	every agent in ["Cloud-Init/24.1.3", "curl/8.5.0", "Python-urllib/3.11", "", "not Mozilla/5.0"] {
		metaguard.decision.allow with input as _from(agent, "/openstack/latest/meta_data.json")
	}
}

test_a_client_that_does_not_say_what_it_is if {
	request := json.remove(testing.ask(_instance, "GET", "metadata"), ["/request/headers/user-agent"])
	metaguard.decision.allow with input as request
}

test_other_refusals_have_no_status_of_ours if {
	decision := metaguard.decision with input as testing.ask(_instance, "GET", "credentials")
	not decision.status
}
