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
	found := _row(dialect, canonical)
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
# title: Patterns
# description: The parts of every pattern, by dialect. They are split once.
_patterns := {dialect: {pattern: _split(pattern) | some pattern, _ in table.rows} |
	some dialect, table in _tables
}

# METADATA
# title: Row
# description: >-
#   What a path stands for: the row of the table whose pattern fits best, from left to
#   right a name before a version, that before a number, that before any segment, and
#   that before several. What has none is unknown.
_row(dialect, path) := {
	"kind": row.kind,
	"sensitive": object.get(row, "sensitive", false),
	"methods": object.get(row, "methods", {"GET": "read"}),
	"bodies": object.get(row, "bodies", []),
	"version": version,
	"key": concat("/", array.slice(segments, object.get(row, "key_from", at + 1), count(segments))),
} if {
	segments := _split(path)
	table := _tables[dialect]
	fitting := {rank: pattern | some pattern, parts in _patterns[dialect]; rank := _rank(table, parts, segments)}
	pattern := fitting[min(object.keys(fitting))]
	row := table.rows[pattern]
	at := _version_at(_patterns[dialect][pattern])
	version := _segment(segments, at)
	_holds(row, version, path)
} else := {
	"kind": "unknown",
	"sensitive": false,
	"methods": {"GET": "read"},
	"bodies": [],
	"version": _tree_version(_tables[dialect], _split(path)),
	"key": "",
}

# METADATA
# title: Rank
# description: How well a pattern fits a path. Undefined where it does not; the least is the best.
_rank(table, parts, segments) := ranks if {
	_as_long(parts, count(segments))
	ranks := [rank | some i, part in parts; rank := _fits(table, part, segments[i])]
	count(ranks) == count(parts)
}

# METADATA
# title: As long
# description: A path of so many segments can fit this pattern.
_as_long(parts, n) if count(parts) == n

# METADATA
# title: As long, with several segments at the end
_as_long(parts, n) if {
	count(parts) < n
	parts[count(parts) - 1] == "**"
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
# description: A row may be for some versions only, or for a path without a slash at its end only.
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
# description: Where a pattern has its version; -1 if it has none.
_version_at(parts) := at if {
	some at, "{version}" in parts
} else := -1

# METADATA
# title: Segment
# description: The segment at this place; empty outside of the path.
_segment(segments, at) := segments[at] if {
	at >= 0
} else := ""

# METADATA
# title: Tree version
# description: The version directory that an unknown path is in; empty outside of one.
_tree_version(table, segments) := segments[count(names)] if {
	some names in table.trees
	array.slice(segments, 0, count(names)) == names
	_is_version(table, segments[count(names)])
} else := ""

# METADATA
# title: Sampled
# description: The input document for a sample of a dialect.
_sampled(sample, caller) := json.patch(document, [
	{"op": "replace", "path": "/request/body", "value": body},
	{"op": "replace", "path": "/request/headers", "value": object.union(document.request.headers, sample.headers)},
]) if {
	document := _document(caller, sample.method, sample.path, sample.resource)
	body := {true: _bodies.write, false: null}[sample.body]
}
