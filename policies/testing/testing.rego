# METADATA
# title: Helpers for tests
# description: >-
#   Input documents in one line, for a team's tests and for ours:
#   `testing.request(caller, "GET", "/openstack/latest/password")` by path, and
#   `testing.ask(caller, "GET", "password")` by kind. They are plain Rego and work
#   under stock `opa test`.
package metaguard.testing

# METADATA
# title: Instance
# description: A caller that is an instance, as Neutron's agent vouches for it.
instance(id, project_id) := instance_with_roles(id, project_id, [])

# METADATA
# title: Instance with roles
# description: A caller that is an instance with roles, as the inventory gives them.
instance_with_roles(id, project_id, roles) := {
	"source": "remote_ip",
	"id": concat("", ["instance:", id]),
	"instance_id": id,
	"project_id": project_id,
	"address": "10.0.0.5",
	"roles": roles,
	"claims": {},
	"process": null,
}

# METADATA
# title: User
# description: A caller that is no instance, as Keystone or a token vouches for it.
user(id, project_id, roles) := {
	"source": "keystone",
	"id": concat("", ["user:", id]),
	"instance_id": "",
	"project_id": project_id,
	"address": "10.0.0.250",
	"roles": roles,
	"claims": {},
	"process": null,
}

# METADATA
# title: Process
# description: >-
#   A caller that is a local process, of this user and running this file. Change the
#   rest with json.patch or object.union.
process(user_id, executable) := {
	"source": "process",
	"id": sprintf("uid:%d", [user_id]),
	"instance_id": "",
	"project_id": "",
	"address": "127.0.0.1",
	"roles": [],
	"claims": {},
	"process": {
		"pid": 4711,
		"user_id": user_id,
		"user": "",
		"group_ids": [user_id],
		"groups": [],
		"executable": executable,
		"command_line_sha256": "",
		"cgroup": "/system.slice/agent.service",
		"unit": "agent.service",
		"container_id": "",
	},
}

# METADATA
# title: Anonymous
# description: A caller that no identity source knows.
anonymous := {
	"source": "anonymous",
	"id": "anonymous",
	"instance_id": "",
	"project_id": "",
	"address": "10.0.0.99",
	"roles": [],
	"claims": {},
	"process": null,
}

# METADATA
# title: Request
# description: >-
#   The input document for one request, by method and path, as a client would send it to
#   Nova: `request(caller, "GET", "/openstack/latest/password")`. HEAD arrives as GET,
#   and a path that the dialect does not know is of kind unknown. Undefined, so that
#   the test fails, is what the guard refuses before it asks a policy: an ambiguous
#   path, or a method that the resource does not have.
request(caller, method, path) := _document(caller, arrived, canonical, resource) if {
	arrived := _arrives_as[method]
	canonical := _canonical(path)
	found := _classified(_split(canonical))
	kind := _exact(found.kind, canonical)
	arrived in _methods_of(kind)
	resource := {
		"dialect": "openstack",
		"kind": kind,
		"version": found.version,
		"key": found.key,
		"action": _actions[arrived],
	}
}

# METADATA
# title: Ask
# description: >-
#   The input document for one request, by method and kind: `ask(caller, "POST",
#   "password")`. Its path is one of that kind in the dialect openstack. HEAD arrives as
#   GET. A method is not held against the kind, so that a policy can be asked what it
#   says to a write of metadata; a kind that there is not is undefined.
ask(caller, method, kind) := json.patch(
	input_for("openstack", kind, _actions[arrived], caller),
	[{"op": "replace", "path": "/request/method", "value": arrived}],
) if {
	arrived := _arrives_as[method]
	_openstack[kind]
}

# METADATA
# title: Input for
# description: >-
#   The input document for one request of this caller about itself. `kind` and
#   `action` are those of input.resource. A write brings an encrypted password. Where
#   the dialect has such requests, it is one of them; else its path is made up.
input_for(dialect, kind, action, caller) := _sampled(_samples[dialect][kind][action], caller) if {
	_samples[dialect][kind][action]
} else := _document(caller, _methods[action], _path(segments), resource) if {
	segments := _segments(dialect, kind)
	resource := {
		"dialect": dialect,
		"kind": kind,
		"version": _version(segments),
		"key": _key_of(kind, segments),
		"action": action,
	}
}

# METADATA
# title: About
# description: The same request about another instance.
about(request, instance_id, project_id) := json.patch(request, [{
	"op": "replace",
	"path": "/target",
	"value": {"instance_id": instance_id, "project_id": project_id, "address": "10.0.0.77"},
}])

