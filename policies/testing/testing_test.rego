package metaguard.testing_test

import data.metaguard.testing

_caller := testing.instance("i-1", "p-1")

test_process_is_not_an_instance if {
	caller := testing.process(0, "/usr/bin/cloud-init")
	caller.id == "uid:0"
	caller.process.executable == "/usr/bin/cloud-init"
	request := testing.request(caller, "GET", "/openstack/latest/user_data")
	request.caller == caller
	not data.metaguard.decision.allow with input as request
}

test_request_by_path if {
	request := testing.request(_caller, "GET", "/openstack/latest/password")
	request == testing.input_for("openstack", "password", "read", _caller)
	request.request.body == null
}

test_request_writes if {
	request := testing.request(_caller, "POST", "/openstack/latest/password")
	request == testing.input_for("openstack", "password", "write", _caller)
}

test_request_head_is_get if {
	testing.request(_caller, "HEAD", "/latest/user-data") == testing.request(_caller, "GET", "/latest/user-data")
}

# What each path is stands in the dialect's own table, with which a Go test
# compares this one.
test_request_knows_both_trees if {
	resources := {path: [resource.kind, resource.version, resource.key] |
		some path in [
			"/", "/openstack/", "/healthcheck", "/healthcheck/", "/openstack/content/0000", "/openstack/2012-08-10/password",
			"/ec2/1.0/meta-data/public-keys/0/openssh-key", "/latest/meta-data/block-device-mapping/ebs0", "/openstack/2099-01-01/password",
		]
		resource := testing.request(_caller, "GET", path).resource
	}
	resources == {
		"/": ["listing", "", ""],
		"/openstack/": ["listing", "", ""],
		"/healthcheck": ["health", "", ""],
		"/healthcheck/": ["unknown", "", ""],
		"/openstack/content/0000": ["userdata", "", "content/0000"],
		"/openstack/2012-08-10/password": ["unknown", "2012-08-10", ""],
		"/ec2/1.0/meta-data/public-keys/0/openssh-key": ["metadata", "1.0", "meta-data/public-keys/0/openssh-key"],
		"/latest/meta-data/block-device-mapping/ebs0": ["metadata", "latest", "meta-data/block-device-mapping/ebs0"],
		"/openstack/2099-01-01/password": ["unknown", "", ""],
	}
}

test_request_is_rebuilt if {
	request := testing.request(_caller, "GET", "//openstack//latest/").request
	request.path == "/openstack/latest/"
	request.segments == ["openstack", "latest"]
}

# No policy ever sees these, so a test that asks one must not pass.
test_request_undefined_where_no_policy_is_asked if {
	refused := {
		["GET", "/openstack//../latest/password"],
		["GET", "/./latest"],
		["GET", "/openstack/latest/%70assword"],
		["GET", "/openstack/latest?x=1"],
		["GET", "openstack/latest"],
		["POST", "/openstack/latest/user_data"],
		["PUT", "/openstack/latest/password"],
		["DELETE", "/openstack/latest/password"],
		["get", "/openstack/latest"],
	}
	every pair in refused {
		[method, path] := pair
		not testing.request(_caller, method, path)
	}
}

test_ask_by_kind if {
	testing.ask(_caller, "GET", "metadata") == testing.input_for("openstack", "metadata", "read", _caller)
	testing.ask(_caller, "HEAD", "metadata") == testing.ask(_caller, "GET", "metadata")
	testing.ask(_caller, "POST", "password") == testing.input_for("openstack", "password", "write", _caller)
}

test_ask_what_no_dialect_has if {
	testing.ask(_caller, "POST", "metadata").resource.action == "write"
	put := testing.ask(_caller, "PUT", "token")
	put.resource.action == "write"
	put.request.method == "PUT"
	not testing.ask(_caller, "DELETE", "password")
	not testing.ask(_caller, "GET", "passwords")
}

# By kind or by path, it is the same request.
test_ask_and_request_agree if {
	kinds := {"listing", "metadata", "password", "userdata", "vendordata", "network", "health", "unknown"}
	every kind in kinds {
		asked := testing.ask(_caller, "GET", kind)
		asked == testing.request(_caller, "GET", asked.request.path)
	}
}

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

test_with_header if {
	request := testing.with_header(testing.ask(_caller, "GET", "metadata"), "user-agent", "curl/8")
	request.request.headers == {"user-agent": "curl/8"}
	other := testing.with_header(request, "accept", "*/*")
	other.request.headers == {"user-agent": "curl/8", "accept": "*/*"}
}

