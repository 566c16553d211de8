package metaguard.testing

# METADATA
# title: Outside
# description: What Nova answers outside of a version directory, by path.
_outside := {
	"": "listing",
	"ec2": "listing",
	"healthcheck": "health",
	"openstack": "listing",
}

# METADATA
# title: Versions
# description: Every version directory that the dialect knows, by tree.
_versions := {
	"ec2": {
		"1.0",
		"2007-01-19",
		"2007-03-01",
		"2007-08-29",
		"2007-10-10",
		"2007-12-15",
		"2008-02-01",
		"2008-09-01",
		"2009-04-04",
		"latest",
	},
	"openstack": {
		"2012-08-10",
		"2013-04-04",
		"2013-10-17",
		"2015-10-15",
		"2016-06-30",
		"2016-10-06",
		"2017-02-22",
		"2018-08-27",
		"2020-10-14",
		"latest",
	},
}

# METADATA
# title: Names
# description: >-
#   What is in a version directory, by tree: the kind of each name and the first
#   version that has it. "#" stands for a number and "*" for any name.
_names := {
	"ec2": {
		"": {"kind": "listing"},
		"meta-data": {"kind": "listing"},
		"meta-data/ami-id": {"kind": "metadata"},
		"meta-data/ami-launch-index": {"kind": "metadata"},
		"meta-data/ami-manifest-path": {"kind": "metadata"},
		"meta-data/block-device-mapping": {"kind": "listing"},
		"meta-data/block-device-mapping/*": {"kind": "metadata"},
		"meta-data/hostname": {"kind": "metadata"},
		"meta-data/instance-action": {"kind": "metadata"},
		"meta-data/instance-id": {"kind": "metadata"},
		"meta-data/instance-type": {"kind": "metadata"},
		"meta-data/kernel-id": {"kind": "metadata"},
		"meta-data/local-hostname": {"kind": "metadata"},
		"meta-data/local-ipv4": {"kind": "metadata"},
		"meta-data/placement": {"kind": "listing"},
		"meta-data/placement/availability-zone": {"kind": "metadata"},
		"meta-data/public-hostname": {"kind": "metadata"},
		"meta-data/public-ipv4": {"kind": "metadata"},
		"meta-data/public-keys": {"kind": "listing"},
		"meta-data/public-keys/#": {"kind": "listing"},
		"meta-data/public-keys/#/openssh-key": {"kind": "metadata"},
		"meta-data/ramdisk-id": {"kind": "metadata"},
		"meta-data/reservation-id": {"kind": "metadata"},
		"meta-data/security-groups": {"kind": "metadata"},
		"user-data": {"kind": "userdata"},
	},
	"openstack": {
		"": {"kind": "listing"},
		"meta_data.json": {"kind": "metadata"},
		"network_data.json": {"kind": "network"},
		"password": {"kind": "password", "since": "2013-04-04"},
		"user_data": {"kind": "userdata"},
		"vendor_data.json": {"kind": "vendordata", "since": "2013-10-17"},
		"vendor_data2.json": {"kind": "vendordata", "since": "2016-10-06"},
		"version": {"kind": "listing"},
	},
}

# METADATA
# title: Classified
# description: >-
#   What a path of Nova's is, as the dialect openstack reads it: its kind, version and
#   key. What no table has is of kind unknown.
_classified(segments) := {"kind": kind, "version": "", "key": ""} if {
	kind := _outside[concat("/", segments)]
} else := {"kind": "userdata", "version": "", "key": concat("/", array.slice(segments, 1, 3))} if {
	# A file that was injected at boot.
	count(segments) == 3
	array.slice(segments, 0, 2) == ["openstack", "content"]
} else := {"kind": row.kind, "version": version, "key": key} if {
	version := _known_version(segments)
	key := _key(segments)
	row := _names[_branch(segments)][_pattern(key)]

	# Dates are in order as text, and "latest" comes after them.
	version >= object.get(row, "since", "")
} else := {"kind": "unknown", "version": version, "key": ""} if {
	version := _known_version(segments)
} else := {"kind": "unknown", "version": "", "key": ""}

# METADATA
# title: Known version
# description: The version directory that a path is in. Undefined where there is none.
_known_version(segments) := version if {
	version := _version(segments)
	version in _versions[_branch(segments)]
}

# METADATA
# title: Branch
# description: The tree that a path is in. Nova answers the EC2 one with or without its name.
_branch(segments) := "openstack" if {
	segments[0] == "openstack"
} else := "ec2"

# METADATA
# title: Pattern
# description: A key with what differs by instance replaced, as in the table of names.
_pattern(key) := "meta-data/block-device-mapping/*" if {
	regex.match("^meta-data/block-device-mapping/[^/]+$", key)
} else := regex.replace(key, "^meta-data/public-keys/[0-9]+(/|$)", "meta-data/public-keys/#$1")

# METADATA
# title: Canonical
# description: >-
#   The path as the guard rebuilds it, with one slash for several. Undefined for one
#   that it refuses as ambiguous: another byte than these, or a dot segment.
_canonical(path) := regex.replace(path, "/+", "/") if {
	regex.match("^/[A-Za-z0-9._~/-]*$", path)
	count({".", ".."} & {segment | some segment in split(path, "/")}) == 0
}
