// SPDX-License-Identifier: Apache-2.0

package dialect

import (
	"net/http"
	"slices"

	"github.com/metaguard/metaguard/module/decision"
)

// ec2ServiceVersions are the builds that EC2 itself lists at "/", as instances
// showed them in 2024 and since; the EC2 User Guide's list ("Get the available
// versions of the instance metadata") ends earlier. Which build brought which
// category (the table of "Instance metadata categories" there) is left to the
// server.
var ec2ServiceVersions = []string{
	"1.0", "2007-01-19", "2007-03-01", "2007-08-29", "2007-10-10", "2007-12-15", "2008-02-01", "2008-09-01", "2009-04-04",
	"2011-01-01", "2011-05-01", "2012-01-12", "2014-02-25", "2014-11-05", "2015-10-20", "2016-04-19", "2016-06-30", "2016-09-02",
	"2018-03-28", "2018-08-17", "2018-09-24", "2019-10-01", "2020-10-27", "2021-01-03", "2021-03-23", "2021-07-15",
	"2022-07-09", "2022-09-24", "2024-04-11", "latest",
}

// ec2Rows are the categories of the EC2 User Guide ("Instance metadata
// categories", "Dynamic data categories"), those of its earlier editions that
// older servers still have, and what instances list beside them: hibernation,
// managed-ssh-keys, metrics, profile, system.
var ec2Rows = slices.Concat(
	ec2Listings(
		"", "{version}", "{version}/meta-data", "{version}/dynamic",
	),
	[]row{
		{pattern: "{version}/user-data", kind: decision.KindUserdata},
		// The guide's "How Instance Metadata Service Version 2 works": a PUT
		// without a body, whose answer is the token.
		{pattern: "{version}/api/token", kind: decision.KindToken, sensitive: true, writes: []string{http.MethodPut}, writeOnly: true},
	},
	ec2Dynamic,
	ec2Credentials,
	ec2Data(decision.KindMetadata, Text, "{version}/meta-data/",
		"ami-id", "ami-launch-index", "ami-manifest-path", "ancestor-ami-ids",
		"autoscaling/target-lifecycle-state",
		"block-device-mapping/*", // ami, root, swap, ebsN, ephemeralN
		"hibernation/configured",
		"hostname", "instance-action", "instance-id", "instance-life-cycle", "instance-type",
		"kernel-id", "local-hostname",
		// What EC2 Instance Connect asks for (aws/aws-ec2-instance-connect-config,
		// eic_run_authorized_keys): public keys and who signed them.
		"managed-ssh-keys/active-keys/*", "managed-ssh-keys/signer-cert", "managed-ssh-keys/signer-ocsp/*",
		"metrics/vhostmd",
		"placement/availability-zone", "placement/availability-zone-id", "placement/group-id", "placement/group-name",
		"placement/host-id", "placement/partition-number", "placement/region",
		"product-codes", "profile", "public-hostname",
		"public-keys/#/openssh-key", // listed as "0=name"
		"ramdisk-id", "reservation-id", "security-groups",
		"services/domain", "services/partition",
		"spot/termination-time", "system",
		"tags/instance/*",
	),
	ec2Data(decision.KindMetadata, JSON, "{version}/meta-data/",
		"elastic-gpus/associations/*", "elastic-inference/associations/*", // until 2024
		"events/maintenance/history", "events/maintenance/scheduled", "events/recommendations/rebalance",
		"iam/info", "identity-credentials/ec2/info", "spot/instance-action",
	),
	ec2Data(decision.KindNetwork, Text, "{version}/meta-data/",
		"ipv6", "local-ipv4", "mac", "public-ipv4",
	),
	ec2Data(decision.KindNetwork, Text, "{version}/meta-data/network/interfaces/macs/*/",
		"device-number", "interface-id", "ipv4-associations/*", "ipv4-prefix", "ipv6-prefix", "ipv6s",
		"local-hostname", "local-ipv4s", "mac", "network-card", "network-card-index", "owner-id",
		"public-hostname", "public-ipv4s", "security-group-ids", "security-groups",
		"subnet-id", "subnet-ipv4-cidr-block", "subnet-ipv6-cidr-blocks",
		"vpc-id", "vpc-ipv4-cidr-block", "vpc-ipv4-cidr-blocks", "vpc-ipv6-cidr-blocks",
	),
	ec2MetadataListings,
)

// ec2Dynamic is what is made when an instance starts. Whoever has one of the signed
// documents passes for the instance at servers that take it for a proof, such
// as Vault's and SPIRE's.
var ec2Dynamic = slices.Concat(
	ec2Listings("{version}/dynamic/fws", "{version}/dynamic/instance-identity"),
	ec2Data(decision.KindMetadata, Text, "{version}/dynamic/fws/", "instance-monitoring"),
	[]row{
		{pattern: "{version}/dynamic/instance-identity/document", kind: decision.KindCredentials, format: JSON, sensitive: true},
		{pattern: "{version}/dynamic/instance-identity/pkcs7", kind: decision.KindCredentials, sensitive: true},
		{pattern: "{version}/dynamic/instance-identity/rsa2048", kind: decision.KindCredentials, sensitive: true},
		{pattern: "{version}/dynamic/instance-identity/signature", kind: decision.KindCredentials, sensitive: true},
	},
)

// ec2Credentials are keys of the instance's roles.
var ec2Credentials = []row{
	{pattern: "{version}/meta-data/iam/security-credentials/*", kind: decision.KindCredentials, format: JSON, sensitive: true},
	{pattern: "{version}/meta-data/identity-credentials/ec2/security-credentials/*", kind: decision.KindCredentials, format: JSON, sensitive: true},
}

// ec2MetadataListings are the directories below meta-data.
var ec2MetadataListings = ec2Listings(
	"{version}/meta-data/autoscaling",
	"{version}/meta-data/block-device-mapping",
	"{version}/meta-data/elastic-gpus", "{version}/meta-data/elastic-gpus/associations",
	"{version}/meta-data/elastic-inference", "{version}/meta-data/elastic-inference/associations",
	"{version}/meta-data/events", "{version}/meta-data/events/maintenance", "{version}/meta-data/events/recommendations",
	"{version}/meta-data/hibernation",
	"{version}/meta-data/iam", "{version}/meta-data/iam/security-credentials",
	"{version}/meta-data/identity-credentials", "{version}/meta-data/identity-credentials/ec2", "{version}/meta-data/identity-credentials/ec2/security-credentials",
	"{version}/meta-data/managed-ssh-keys", "{version}/meta-data/managed-ssh-keys/active-keys", "{version}/meta-data/managed-ssh-keys/signer-ocsp",
	"{version}/meta-data/metrics",
	"{version}/meta-data/network", "{version}/meta-data/network/interfaces", "{version}/meta-data/network/interfaces/macs",
	"{version}/meta-data/network/interfaces/macs/*", "{version}/meta-data/network/interfaces/macs/*/ipv4-associations",
	"{version}/meta-data/placement",
	"{version}/meta-data/public-keys", "{version}/meta-data/public-keys/#",
	"{version}/meta-data/services",
	"{version}/meta-data/spot",
	"{version}/meta-data/tags", "{version}/meta-data/tags/instance",
)

func ec2Listings(patterns ...string) []row {
	return ec2Data(decision.KindListing, Listing, "", patterns...)
}

// ec2Data makes rows of one kind and format.
func ec2Data(kind decision.Kind, format Format, below string, names ...string) []row {
	rows := make([]row, 0, len(names))
	for _, name := range names {
		rows = append(rows, row{pattern: below + name, kind: kind, format: format})
	}
	return rows
}
