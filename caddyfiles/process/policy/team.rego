# Cloud-init gets everything but the password, the node exporter the instance's
# metadata. No other process gets anything.
package metaguard.team

allow contains "cloud_init" if {
	_unit in {"cloud-init-local.service", "cloud-init.service", "cloud-config.service", "cloud-final.service"}
	input.caller.process.user_id == 0
	input.resource.kind in {"listing", "metadata", "network", "userdata", "vendordata"}
}

allow contains "node_exporter" if {
	_unit == "node-exporter.service"
	input.resource.kind in {"listing", "metadata"}
}

_unit := input.caller.process.unit
