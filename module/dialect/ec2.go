// SPDX-License-Identifier: Apache-2.0

package dialect

import (
	"net/http"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/metaguard/metaguard/module/decision"
)

func init() {
	caddy.RegisterModule(EC2{})
}

// EC2 is the dialect of Amazon EC2's instance metadata service and of the servers
// that imitate it. The paths are in ec2_table.go; a version or category that is
// not there is of kind unknown.
//
// A session token of the server's own (IMDSv2, PUT /latest/api/token) passes where
// `session` is off. Elsewhere Metaguard makes the tokens, and the server sees
// nothing of them.
//
// What clients do with a status, read in the AWS SDK for Go v2 (feature/ec2/imds
// v1.20.9, token_provider.go), in cloud-init 22.4 and 26.2
// (sources/DataSourceEc2.py, sources/helpers/ec2.py) and in ec2metadata of
// cloud-guest-utils 0.33 and 0.34:
//
//   - 400: the SDK gives up (updateToken), cloud-init too where it asks for a token
//     (_imds_exception_cb). No well-formed request gets it.
//   - 401: the SDK (HandleDeserialize) and cloud-init (_refresh_stale_aws_token_cb)
//     get a new token and ask again. So it stands for a missing or stale token, and
//     for a caller that is not known.
//   - 403, for a token: the SDK goes on without one (updateToken), cloud-init takes
//     it for "no IMDS here", ec2metadata dies. For data: cloud-init asks six times,
//     a second apart, and then loses the whole tree (_get_instance_metadata),
//     ec2metadata dies (_get), the SDK gives the error to its caller.
//   - 404, for a token: as 403. For data: "not there" for ec2metadata, and for
//     cloud-init's user data (SKIP_USERDATA_CODES); its crawl loses the tree as
//     with 403, so listings must leave out what is refused. It is what refusals by
//     policy are.
//   - 405, for a token: as 403. No client has another method for data.
//   - 409: nothing is answered so.
//   - 429: the SDK gives up at once, cloud-init asks again as after 403.
//   - 5xx: the SDK asks three times (retry.NewStandard), cloud-init as after 403, and
//     26.2 for ever after a 503 (url_helper.readurl); ec2metadata takes 500 for
//     404, and dies of the others.
type EC2 struct{}

// CaddyModule returns the Caddy module information.
func (EC2) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "metaguard.dialects.ec2",
		New: func() caddy.Module { return new(EC2) },
	}
}

// Name says "ec2".
func (EC2) Name() string { return "ec2" }

// The headers of IMDSv2 ("How Instance Metadata Service Version 2 works" in the
// EC2 User Guide).
const (
	ec2Token    = "X-Aws-Ec2-Metadata-Token"
	ec2TokenTTL = "X-Aws-Ec2-Metadata-Token-Ttl-Seconds"
)

// Traits are those of EC2 and its clients. MAC addresses, addresses of IPv6 and
// names of tags and roles have more bytes than most paths: a tag that can be read
// here is of letters, digits and "+-=.,_:@" ("View tags for your EC2 instances
// using instance metadata"), a role of the same without ":" (IAM,
// CreateRole).
func (EC2) Traits() Traits {
	return Traits{
		ExtraPathBytes:   ":=+,@",
		RequestHeaders:   []string{ec2Token, ec2TokenTTL},
		ResponseHeaders:  []string{ec2TokenTTL}, // without it the SDK does not take the token
		RedirectsToSlash: true,
		DenyStatus:       http.StatusNotFound,
		Survives:         []int{http.StatusNotFound},
	}
}

var ec2 = mustTable("ec2", ec2ServiceVersions, ec2Rows)

// Classify tells what a canonical request asks EC2 for. Tokens are had at one
// path only.
func (EC2) Classify(r Request) Match {
	match := ec2.classify(r)
	if match.Resource.Kind != decision.KindToken {
		return match
	}
	if r.TrailingSlash || match.Resource.Version != "latest" {
		match = Match{Resource: decision.Resource{
			Dialect: "ec2", Kind: decision.KindUnknown, Version: match.Resource.Version, Action: decision.Read,
		}, Methods: readable}
		return match
	}
	match.Direct = true // a request with X-Forwarded-For gets none, so that open proxies get none
	return match
}

// Samples holds the trees of a version.
func (EC2) Samples() []Sample {
	return []Sample{
		{http.MethodGet, "/"},
		{http.MethodGet, "/latest/meta-data/"},
		{http.MethodGet, "/latest/meta-data/instance-id"},
		{http.MethodGet, "/latest/meta-data/network/interfaces/macs/02:29:96:8f:6a:2d/local-ipv4s"},
		{http.MethodGet, "/latest/meta-data/iam/security-credentials/role"},
		{http.MethodGet, "/latest/dynamic/instance-identity/document"},
		{http.MethodGet, "/latest/user-data"},
		{http.MethodPut, "/latest/api/token"},
		{http.MethodGet, "/latest/nothing"},
	}
}

// UnmarshalCaddyfile sets up the dialect, which has no settings:
//
//	dialect ec2
func (*EC2) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	if d.NextArg() {
		return d.ArgErr()
	}
	if d.NextBlock(d.Nesting()) {
		return d.Errf("dialect ec2 has no settings, found %q", d.Val())
	}
	return nil
}

// Interface guards.
var (
	_ Dialect               = (*EC2)(nil)
	_ caddyfile.Unmarshaler = (*EC2)(nil)
)
