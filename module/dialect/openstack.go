// SPDX-License-Identifier: Apache-2.0

package dialect

import (
	"net/http"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/metaguard/metaguard/module/decision"
)

func init() {
	caddy.RegisterModule(OpenStack{})
}

// OpenStack is the dialect of OpenStack Nova's metadata server: the tree
// /openstack/<version>/… and the EC2 one, which answers with or without a
// leading /ec2. The tables follow Nova's nova/api/metadata/base.py
// (OPENSTACK_VERSIONS, VERSIONS, _handle_version, get_ec2_metadata). What they
// do not list is of kind unknown: a version that a later Nova adds, the
// listing "content" that crashes Nova, a key that no Nova has.
type OpenStack struct{}

// CaddyModule returns the Caddy module information.
func (OpenStack) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "metaguard.dialects.openstack",
		New: func() caddy.Module { return new(OpenStack) },
	}
}

// Name says "openstack".
func (OpenStack) Name() string { return "openstack" }

// Traits are those of Nova and its clients. Nova keeps four chunks of 255
// characters (password.py, MAX_SIZE) and caches an instance for
// metadata_cache_expiration, by default 15 s. cloud-init takes 404 for "not
// there" and gives up on 400; Neutron's agent passes on only 200, 400, 403,
// 404, 409 and 500, and turns any other status into 500.
func (OpenStack) Traits() Traits {
	return Traits{
		Cache:       15 * time.Second,
		MaxPassword: 4 * 255,
		DenyStatus:  http.StatusForbidden,
		Survives:    []int{http.StatusForbidden, http.StatusNotFound, http.StatusConflict},
	}
}

// openStackVersions holds every version directory below /openstack, oldest
// first. "latest" is the last one.
var openStackVersions = []string{
	"2012-08-10", // Folsom
	"2013-04-04", // Grizzly: password
	"2013-10-17", // Havana: vendor_data.json
	"2015-10-15", // Liberty: network_data.json
	"2016-06-30", // Newton
	"2016-10-06", // Newton: vendor_data2.json
	"2017-02-22", // Ocata
	"2018-08-27", // Rocky
	"2020-10-14", // Victoria
	"latest",
}

// ec2Versions holds every version directory of the EC2 tree.
var ec2Versions = []string{
	"1.0", "2007-01-19", "2007-03-01", "2007-08-29", "2007-10-10",
	"2007-12-15", "2008-02-01", "2008-09-01", "2009-04-04", "latest",
}

// leaf is one row of a table: a name and what it stands for.
type leaf struct {
	kind      decision.Kind
	format    Format
	since     string // the first version that has it; empty: all
	sensitive bool
	writable  bool
}

// openStackLeaves are the names below /openstack/<version>. Nova answers
// network_data.json in every version, though it lists it only from 2015 on.
var openStackLeaves = map[string]leaf{
	"meta_data.json":    {kind: decision.KindMetadata, format: JSON},
	"user_data":         {kind: decision.KindUserdata},
	"password":          {kind: decision.KindPassword, since: "2013-04-04", sensitive: true, writable: true},
	"vendor_data.json":  {kind: decision.KindVendordata, format: JSON, since: "2013-10-17"},
	"vendor_data2.json": {kind: decision.KindVendordata, format: JSON, since: "2016-10-06"},
	"network_data.json": {kind: decision.KindNetwork, format: JSON},
	"version":           {kind: decision.KindListing, format: Listing},
}

// ec2Leaves are the names below <version>/meta-data. A number stands for "#".
var ec2Leaves = map[string]leaf{
	"ami-id":                      {kind: decision.KindMetadata},
	"ami-launch-index":            {kind: decision.KindMetadata},
	"ami-manifest-path":           {kind: decision.KindMetadata},
	"block-device-mapping":        {kind: decision.KindListing, format: Listing},
	"hostname":                    {kind: decision.KindMetadata},
	"instance-action":             {kind: decision.KindMetadata},
	"instance-id":                 {kind: decision.KindMetadata},
	"instance-type":               {kind: decision.KindMetadata},
	"kernel-id":                   {kind: decision.KindMetadata},
	"local-hostname":              {kind: decision.KindMetadata},
	"local-ipv4":                  {kind: decision.KindMetadata},
	"placement":                   {kind: decision.KindListing, format: Listing},
	"placement/availability-zone": {kind: decision.KindMetadata},
	"public-hostname":             {kind: decision.KindMetadata},
	"public-ipv4":                 {kind: decision.KindMetadata},
	"public-keys":                 {kind: decision.KindListing, format: Listing},
	"public-keys/#":               {kind: decision.KindListing, format: Listing},
	"public-keys/#/openssh-key":   {kind: decision.KindMetadata},
	"ramdisk-id":                  {kind: decision.KindMetadata},
	"reservation-id":              {kind: decision.KindMetadata},
	"security-groups":             {kind: decision.KindMetadata},
}

