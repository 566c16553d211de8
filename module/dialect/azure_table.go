// SPDX-License-Identifier: Apache-2.0

package dialect

import (
	"net/http"
	"strings"

	"github.com/metaguard/metaguard/module/decision"
)

// azureTable holds what Microsoft's page lists. A name that a later version
// adds is of kind unknown, and so it is hidden from documents until a policy
// says otherwise.
var azureTable = mustTable("azure", nil, append([]row{
	{pattern: "metadata/versions", kind: decision.KindListing, format: JSON},
	{pattern: "metadata/identity/info", kind: decision.KindMetadata, format: JSON},
	{pattern: "metadata/identity/oauth2/token", kind: decision.KindCredentials, format: JSON, sensitive: true},
	{pattern: "metadata/attested/document", kind: decision.KindCredentials, format: JSON, sensitive: true},
	{pattern: "metadata/loadbalancer", kind: decision.KindNetwork, format: JSON},
	// An approval starts a reboot, of other machines as well: the built-in policy
	// has no grant for it.
	{pattern: "metadata/scheduledevents", kind: decision.KindMetadata, format: JSON, writes: []string{http.MethodPost}, body: true},
	// The ovf-env.xml of a machine that was prepared in advance, with its
	// administrator's password (cloud-init, DataSourceAzure.py, _poll_imds).
	{pattern: "metadata/reprovisiondata", kind: decision.KindCredentials, sensitive: true},
}, azureInstance()...))

// azureInstance makes the rows of /metadata/instance: one for each value, and
// one for each object and array on the way to it.
func azureInstance() []row {
	const root = "metadata/instance"
	rows := []row{{pattern: root, kind: decision.KindMetadata, format: JSON, tree: true}}
	known := make(map[string]bool)
	for _, part := range []struct {
		below  string
		kind   decision.Kind
		values []string
	}{
		{root + "/compute", decision.KindMetadata, azureCompute},
		{root + "/compute", decision.KindUserdata, []string{"userData", "customData"}},
		{root + "/network", decision.KindNetwork, azureNetwork},
		// Not on the page: cloud-init asks for it with extended=true
		// (DataSourceAzure.py, _ppstype_from_imds).
		{root + "/extended", decision.KindMetadata, []string{"compute/hasCustomData", "compute/ppsType"}},
	} {
		for _, value := range part.values {
			pattern := part.below + "/" + value
			for at := len(part.below); at < len(pattern); at++ {
				if pattern[at] != '/' || known[pattern[:at]] {
					continue
				}
				known[pattern[:at]] = true
				rows = append(rows, row{pattern: pattern[:at], kind: part.kind, format: JSON, tree: true})
			}
			rows = append(rows, row{pattern: pattern, kind: part.kind})
		}
	}
	return rows
}

// azureCompute holds the values below compute: the table "Compute" of
// Microsoft's page, those under "Storage profile", and what its sample
// answers show of plan, publicKeys, tagsList and the disks.
var azureCompute = append(strings.Fields(`
	additionalCapabilities/hibernationEnabled azEnvironment evictionPolicy
	extendedLocation/type extendedLocation/name host/id hostGroup/id
	isHostCompatibilityLayerVm isVmInStandbyPool licenseType location name offer
	osProfile/adminUsername osProfile/computerName
	osProfile/disablePasswordAuthentication osType physicalZone
	placementGroupId plan/name plan/product plan/publisher
	platformFaultDomain platformSubFaultDomain platformUpdateDomain
	priority provider publicKeys/#/keyData publicKeys/#/path publisher
	resourceGroupName resourceId securityProfile/encryptionAtHost
	securityProfile/secureBootEnabled securityProfile/securityType
	securityProfile/virtualTpmEnabled sku
	storageProfile/imageReference/communityGalleryImageId
	storageProfile/imageReference/exactVersion
	storageProfile/imageReference/id storageProfile/imageReference/offer
	storageProfile/imageReference/publisher
	storageProfile/imageReference/sharedGalleryImageId
	storageProfile/imageReference/sku storageProfile/imageReference/version
	storageProfile/resourceDisk/size
	subscriptionId tags tagsList/#/name tagsList/#/value version
	virtualMachineScaleSet/id vmId vmScaleSetName vmSize zone`),
	append(azureDisk("storageProfile/osDisk/"), azureDisk("storageProfile/dataDisks/#/")...)...)

// azureDisk holds the values of one disk.
func azureDisk(below string) []string {
	values := strings.Fields(`
		bytesPerSecondThrottle caching createOption diffDiskSettings/option
		diskCapacityBytes diskSizeGB
		encryptionSettings/enabled
		encryptionSettings/diskEncryptionKey/secretUrl
		encryptionSettings/diskEncryptionKey/sourceVault/id
		encryptionSettings/keyEncryptionKey/keyUrl
		encryptionSettings/keyEncryptionKey/sourceVault/id
		image/uri isSharedDisk isUltraDisk lun managedDisk/id
		managedDisk/storageAccountType name opsPerSecondThrottle osType
		vhd/uri writeAcceleratorEnabled`)
	for i := range values {
		values[i] = below + values[i]
	}
	return values
}

// azureNetwork holds the values below network: the table "Network".
var azureNetwork = strings.Fields(`
	interface/#/ipv4/ipAddress/#/privateIpAddress
	interface/#/ipv4/ipAddress/#/publicIpAddress
	interface/#/ipv4/subnet/#/address interface/#/ipv4/subnet/#/prefix
	interface/#/ipv6/ipAddress/#/privateIpAddress
	interface/#/ipv6/ipAddress/#/publicIpAddress
	interface/#/macAddress`)
