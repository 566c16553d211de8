package metaguard.team

allow contains "versions_for_everyone" if {
	input.caller.source == "anonymous"
	input.request.path == "/openstack"
}
