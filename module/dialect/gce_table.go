// SPDX-License-Identifier: Apache-2.0

package dialect

import "github.com/metaguard/metaguard/module/decision"

// gceTable holds the names of Google's page "Predefined metadata keys", those that
// the guest agent reads beside them (google-guest-agent, internal/metadata/unmarshal.go
// and cmd/mwlid_extension/refresher.go), and what a machine lists. A directory is a
// row of the format Listing; what is below it in a recursive answer is judged row by
// row, and what is in no row is hidden.
//
// Sensitive are:
//
//   - tokens, identity documents and private keys, of kind credentials;
//   - ssh-keys, its old spelling sshKeys, and windows-keys: public keys, but whoever
//     is named in them may log in. The guest agent and cloud-init read them at every
//     boot, without a session, so they are of kind metadata, which an instance reads of
//     its own. A Windows password made from them goes to the serial port and is never here;
//   - kube-env and kubeconfig, with which Kubernetes' nodes join ("Protecting cluster
//     metadata", docs.cloud.google.com/kubernetes-engine/docs/how-to/protecting-cluster-metadata).
//
// Scripts are userdata, as is cloud-init's user-data: they often hold secrets too.
var gceTable = mustTable("gce", []string{"v1"}, gceRows())

func gceRows() []row {
	rows := []row{
		{pattern: "", kind: decision.KindListing, format: Listing},
		{pattern: "computeMetadata", kind: decision.KindListing, format: Listing},
	}
	add := func(below string, kind decision.Kind, format Format, sensitive bool, names ...string) {
		for _, name := range names {
			rows = append(rows, row{pattern: "computeMetadata/{version}/" + below + name, kind: kind, format: format, sensitive: sensitive})
		}
	}
	add("", decision.KindListing, Listing, false, "", "instance", "project", "universe")
	add("universe/", decision.KindMetadata, Text, false, "universe-domain", "universe_domain")
	add("project/", decision.KindMetadata, Text, false, "numeric-project-id", "project-id")

	for _, of := range []string{"instance/", "project/"} {
		add(of, decision.KindListing, Listing, false, "attributes")
		add(of+"attributes/", decision.KindMetadata, Text, false, "*")
		add(of+"attributes/", decision.KindMetadata, Text, true, "ssh-keys", "sshKeys", "windows-keys", "kube-env", "kubeconfig")
		add(of+"attributes/", decision.KindUserdata, Text, false,
			"user-data", "user-data-encoding",
			"startup-script", "startup-script-url", "shutdown-script", "shutdown-script-url",
			"windows-startup-script-bat", "windows-startup-script-cmd", "windows-startup-script-ps1", "windows-startup-script-url",
			"windows-shutdown-script-bat", "windows-shutdown-script-cmd", "windows-shutdown-script-ps1", "windows-shutdown-script-url",
			"sysprep-specialize-script-bat", "sysprep-specialize-script-cmd", "sysprep-specialize-script-ps1", "sysprep-specialize-script-url")
	}

	add("instance/", decision.KindMetadata, Text, false,
		"cpu-platform", "description", "hostname", "id", "image", "machine-type", "maintenance-event", "name",
		"preempted", "remaining-cpu-time", "tags", "zone",
		"upcoming-maintenance", "upcoming-maintenance/*",
		"workload-certificates-config-status", "workload-trusted-root-certs")
	add("instance/", decision.KindListing, Listing, false,
		"disks", "disks/#", "guest-attributes", "guest-attributes/*", "identity-configuration", "legacy-endpoint-access",
		"licenses", "licenses/#", "partner-attributes", "scheduling", "shutdown-details", "virtual-clock")
	add("instance/disks/#/", decision.KindMetadata, Text, false, "device-name", "index", "interface", "mode", "type")
	add("instance/guest-attributes/*/", decision.KindMetadata, Text, false, "*")
	add("instance/identity-configuration/", decision.KindMetadata, Text, false, "identity-uuid")
	add("instance/legacy-endpoint-access/", decision.KindMetadata, Text, false, "0.1", "v1beta1")
	add("instance/licenses/#/", decision.KindMetadata, Text, false, "id")
	add("instance/partner-attributes/", decision.KindListing, Listing, false, "*")
	add("instance/partner-attributes/*/", decision.KindMetadata, Text, false, "**") // as deep as a partner likes, and judged as a whole
	add("instance/scheduling/", decision.KindMetadata, Text, false,
		"automatic-restart", "on-host-maintenance", "preemptible", "provisioning-model", "instance-termination-action", "termination-time")
	add("instance/shutdown-details/", decision.KindMetadata, Text, false, "max-duration", "request-timestamp", "stop-state", "target-state")
	add("instance/virtual-clock/", decision.KindMetadata, Text, false, "drift-token")

	add("instance/", decision.KindListing, Listing, false,
		"network-interfaces", "network-interfaces/#", "network-interfaces/#/access-configs", "network-interfaces/#/access-configs/#",
		"network-interfaces/#/forwarded-ips", "network-interfaces/#/forwarded-ipv6s", "network-interfaces/#/ip-aliases",
		"network-interfaces/#/ipv6s", "network-interfaces/#/target-instance-ips",
		"vlan-network-interfaces", "vlan-network-interfaces/#", "vlan-network-interfaces/#/#")
	add("instance/network-interfaces/#/", decision.KindNetwork, Text, false,
		"access-configs/#/external-ip", "access-configs/#/type", "dhcpv6-refresh", "dns-servers", "forwarded-ips/#", "forwarded-ipv6s/#",
		"gateway", "gateway-ipv6", "ip", "ip-aliases/#", "ipv6s/#", "mac", "mtu", "network", "nic-type", "physical-ip", "subnetmask",
		"target-instance-ips/#")
	add("instance/vlan-network-interfaces/#/#/", decision.KindNetwork, Text, false,
		"gateway", "gateway-ipv6", "ip", "ipv6", "mac", "mtu", "parent-interface", "vlan")

	add("instance/", decision.KindListing, Listing, false, "credentials", "gce-workload-certificates", "service-accounts", "service-accounts/*")
	add("instance/", decision.KindCredentials, Text, true,
		"credentials/*", "gce-workload-certificates/workload-identities", "workload-identities",
		"service-accounts/*/identity", "service-accounts/*/token")
	add("instance/gce-workload-certificates/", decision.KindMetadata, Text, false, "config-status", "trust-anchors")
	add("instance/service-accounts/*/", decision.KindMetadata, Text, false, "aliases", "email", "scopes")
	return rows
}
