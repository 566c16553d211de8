// SPDX-License-Identifier: Apache-2.0

package dialect

import (
	"net/http"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/metaguard/metaguard/module/decision"
)

func init() {
	caddy.RegisterModule(Azure{})
}

// Azure is the dialect of Azure's Instance Metadata Service: everything below
// /metadata. It follows Microsoft's pages "Azure Instance Metadata Service" (in
// the repository MicrosoftDocs/azure-compute-docs
// articles/virtual-machines/instance-metadata-service.md), "Scheduled Events
// for Linux VMs" (…/linux/scheduled-events.md) and the OpenAPI document of the
// service (Azure/azure-rest-api-specs,
// specification/imds/data-plane/InstanceMetadataService). A version's name is
// in the query, and so is the form of an answer: a document, or with
// format=text a listing or a single value.
//
// The first answer about scheduled events may take two minutes, for which
// Metaguard does not wait: it says 504 after one, and the next is there at once.
//
// Two more servers that an Azure guest talks to are none of this dialect: the
// wireserver (168.63.129.16, port 80) and the HostGAPlugin (port 32526).
//
// What its clients do with a status, for azidentity v1.15.0
// (managed_identity_client.go: setIMDSRetryOptionDefaults, GetToken) and
// cloud-init 22.4.2 (DataSourceAzure.py: IMDS_RETRY_CODES, _get_metadata_from_imds):
//
//	400       azidentity: no such identity here, and a chain goes on. It is also
//	          what its probe without the Metadata header waits for. cloud-init
//	          asks once more with an older api-version and then goes on without.
//	401 405   azidentity and cloud-init fail at once; cloud-init goes on without.
//	403       alike. A chain of azidentity goes on only if the body says "unreachable".
//	404       azidentity asks six times more, within about 80 s; cloud-init ten times.
//	409       like 403.
//	410 429   like 404.
//	5xx       azidentity like 404; cloud-init so for 500 only.
type Azure struct{}

// CaddyModule returns the Caddy module information.
func (Azure) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "metaguard.dialects.azure",
		New: func() caddy.Module { return new(Azure) },
	}
}

// Name says "azure".
func (Azure) Name() string { return "azure" }

// Traits are those of the service and its clients. It demands the header
// Metadata and refuses whatever a proxy passed on (Microsoft's page, "Security
// and authentication"). A refusal is 403, which no client asks again for.
func (Azure) Traits() Traits {
	return Traits{
		Query: map[string][]string{
			"api-version": nil,
			"format":      {formatJSON, formatText},
			"extended":    {"true", "false"}, // of cloud-init, not on the page
			"nonce":       nil,

			"resource":     nil,
			"client_id":    nil,
			"object_id":    nil,
			"principal_id": nil, // msal's other name for object_id
			"msi_res_id":   nil,
			"mi_res_id":    nil,
			"authority":    nil,
			"claims":       nil,
			"bypass_cache": {"true", "false"},
		},
		RequestHeaders:   []string{"Metadata"},
		Required:         Header{"Metadata", "true"},
		RefusesForwarded: true,
		DenyStatus:       http.StatusForbidden,
		Survives:         []int{http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusMethodNotAllowed, http.StatusConflict},
	}
}

// The values of the query's format.
const (
	formatJSON = "json"
	formatText = "text"
)

// Classify tells what a canonical request asks the service for.
func (Azure) Classify(r Request) Match {
	match := azureTable.classify(r)
	match.Direct = true
	match.Resource.Version = first(r.Query["api-version"])
	if match.Resource.Kind == decision.KindUnknown {
		return match
	}
	match.Resource.Key = strings.TrimPrefix(match.Resource.Key, "metadata/")
	switch first(r.Query["format"]) {
	case "", formatJSON:
	case formatText:
		if match.Tree {
			match.Tree, match.Format = false, Listing
			match.Resource.Kind = decision.KindListing
		} else if match.Format != Text {
			match.Ambiguous = "query_format_text" // the service has these as JSON only
		}
	default:
		match.Ambiguous = "query_format" // TEXT: nobody says what the service takes it for
	}
	return match
}

func first(values []string) string {
	if len(values) == 0 {
		return ""
	}
	return values[0]
}

// Below gives the request for a member of an instance's document: its path goes
// on with the members' names and the indexes of arrays.
func (Azure) Below(r Request, members []string) Request {
	return below(r, members)
}

// Samples holds every kind of resource.
func (Azure) Samples() []Sample {
	return []Sample{
		{http.MethodGet, "/metadata/versions"},
		{http.MethodGet, "/metadata/instance"},
		{http.MethodGet, "/metadata/instance/compute/vmId"},
		{http.MethodGet, "/metadata/instance/compute/userData"},
		{http.MethodGet, "/metadata/instance/network"},
		{http.MethodGet, "/metadata/identity/oauth2/token"},
		{http.MethodGet, "/metadata/attested/document"},
		{http.MethodGet, "/metadata/scheduledevents"},
		{http.MethodPost, "/metadata/scheduledevents"},
		{http.MethodGet, "/metadata/nothing"},
	}
}

// UnmarshalCaddyfile sets up the dialect, which has no settings:
//
//	dialect azure
func (*Azure) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	return noSettings(d)
}

// Interface guards.
var (
	_ Dialect               = (*Azure)(nil)
	_ Trees                 = (*Azure)(nil)
	_ caddyfile.Unmarshaler = (*Azure)(nil)
)
