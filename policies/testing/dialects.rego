package metaguard.testing

# METADATA
# title: Request to
# description: >-
#   The input document for one request to a server of this dialect, by method and
#   path: `request_to("ec2", caller, "GET", "/latest/meta-data/instance-id")`. What is
#   said of `request` holds for it too. It knows the dialects that read paths by a
#   table; what says more than the path, a query or a header, `input_for` can ask.
request_to(dialect, caller, method, path) := request(caller, method, path) if {
	dialect == "openstack"
} else := made if {
	table := _tables[dialect]
	arrived := _arrives_as[method]
	canonical := _canonical_in(table, path)
	found := _row(table, canonical)
	document := _document(caller, arrived, canonical, {
		"dialect": dialect,
		"kind": found.kind,
		"version": found.version,
		"key": found.key,
		"action": found.methods[arrived],
		"sensitive": found.sensitive,
	})
	made := json.patch(document, [{"op": "replace", "path": "/request/body", "value": _body(found, arrived)}])
}

# METADATA
# title: Canonical in
# description: The path as the guard rebuilds it, for a server that allows more bytes in it.
_canonical_in(table, path) := regex.replace(path, "/+", "/") if {
	regex.match(table.path, path)
	count({".", ".."} & {segment | some segment in split(path, "/")}) == 0
}

# METADATA
# title: Body
# description: What is known of the body of this request, where the resource takes one.
_body(row, method) := _bodies.write if {
	method in row.bodies
} else := null

# METADATA
# title: Row
# description: >-
#   What a path stands for: the row of the table whose pattern fits best, from left to
#   right a name before a version, that before a number, that before any segment, and
#   that before several. What has none is unknown.
_row(table, path) := object.union(_plain, object.union(row, {"version": version, "key": key})) if {
	segments := _split(path)
	fitting := {rank: row | some row in table.rows; rank := _rank(table, row.pattern, segments)}
	row := fitting[min(object.keys(fitting))]
	version := _version_at(row, segments)
	_holds(row, version, path)
	key := concat("/", array.slice(segments, row.key_from, count(segments)))
} else := object.union(_plain, {"kind": "unknown", "version": _tree_version(table, _split(path)), "key": ""})

# METADATA
# title: Plain
# description: What most rows of a table are.
_plain := {"sensitive": false, "methods": {"GET": "read"}, "bodies": []}

# METADATA
# title: Rank
# description: How well a pattern fits a path. Undefined where it does not; the least is the best.
_rank(table, pattern, segments) := [rank | some i, part in pattern; rank := _fits(table, part, segments[i])] if {
	_as_long(pattern, count(segments))
	every i, part in pattern {
		_fits(table, part, segments[i])
	}
}

# METADATA
# title: As long
# description: A path of so many segments can fit this pattern.
_as_long(pattern, n) if count(pattern) == n

# METADATA
# title: As long, with several segments at the end
_as_long(pattern, n) if {
	count(pattern) < n
	pattern[count(pattern) - 1] == "**"
}

# METADATA
# title: Fits
# description: How well one part of a pattern fits a segment.
_fits(table, part, segment) := 0 if {
	part == segment
} else := 1 if {
	part == "{version}"
	_is_version(table, segment)
} else := 2 if {
	part == "#"
	regex.match("^[0-9]+$", segment)
} else := 3 if {
	part == "*"
} else := 4 if {
	part == "**"
}

# METADATA
# title: Is version
# description: The dialect knows this version directory.
_is_version(table, segment) if segment in table.versions

# METADATA
# title: Any is a version
_is_version(table, _) if count(table.versions) == 0

# METADATA
# title: Holds
# description: A row is for some versions only, or for a path without a slash at its end only.
_holds(row, version, path) if {
	version in object.get(row, "only_versions", [version])
	not _slashed(row, path)
}

# METADATA
# title: Slashed
# description: A slash at the end makes this another path.
_slashed(row, path) if {
	row.exact
	endswith(path, "/")
}

# METADATA
# title: Version at
# description: The version directory that a row's path is in; empty outside of one.
_version_at(row, segments) := segments[row.version_at] if {
	row.version_at >= 0
} else := ""

# METADATA
# title: Tree version
# description: The version directory that an unknown path is in; empty outside of one.
_tree_version(table, segments) := segments[count(names)] if {
	some names in table.trees
	array.slice(segments, 0, count(names)) == names
	_is_version(table, segments[count(names)])
} else := ""
