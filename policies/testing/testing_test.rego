package metaguard.testing_test

import data.metaguard.testing

_caller := testing.instance("i-1", "p-1")

test_input_for_reads_its_own if {
	request := testing.input_for("openstack", "password", "read", _caller)
	request.request.path == "/openstack/latest/password"
	request.request.method == "GET"
	request.request.body == null
	request.resource == {
		"dialect": "openstack",
		"kind": "password",
		"version": "latest",
		"key": "password",
		"action": "read",
		"sensitive": true,
	}
	request.target == {"instance_id": "i-1", "project_id": "p-1", "address": "10.0.0.5"}
}

test_input_for_writes if {
	request := testing.input_for("openstack", "password", "write", _caller)
	request.request.method == "POST"
	request.request.body.format == "rsa_base64"
}

test_input_for_another_dialect if {
	request := testing.input_for("generic", "userdata", "read", _caller)
	request.request.path == "/latest/userdata"
	request.resource.version == "latest"
	request.resource.key == "userdata"
}

test_input_for_health if {
	request := testing.input_for("openstack", "health", "read", testing.anonymous)
	request.request.path == "/healthcheck"
	request.resource.version == ""
	request.resource.key == ""
}

test_about if {
	request := testing.about(testing.input_for("openstack", "metadata", "read", _caller), "i-2", "p-2")
	request.target.instance_id == "i-2"
	request.caller.instance_id == "i-1"
}

test_at if {
	listing := testing.input_for("openstack", "listing", "read", _caller)
	paths := {path: [request.resource.version, request.resource.key] |
		some segments in [[], ["openstack"], ["ec2", "latest"], ["openstack", "latest", "version"], ["1.0", "meta-data", "placement"]]
		request := testing.at(listing, segments)
		path := request.request.path
	}
	paths == {
		"/": ["", ""],
		"/openstack": ["", ""],
		"/ec2/latest": ["latest", ""],
		"/openstack/latest/version": ["latest", "version"],
		"/1.0/meta-data/placement": ["1.0", "meta-data/placement"],
	}
}

test_with_session if {
	request := testing.with_session(testing.input_for("openstack", "credentials", "read", _caller), 12)
	request.session == {"present": true, "valid": true, "age_seconds": 12}
}

test_with_body if {
	request := testing.with_body(testing.input_for("openstack", "password", "write", _caller), "text", 12, 0)
	request.request.body == {"format": "text", "size": 12, "key_bits": 0}
}