# METADATA
# title: At
# description: The same request for another path, given by its segments.
at(request, segments) := json.patch(request, [
	{"op": "replace", "path": "/request/segments", "value": segments},
	{"op": "replace", "path": "/request/path", "value": _path(segments)},
	{"op": "replace", "path": "/resource/version", "value": _version(segments)},
	{"op": "replace", "path": "/resource/key", "value": _key(segments)},
])

# METADATA
# title: With session
# description: The same request with a valid session token of this age.
with_session(request, age_seconds) := json.patch(request, [{
	"op": "replace",
	"path": "/session",
	"value": {"present": true, "valid": true, "age_seconds": age_seconds},
}])

# METADATA
# title: With body
# description: The same request with a body of this format, `empty`, `rsa_base64`, `text` or `binary`.
with_body(request, format, size, key_bits) := json.patch(request, [{
	"op": "replace",
	"path": "/request/body",
	"value": {"format": format, "size": size, "key_bits": key_bits},
}])

# METADATA
# title: With header
# description: The same request with one more header, by its name in lower case.
with_header(request, name, value) := object.union(request, {"request": {"headers": {name: value}}})

# METADATA
# title: Document
# description: The input document for a request of this caller about itself.
_document(caller, method, path, resource) := {
	"version": 1,
	"request": {
		"id": "0190a0b0-0000-7000-8000-000000000000",
		"method": method,
		"path": path,
		"segments": _split(path),
		"query": {},
		"host": "169.254.169.254",
		"protocol": "HTTP/1.1",
		"headers": {"user-agent": "test"},
		"body": _bodies[resource.action],
	},
	"caller": caller,
	"target": {
		"instance_id": caller.instance_id,
		"project_id": caller.project_id,
		"address": caller.address,
	},
	"resource": object.union({"sensitive": resource.kind in {"password", "credentials"}}, resource),
	"session": {"present": false, "valid": false, "age_seconds": 0},
}

# METADATA
# title: Arrives as
# description: The method that a policy sees, by the one that a client sends.
_arrives_as := {"GET": "GET", "HEAD": "GET", "POST": "POST", "PUT": "PUT"}

# METADATA
# title: Actions
# description: What a method does to a resource.
_actions := {"GET": "read", "POST": "write", "PUT": "write"}

# METADATA
# title: Methods
# description: The method that does this to a resource.
_methods := {"read": "GET", "write": "POST"}

# METADATA
# title: Methods of
# description: The methods that Nova has for a kind of resource.
_methods_of(kind) := {"GET", "POST"} if {
	kind == "password"
} else := {"GET"}

# METADATA
# title: Bodies
# description: What is known of the body of a request that does this.
_bodies := {"read": null, "write": {"format": "rsa_base64", "size": 344, "key_bits": 2048}}

# METADATA
# title: Exact
# description: The kind of this path. The health check has no other spelling, not even with a slash at its end.
_exact(kind, path) := "unknown" if {
	kind == "health"
	endswith(path, "/")
} else := kind

# METADATA
# title: Split
# description: The segments of a path.
_split(path) := [segment | some segment in split(path, "/"); segment != ""]

# METADATA
# title: Path
# description: The path of segments.
_path(segments) := concat("", ["/", concat("/", segments)])

# METADATA
# title: Segments
# description: A path of this kind. Other dialects than openstack get a made-up one.
_segments(dialect, kind) := _openstack[kind] if {
	dialect == "openstack"
} else := ["latest", kind]

# METADATA
# title: Paths
# description: One path of each kind. Nova has no credentials and no tokens; those are as EC2 has them.
_openstack := {
	"listing": ["openstack", "latest"],
	"metadata": ["openstack", "latest", "meta_data.json"],
	"password": ["openstack", "latest", "password"],
	"userdata": ["openstack", "latest", "user_data"],
	"vendordata": ["openstack", "latest", "vendor_data.json"],
	"network": ["openstack", "latest", "network_data.json"],
	"health": ["healthcheck"],
	"unknown": ["openstack", "latest", "nothing"],
	"credentials": ["latest", "meta-data", "iam", "security-credentials", "role"],
	"token": ["latest", "api", "token"],
}

# METADATA
# title: Tree
# description: The names in front of the version directory.
_tree(segments) := [segments[0]] if {
	segments[0] in {"openstack", "ec2"}
} else := []

# METADATA
# title: Version
# description: The version directory of a path; empty outside of one.
_version(segments) := version if {
	segments[0] != "healthcheck"
	version := segments[count(_tree(segments))]
} else := ""

# METADATA
# title: Key
# description: What is below the version directory.
_key(segments) := concat("/", array.slice(segments, count(_tree(segments)) + 1, count(segments)))

# METADATA
# title: Key of
# description: The key of a resource of this kind; what is unknown has none.
_key_of(kind, segments) := "" if {
	kind == "unknown"
} else := _key(segments)
