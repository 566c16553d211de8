# METADATA
# title: Helpers for tests
# description: >-
#   Input documents in one line, for a team's tests and for ours:
#   `data.metaguard.testing.input_for("openstack", "password", "read", caller)`. They
#   are plain Rego and work under stock `opa test`.
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
# title: Input for
# description: >-
#   The input document for one request of this caller about itself. `kind` and
#   `action` are those of input.resource. A write brings an encrypted password.
input_for(dialect, kind, action, caller) := {
	"version": 1,
	"request": {
		"id": "0190a0b0-0000-7000-8000-000000000000",
		"method": _methods[action],
		"path": _path(segments),
		"segments": segments,
		"query": {},
		"host": "169.254.169.254",
		"protocol": "HTTP/1.1",
		"headers": {"user-agent": "test"},
		"body": _bodies[action],
	},
	"caller": caller,
	"target": {
		"instance_id": caller.instance_id,
		"project_id": caller.project_id,
		"address": caller.address,
	},
	"resource": {
		"dialect": dialect,
		"kind": kind,
		"version": _version(segments),
		"key": _key(segments),
		"action": action,
		"sensitive": kind in {"password", "credentials"},
	},
	"session": {"present": false, "valid": false, "age_seconds": 0},
} if {
	segments := _segments(dialect, kind)
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

_methods := {"read": "GET", "write": "POST"}

_bodies := {"read": null, "write": {"format": "rsa_base64", "size": 344, "key_bits": 2048}}

_path(segments) := concat("", ["/", concat("/", segments)])

# METADATA
# title: Segments
# description: A path of this kind. Other dialects than openstack get a made-up one.
_segments(dialect, kind) := _openstack[kind] if {
	dialect == "openstack"
} else := ["latest", kind]

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

_version(segments) := version if {
	segments[0] != "healthcheck"
	version := segments[count(_tree(segments))]
} else := ""

_key(segments) := concat("/", array.slice(segments, count(_tree(segments)) + 1, count(segments)))
