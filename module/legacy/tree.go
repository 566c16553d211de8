// SPDX-License-Identifier: Apache-2.0

package legacy

import (
	"encoding/base64"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// This file holds what Nova serves: base.py's two trees as a function of the
// path, the instance and what is cached of it.

// The versions of the EC2 tree, oldest first.
var ec2Versions = []string{
	"1.0", "2007-01-19", "2007-03-01", "2007-08-29", "2007-10-10",
	"2007-12-15", "2008-02-01", "2008-09-01", "2009-04-04",
}

// The versions of the OpenStack tree, oldest first.
var openstackVersions = []string{
	"2012-08-10", "2013-04-04", "2013-10-17", "2015-10-15", "2016-06-30",
	"2016-10-06", "2017-02-22", "2018-08-27", "2020-10-14",
}

// The places in openstackVersions at which something was added.
const (
	grizzly   = 1 // password, random_seed
	havana    = 2 // vendor_data.json
	liberty   = 3 // network_data.json, project_id
	newtonOne = 4 // devices
	newtonTwo = 5 // vendor_data2.json
	victoria  = 8 // dedicated_cpus
)

// openstackVersion gives the place of a version of the OpenStack tree, that of
// the newest for "latest", and -1 for no version.
func openstackVersion(name string) int {
	if name == "latest" {
		return len(openstackVersions) - 1
	}
	return slices.Index(openstackVersions, name)
}

// listing prints versions as Nova does: one a line, no newline at the end.
func listing(versions []string) string {
	return strings.Join(versions, "\n") + "\nlatest"
}

// The content types that Nova gives; the first also to everything in the EC2
// tree, user data and listings.
const (
	plainText = "text/plain; charset=UTF-8"
	htmlText  = "text/html; charset=UTF-8"
	jsonText  = "application/json"
)

// tree gives what lies at a resource, in NovaResource's words, other than the
// password.
func (v *view) tree(resource string) answer {
	tokens := strings.Split(resource[1:], "/")
	if tokens[0] == "openstack" {
		return v.openstackItem(tokens[1:])
	}
	return v.ec2Item(tokens[1:])
}

// openstackItem is get_openstack_item and RouteConfiguration.handle_path.
func (v *view) openstackItem(tokens []string) answer {
	if len(tokens) == 0 {
		return found(plainText, listing(openstackVersions))
	}
	version := openstackVersion(tokens[0])
	if version < 0 {
		return notFound // with /openstack/content, which holds nothing here
	}
	switch name := strings.Join(tokens[1:], "/"); {
	case name == "" || name == "version": // Nova's undocumented name for the listing
		return found(plainText, v.openstackListing(version))
	case name == "content":
		return crashed // Nova calls the handler with an argument too many
	case name == "meta_data.json":
		return found(jsonText, v.metaData(version))
	case name == "user_data" && v.instance.UserData != "":
		return found(plainText, v.instance.UserData)
	case name == "vendor_data.json" && version >= havana:
		return found(jsonText, "{}")
	case name == "vendor_data2.json" && version >= newtonTwo:
		return found(jsonText, `{"static": {}}`)
	case name == "network_data.json": // in every version, though listed only from 2015 on
		return found(plainText, "{}")
	}
	return notFound
}

// openstackListing does not depend on whether a password is set.
func (v *view) openstackListing(version int) string {
	names := []string{"meta_data.json"}
	if v.instance.UserData != "" {
		names = append(names, "user_data")
	}
	for _, added := range []struct {
		since int
		name  string
	}{
		{grizzly, "password"},
		{havana, "vendor_data.json"},
		{liberty, "network_data.json"},
		{newtonTwo, "vendor_data2.json"},
	} {
		if version >= added.since {
			names = append(names, added.name)
		}
	}
	return strings.Join(names, "\n")
}

// metaData prints meta_data.json with the members, their order and the spacing
// of Nova's.
func (v *view) metaData(version int) string {
	i := v.instance
	var doc object
	doc.add("uuid", quote(i.ID))
	if len(i.Meta) > 0 {
		var meta object
		for _, key := range slices.Sorted(maps.Keys(i.Meta)) {
			meta.add(key, quote(i.Meta[key]))
		}
		doc.add("meta", meta.String())
	}
	doc.add("public_keys", `{"k1": `+quote(publicKey)+`}`)
	doc.add("keys", `[{"name": "k1", "type": "ssh", "data": `+quote(publicKey)+`}]`)
	doc.add("hostname", quote(i.hostname()))
	doc.add("name", quote(i.Name))
	doc.add("launch_index", "0")
	doc.add("availability_zone", `"nova"`)
	if version >= grizzly { // 512 secret bytes, new for each request
		doc.add("random_seed", quote(base64.StdEncoding.EncodeToString(randomBytes(512))))
	}
	if version >= liberty {
		doc.add("project_id", quote(i.Project))
	}
	if version >= newtonOne {
		doc.add("devices", "[]")
	}
	if version >= victoria {
		doc.add("dedicated_cpus", "[]")
	}
	return doc.String()
}

// node is a directory of the EC2 tree: string, []string (a list), or node.
type node map[string]any

// nameKey is the member by which Nova prints a directory under another name.
// It can be asked for like any other.
const nameKey = "_name"

// ec2Item is get_ec2_item and find_path_in_tree, with their exceptions.
func (v *view) ec2Item(tokens []string) answer {
	if len(tokens) == 0 {
		return found(plainText, listing(ec2Versions))
	}
	version := len(ec2Versions) - 1
	if tokens[0] != "latest" {
		if version = slices.Index(ec2Versions, tokens[0]); version < 0 {
			return notFound
		}
	}
	var data any = v.ec2Tree(version)
	for n, token := range tokens[1:] {
		switch at := data.(type) {
		case node:
			next, ok := at[token]
			if !ok {
				return notFound
			}
			data = next
		case []string:
			// Nova looks whether the list holds the name and then uses the name
			// as an index.
			if slices.Contains(at, token) {
				return crashed
			}
			return notFound
		default:
			// A name behind a leaf is an index into a string; two are not found.
			if n == len(tokens)-2 {
				return crashed
			}
			return notFound
		}
	}
	switch at := data.(type) {
	case node:
		return found(plainText, at.listing())
	case []string:
		return found(plainText, strings.Join(at, "\n"))
	default:
		return found(plainText, at.(string))
	}
}

// ec2Tree is get_ec2_metadata. It has no password anywhere.
func (v *view) ec2Tree(version int) node {
	i := v.instance
	since := func(name string) bool { return version >= slices.Index(ec2Versions, name) }
	address := v.address
	if address == "" {
		address = "None"
	}
	meta := node{
		"ami-id":            "ami-00000001",
		"ami-launch-index":  "0",
		"ami-manifest-path": "FIXME",
		"instance-id":       "i-" + padded(i.number),
		"hostname":          i.hostname(),
		"local-ipv4":        address,
		"reservation-id":    "r-" + strconv.Itoa(i.number),
		"security-groups":   []string{"default"},
		"public-keys":       node{"0": node{nameKey: "0=k1", "openssh-key": publicKey}},
	}
	if since("2007-01-19") {
		meta["local-hostname"], meta["public-hostname"], meta["public-ipv4"] = i.hostname(), i.hostname(), ""
	}
	if since("2007-08-29") {
		meta["instance-type"] = "m1.tiny"
	}
	if since("2007-12-15") {
		meta["block-device-mapping"] = node{"ami": "sda1", "ephemeral0": "sda2", "root": "/dev/sda1", "swap": "sda3"}
	}
	if since("2008-02-01") {
		meta["placement"] = node{"availability-zone": "nova"}
	}
	if since("2008-09-01") {
		meta["instance-action"] = "none"
	}
	root := node{"meta-data": meta}
	if i.UserData != "" {
		root["user-data"] = i.UserData
	}
	return root
}

// listing is ec2_md_print of a directory.
func (n node) listing() string {
	var lines []string
	for _, key := range slices.Sorted(maps.Keys(n)) {
		if key == nameKey {
			continue
		}
		if below, ok := n[key].(node); ok {
			if name, ok := below[nameKey].(string); ok {
				key = name
			} else {
				key += "/"
			}
		}
		lines = append(lines, key)
	}
	return strings.Join(lines, "\n")
}
