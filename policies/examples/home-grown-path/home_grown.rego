# The legacy server has files that no dialect knows, beside those of Nova. Instances
# may read them, each by its whole path in data.json. Any other unknown path stays
# shut.

package metaguard.team

# METADATA
# title: Site file
# description: An instance reads one of the files that data.json names.
allow contains "site_file" if {
	input.resource.kind == "unknown"
	input.resource.action == "read"
	data.site.files[input.request.path] == true
	data.metaguard.own
}
