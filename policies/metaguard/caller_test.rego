package metaguard_test

import data.metaguard
import data.metaguard.testing

_caller := object.union(
	testing.instance_with_roles("i-1", "p-1", ["windows", "web"]),
	{"id": "instance:i-1"},
)

_request := testing.input_for("openstack", "metadata", "read", _caller)

_stranger := testing.user("eve", "", [])

_grants := {
	"instance_id": {"i-1": ["password:read"], "i-2": ["token:read"], "": ["target:any"]},
	"project_id": {"p-1": ["userdata:read"], "p-2": ["token:read"], "": ["target:any"]},
	"role": {"windows": ["network:read"], "web": ["health:read"], "db": ["token:read"], "": ["target:any"]},
	"caller_id": {"instance:i-1": ["listing:read"], "i-1": ["token:read"], "": ["target:any"]},
}

test_granted_by_every_attribute if {
	metaguard.granted == {"password:read", "userdata:read", "network:read", "health:read", "listing:read"} with input as _request
		with data.metaguard.grants as _grants
}

test_granted_without_grants if {
	metaguard.granted == set() with input as _request with data.metaguard.grants as {}
}

test_granted_not_to_another_attribute if {
	metaguard.granted == set() with input as _request
		with data.metaguard.grants as {"instance_id": {"p-1": ["token:read"]}, "project_id": {"i-1": ["token:read"]}}
}

# A caller without an attribute must not hold what someone wrote under "".
test_granted_not_for_an_empty_attribute if {
	nobody := {"source": "x", "id": "", "instance_id": "", "project_id": "", "address": "", "roles": [""]}
	metaguard.granted == set() with input as {"caller": nobody} with data.metaguard.grants as _grants
}

test_granted_not_from_a_string if {
	metaguard.granted == set() with input as _request
		with data.metaguard.grants as {"instance_id": {"i-1": "password:read"}}
}

test_own if {
	metaguard.own with input as _request
}

test_own_not_another if {
	not metaguard.own with input as testing.about(_request, "i-2", "p-1")
}

test_own_not_without_instance if {
	not metaguard.own with input as testing.input_for("openstack", "metadata", "read", _stranger)
}

test_within_reach_own_address if {
	metaguard._within_reach("metadata") with input as testing.input_for("openstack", "metadata", "read", _stranger)
}

test_within_reach_not_an_unknown_address if {
	nowhere := object.union(_stranger, {"address": ""})
	not metaguard._within_reach("metadata") with input as testing.input_for("openstack", "metadata", "read", nowhere)
}

test_within_reach_not_another_address if {
	not metaguard._within_reach("metadata") with input as testing.about(testing.input_for("openstack", "metadata", "read", _stranger), "", "")
}

# An instance whose own target was lost acts on nobody.
test_within_reach_not_an_instance_without_target if {
	request := json.patch(_request, [{"op": "replace", "path": "/target/instance_id", "value": ""}])
	not metaguard._within_reach("metadata") with input as request
}

test_within_reach_not_an_instance_at_the_same_address if {
	request := json.patch(
		testing.input_for("openstack", "metadata", "read", _stranger),
		[{"op": "replace", "path": "/target/instance_id", "value": "i-2"}],
	)
	not metaguard._within_reach("metadata") with input as request
}

_admin := testing.user("ann", "p-1", ["admin"])

test_within_reach_any if {
	metaguard._within_reach("metadata") with input as testing.about(testing.input_for("openstack", "metadata", "read", _admin), "i-2", "p-2")
		with data.metaguard.grants as {"role": {"admin": ["target:any"]}}
}

test_within_reach_project if {
	request := testing.about(testing.input_for("openstack", "metadata", "read", _admin), "i-2", "p-1")
	metaguard._within_reach("metadata") with input as request with data.metaguard.grants as {"role": {"admin": ["target:project"]}}
	not metaguard._within_reach("metadata") with input as request with data.metaguard.grants as {}
}

test_within_reach_not_another_project if {
	request := testing.about(testing.input_for("openstack", "metadata", "read", _admin), "i-2", "p-2")
	not metaguard._within_reach("metadata") with input as request with data.metaguard.grants as {"role": {"admin": ["target:project"]}}
}

test_within_reach_not_where_no_project_is_known if {
	request := testing.about(testing.input_for("openstack", "metadata", "read", testing.user("ann", "", ["admin"])), "i-2", "")
	not metaguard._within_reach("metadata") with input as request with data.metaguard.grants as {"role": {"admin": ["target:project"]}}
}

test_identified if {
	metaguard._identified with input as _request
	not metaguard._identified with input as {"caller": testing.anonymous}
	not metaguard._identified with input as {"caller": {"source": ""}}
}

test_identified_not_without_source if {
	not metaguard._identified with input as {"caller": {}}
}