var (
	readable         = []string{http.MethodGet, http.MethodHead}
	readableWritable = []string{http.MethodGet, http.MethodHead, http.MethodPost}
)

// Classify tells what a canonical request asks Nova for.
func (OpenStack) Classify(r Request) Match {
	name, version, key := lookUpOpenStack(r.Segments)
	if name.kind == decision.KindHealth && r.TrailingSlash {
		name = unknown // oslo's health check takes the exact path; Nova says 404
	}
	match := Match{
		Resource: decision.Resource{
			Dialect:   "openstack",
			Kind:      name.kind,
			Version:   version,
			Key:       key,
			Action:    decision.Read,
			Sensitive: name.sensitive,
		},
		Methods: readable,
		Format:  name.format,
	}
	if key == "version" {
		match.Parent = r.Segments[:len(r.Segments)-1] // what it lists stands beside it
	}
	if name.writable {
		match.Methods = readableWritable
		if r.Method == http.MethodPost {
			match.Resource.Action = decision.Write
			match.Body = true
		}
	}
	return match
}

var (
	unknown = leaf{kind: decision.KindUnknown}
	listing = leaf{kind: decision.KindListing, format: Listing}
)

// lookUpOpenStack walks the tables as Nova's InstanceMetadata.lookup does.
func lookUpOpenStack(segments []string) (found leaf, version, key string) {
	if len(segments) == 0 {
		return listing, "", ""
	}
	switch segments[0] {
	case "healthcheck":
		if len(segments) == 1 {
			return leaf{kind: decision.KindHealth}, "", ""
		}
		return unknown, "", ""
	case "openstack":
		return lookUpOpenStackTree(segments[1:])
	case "ec2":
		return lookUpEC2Tree(segments[1:])
	}
	return lookUpEC2Tree(segments)
}

func lookUpOpenStackTree(segments []string) (found leaf, version, key string) {
	if len(segments) == 0 {
		return listing, "", ""
	}
	if segments[0] == "content" { // the files that were injected at boot
		if len(segments) == 2 {
			return leaf{kind: decision.KindUserdata}, "", "content/" + segments[1]
		}
		return unknown, "", ""
	}
	version = segments[0]
	age := indexOf(openStackVersions, version)
	if age < 0 {
		return unknown, "", ""
	}
	switch len(segments) {
	case 1:
		return listing, version, ""
	case 2:
		key = segments[1]
		row, ok := openStackLeaves[key]
		if !ok || (row.since != "" && age < indexOf(openStackVersions, row.since)) {
			return unknown, version, ""
		}
		return row, version, key
	}
	return unknown, version, ""
}

func lookUpEC2Tree(segments []string) (found leaf, version, key string) {
	if len(segments) == 0 {
		return listing, "", ""
	}
	version = segments[0]
	if indexOf(ec2Versions, version) < 0 {
		return unknown, "", ""
	}
	switch {
	case len(segments) == 1:
		return listing, version, ""
	case segments[1] == "user-data" && len(segments) == 2:
		return leaf{kind: decision.KindUserdata}, version, "user-data"
	case segments[1] != "meta-data":
		return unknown, version, ""
	case len(segments) == 2:
		return listing, version, "meta-data"
	}
	return lookUpEC2Leaf(version, segments[2:])
}

func lookUpEC2Leaf(version string, names []string) (found leaf, _, key string) {
	key = strings.Join(names, "/")
	if row, ok := ec2Leaves[key]; ok {
		return row, version, "meta-data/" + key
	}
	switch {
	case names[0] == "block-device-mapping" && len(names) == 2: // ami, root, ebs0, …: named by the instance's volumes
		return leaf{kind: decision.KindMetadata}, version, "meta-data/" + key
	case names[0] == "public-keys" && len(names) > 1 && isNumber(names[1]):
		pattern := "public-keys/#" + strings.TrimPrefix(key, "public-keys/"+names[1])
		if row, ok := ec2Leaves[pattern]; ok {
			return row, version, "meta-data/" + key
		}
	}
	return unknown, version, ""
}

func isNumber(s string) bool {
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return false
		}
	}
	return s != ""
}

func indexOf(list []string, wanted string) int {
	for i, entry := range list {
		if entry == wanted {
			return i
		}
	}
	return -1
}

// UnmarshalCaddyfile sets up the dialect, which has no settings:
//
//	dialect openstack
func (*OpenStack) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	return noSettings(d)
}

// Interface guards.
var (
	_ Dialect               = (*OpenStack)(nil)
	_ caddyfile.Unmarshaler = (*OpenStack)(nil)
)