# A table with a row of each sort.
_tables := {"some": {
	"path": "^/[A-Za-z0-9._~/:-]*$",
	"versions": ["1.0", "latest"],
	"trees": [[], ["ec2"]],
	"rows": {
		"": {"kind": "listing"},
		"{version}": {"kind": "listing"},
		"{version}/named": {"kind": "metadata"},
		"{version}/#": {"kind": "network"},
		"{version}/*": {"kind": "userdata"},
		"{version}/keys/**": {"kind": "credentials", "sensitive": true},
		"{version}/password": {"kind": "password", "sensitive": true, "methods": {"GET": "read", "POST": "write"}, "bodies": ["POST"]},
		"{version}/token": {"kind": "token", "exact": true, "only_versions": ["latest"], "methods": {"PUT": "write"}},
		"ec2/{version}/named": {"kind": "vendordata"},
		"other/named": {"kind": "health", "key_from": 1},
	},
}}

_made(method, path) := request if {
	request := testing.request_to("some", _caller, method, path) with data.metaguard.testing._tables as _tables
}

test_request_to_by_table if {
	resources := {path: [resource.kind, resource.version, resource.key] |
		some path in [
			"/", "/latest", "/1.0/named", "/latest/named/", "/latest/12", "/latest/12a", "/latest/keys/a/b:c", "/latest/keys", "/2.0/named",
			"/latest/named/x", "/ec2/1.0/named", "/ec2/1.0/x", "/other/named", "/1.0//password", "/x",
		]
		resource := _made("GET", path).resource
	}
	resources == {
		"/": ["listing", "", ""],
		"/latest": ["listing", "latest", ""],
		"/1.0/named": ["metadata", "1.0", "named"],
		"/latest/named/": ["metadata", "latest", "named"],
		"/latest/12": ["network", "latest", "12"],
		"/latest/12a": ["userdata", "latest", "12a"],
		"/latest/keys/a/b:c": ["credentials", "latest", "keys/a/b:c"],
		"/latest/keys": ["userdata", "latest", "keys"],
		"/2.0/named": ["unknown", "", ""],
		"/latest/named/x": ["unknown", "latest", ""],
		"/ec2/1.0/named": ["vendordata", "1.0", "named"],
		"/ec2/1.0/x": ["unknown", "1.0", ""],
		"/other/named": ["health", "", "named"],
		"/1.0//password": ["password", "1.0", "password"],
		"/x": ["unknown", "", ""],
	}
}

test_request_to_any_version if {
	tables := {"some": {"path": "^/[a-z0-9/]*$", "versions": [], "trees": [[]], "rows": {"{version}/named": {"kind": "metadata"}}}}
	request := testing.request_to("some", _caller, "GET", "/v7/named") with data.metaguard.testing._tables as tables
	request.resource.kind == "metadata"
	request.resource.version == "v7"
}

test_request_to_with_methods if {
	_made("POST", "/latest/password").request.body.format == "rsa_base64"
	_made("HEAD", "/latest/password").request.body == null
	_made("HEAD", "/latest/password").resource.sensitive
	token := _made("PUT", "/latest/token")
	token.resource.action == "write"
	token.request.body == null
	not token.resource.sensitive
	not _made("GET", "/latest/token")
	not _made("POST", "/latest/named")
	not _made("DELETE", "/latest/password")
}

# What only some versions have, or only without a slash at the end.
test_request_to_what_is_exact if {
	_made("GET", "/1.0/token").resource.kind == "unknown"
	_made("GET", "/latest/token/").resource.kind == "unknown"
}

test_request_to_undefined_where_no_policy_is_asked if {
	every path in ["latest", "/latest/../1.0", "/latest/a=b", "/latest?x=1"] {
		not _made("GET", path)
	}
	not testing.request_to("nobody's", _caller, "GET", "/")
}

test_request_to_openstack if {
	made := testing.request_to("openstack", _caller, "GET", "/openstack/latest/password")
	made == testing.request(_caller, "GET", "/openstack/latest/password")
}

test_input_for_a_sample if {
	samples := {"some": {"password": {"read": {
		"method": "GET",
		"path": "/",
		"headers": {"domu_request": "send_my_password"},
		"body": false,
		"resource": {"dialect": "some", "kind": "password", "version": "", "key": "", "action": "read", "sensitive": true},
	}}}}
	read := testing.input_for("some", "password", "read", _caller) with data.metaguard.testing._samples as samples
	read.request.path == "/"
	read.request.headers == {"user-agent": "test", "domu_request": "send_my_password"}
	read.request.body == null
	written := testing.input_for("some", "password", "write", _caller) with data.metaguard.testing._samples as samples
	written.request.path == "/latest/password"
}
