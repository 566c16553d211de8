// SPDX-License-Identifier: Apache-2.0

package dialect

import (
	"net/http"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/metaguard/metaguard/module/decision"
)

func init() {
	caddy.RegisterModule(CloudStack{})
}

// CloudStack is the dialect of CloudStack's virtual router, which runs two
// servers: the password server on port 8080 and Apache with the metadata on port
// 80. A site is in front of one of them; both have this dialect.
//
// The password server (apache/cloudstack, systemvm/debian/opt/cloud/bin/passwd_server_ip.py,
// PasswordRequestHandler.do_GET) looks at no path, only at the header
// DomU_Request:
//
//	send_my_password  gives the password of whoever has the connection's address,
//	                  or the word saved_password if there is none
//	saved_password    says saved_password and forgets the password
//	anything else     says bad_request
//
// The header is therefore refused on every path but "/", where it makes the
// request one for a password. A POST stores passwords (do_POST) and is for the
// router alone.
//
// The metadata tree is what systemvm/debian/var/www/html/latest/.htaccess
// rewrites; the names are those of CommandSetupHelper.generateVmDataCommand and
// NetworkModel.generateVmData. Below meta-data stands also what a user gave as
// details of the user data (CommandSetupHelper.addUserDataDetailsToCommand),
// under names of the user's own.
//
// What clients do with a status:
//
//	400, 401, 403, 405, 409, 429
//	     password: wget gives up at once (http.c, http_loop), and so
//	     cloud-init's CloudStackPasswordServerClient.get_password raises, which
//	     DataSourceCloudStack._get_data logs: the instance boots without the
//	     password. cloud-init from 24 on asks four times first
//	     (CloudStackPasswordServerClient._do_request, readurl with retries=3).
//	     cloudbase-init 1.1.8 (DataServer._password_client) raises HTTPException,
//	     and its plugin fails.
//	     metadata: cloud-init (ec2.get_instance_metadata) asks six times and
//	     loses the whole tree; so listings name nothing that is refused.
//	404  password: as above. user data: there is none
//	     (ec2.get_instance_userdata, SKIP_USERDATA_CODES).
//	5xx  as 403; but cloud-init from 24 on asks again for ever after a 503
//	     (url_helper.readurl), as it does while it waits for instance-id.
//
// Hence deny_status is 404, and who may not read its password is told the
// server's own word for none, which all clients take.
type CloudStack struct{}

// The server's words: what DomU_Request may be, and the answer that says that
// there is no password, which is one of them.
const (
	cloudStackCommand = "DomU_Request"
	cloudStackSend    = "send_my_password"
	cloudStackSaved   = "saved_password"
)

// CaddyModule returns the Caddy module information.
func (CloudStack) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "metaguard.dialects.cloudstack",
		New: func() caddy.Module { return new(CloudStack) },
	}
}

// Name says "cloudstack".
func (CloudStack) Name() string { return "cloudstack" }

// Traits are those of the virtual router. It makes passwords of six or so
// characters (vm.password.length) and keeps what an operator gives instead in a
// line of a file, whole; 255 bytes are what CloudStack's own client for Windows
// reads (VMOpsStartupWatcher, DoStartupConfig).
func (CloudStack) Traits() Traits {
	return Traits{
		Command:     cloudStackCommand,
		Issues:      true,
		Nothing:     []string{cloudStackSaved},
		Complaints:  []string{"bad_request", "wrong_password"}, // the second one of older servers
		MaxPassword: 255,
		DenyStatus:  http.StatusNotFound,
		Survives:    []int{http.StatusNotFound},
	}
}

// cloudStackNames are the metadata that CloudStack itself makes.
var cloudStackNames = []string{
	"availability-zone", "cloud-domain", "cloud-domain-id", "cloud-identifier", "cloud-name",
	"hypervisor-host-name", "instance-id", "local-hostname", "local-ipv4", "public-hostname",
	"public-ipv4", "public-keys", "service-offering", "vm-id",
}

var cloudStackTable = mustTable("cloudstack", []string{"latest"}, cloudStackRows())

// cloudStackRows has every name twice, since the router answers without
// meta-data too.
func cloudStackRows() []row {
	rows := []row{
		{pattern: "{version}/user-data", kind: decision.KindUserdata},
		{pattern: "{version}/meta-data", kind: decision.KindListing, format: Listing},
		{pattern: "{version}/meta-data/meta-data", kind: decision.KindUnknown}, // the listing's file
		{pattern: "{version}/meta-data/*", kind: decision.KindUserdata},
	}
	for _, name := range cloudStackNames {
		rows = append(rows,
			row{pattern: "{version}/" + name, kind: decision.KindMetadata},
			row{pattern: "{version}/meta-data/" + name, kind: decision.KindMetadata})
	}
	return rows
}

// Classify tells what a canonical request asks the router for.
func (c CloudStack) Classify(r Request) Match {
	commands := r.Header[cloudStackCommand] //nolint:staticcheck // as it goes upstream, not as net/http spells it
	switch {
	case len(commands) == 0:
		return cloudStackTable.classify(r)
	case len(commands) > 1:
		return Match{Ambiguous: "command_doubled"}
	case len(r.Segments) > 0:
		// The password server answers on any path, so this is one request to it
		// and another to whoever reads the path.
		return Match{Ambiguous: "command_with_path"}
	}
	return c.classifyCommand(commands[0])
}

func (CloudStack) classifyCommand(command string) Match {
	match := Match{
		Resource: decision.Resource{Dialect: "cloudstack", Kind: decision.KindUnknown, Action: decision.Read},
		Methods:  readable,
	}
	switch command {
	case cloudStackSend:
		match.Transaction = TransactionRead
	case cloudStackSaved:
		match.Transaction = TransactionAcknowledge
		match.Resource.Action = decision.Write
	default:
		return match
	}
	match.Resource.Kind = decision.KindPassword
	match.Resource.Sensitive = true
	match.Resource.Key = command
	match.Methods = []string{http.MethodGet}
	match.Empty = cloudStackSaved
	return match
}

// Commands lists what DomU_Request may be.
func (CloudStack) Commands() []string { return []string{cloudStackSend, cloudStackSaved} }

// Samples holds the metadata tree.
func (CloudStack) Samples() []Sample {
	return []Sample{
		{http.MethodGet, "/latest/meta-data/"},
		{http.MethodGet, "/latest/meta-data/instance-id"},
		{http.MethodGet, "/latest/user-data"},
		{http.MethodGet, "/latest/nothing"},
	}
}

// UnmarshalCaddyfile sets up the dialect, which has no settings:
//
//	dialect cloudstack
func (*CloudStack) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	if d.NextArg() {
		return d.ArgErr()
	}
	if d.NextBlock(d.Nesting()) {
		return d.Errf("dialect cloudstack has no settings, found %q", d.Val())
	}
	return nil
}

// Interface guards.
var (
	_ Dialect               = (*CloudStack)(nil)
	_ Commander             = (*CloudStack)(nil)
	_ caddyfile.Unmarshaler = (*CloudStack)(nil)
)
