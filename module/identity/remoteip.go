// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/metaguard/metaguard/module/decision"
)

const remoteIPName = "remote_ip"

func init() { caddy.RegisterModule(new(RemoteIP)) }

// RemoteIP knows callers by their address, from an inventory file. It claims a
// request when the inventory has the address, which is the connection's: no
// header can change it, so nothing that forwards for others may stand between
// callers and Metaguard, unless `address` says so.
//
// The file is read again within about two seconds when it changes; one that is
// bad or vanishes keeps the last good inventory.
//
// Caller: id `instance:<uuid>`, or `address:<address>` where the entry names no
// instance; the entry's instance, project and roles; the address.
type RemoteIP struct {
	// The inventory file: a JSON list of entries `address`, `instance_id`,
	// `project_id`, `roles`.
	Inventory string `json:"inventory"`

	// Where a caller's address comes from: `connection` (default), `client_ip`
	// (Caddy's, from the header that `trusted_proxies` of the server lets count,
	// which needs `trusted_proxies_strict`)
	// or `proxy_protocol` (from the listener wrapper of that name). Both other
	// ones are a proxy's word: a caller that reaches Metaguard around the proxy,
	// from an address that Caddy trusts as one, can be anybody.
	Address AddressFrom `json:"address,omitempty"`

	// The SHA-256 of the file when the configuration was adapted, so that a
	// reload notices an edit where nothing else changed. It is compared with
	// nothing.
	Digest string `json:"digest,omitempty"`

	file *InventoryFile
}

// CaddyModule says what this is to Caddy.
func (*RemoteIP) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "metaguard.identities.remote_ip",
		New: func() caddy.Module { return new(RemoteIP) },
	}
}

// Provision reads the inventory, and fails where it is bad. It starts nothing.
func (s *RemoteIP) Provision(ctx caddy.Context) error {
	if s.Inventory == "" {
		return errors.New("identify remote_ip needs an inventory file")
	}
	if err := s.Address.Check(); err != nil {
		return fmt.Errorf("identify remote_ip: %w", err)
	}
	if err := s.Address.CheckSite(ctx); err != nil {
		return fmt.Errorf("identify remote_ip: %w", err)
	}
	file, err := OpenInventory(s.Inventory, ctx.Logger())
	if err != nil {
		return err
	}
	s.file = file
	return nil
}

// Cleanup ends what Start began. Requests that still run keep the inventory.
func (s *RemoteIP) Cleanup() error {
	s.Stop()
	return nil
}

// Start follows the inventory file. It fails before Provision.
func (s *RemoteIP) Start() error {
	if s.file == nil {
		return errors.New("starting identify remote_ip: it is not provisioned")
	}
	return s.file.Start()
}

// Stop ends what Start began, if anything.
func (s *RemoteIP) Stop() {
	if s.file != nil {
		s.file.Stop()
	}
}

// Identify claims a request from an address in the inventory. It ends none.
func (s *RemoteIP) Identify(r *http.Request, peer netip.Addr) (*decision.Caller, *decision.Refusal) {
	address := s.Address.Of(r, plain(peer))
	entry, ok := s.file.Lookup(address)
	if !ok {
		return nil, nil
	}
	id := entry.CallerID
	if id == "" {
		id = "address:" + address.String()
	}
	return &decision.Caller{
		Source:     remoteIPName,
		ID:         id,
		InstanceID: entry.InstanceID,
		ProjectID:  entry.ProjectID,
		Address:    address,
		Roles:      entry.Roles,
	}, nil
}

// Name is "remote_ip".
func (*RemoteIP) Name() string { return remoteIPName }

// Headers is empty: it reads none.
func (*RemoteIP) Headers() []string { return nil }

// Status says which inventory is in force. It is there once the source is
// provisioned.
func (s *RemoteIP) Status() InventoryStatus { return s.file.Status() }

// File is the inventory, for whoever else looks addresses up. It is nil before
// Provision.
func (s *RemoteIP) File() *InventoryFile { return s.file }

// UnmarshalCaddyfile reads the whole grammar:
//
//	identify remote_ip <inventory-file> {
//		address connection|client_ip|proxy_protocol
//	}
//
// A relative path is relative to the Caddyfile that names it; the configuration
// gets the absolute one, since a running server has another working directory
// than the command that reloads it. A file that is not there is no error here:
// provisioning says it.
func (s *RemoteIP) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the name of the source
	if !d.NextArg() || d.Val() == "" {
		return d.Err("identify remote_ip needs an inventory file: identify remote_ip <inventory-file>")
	}
	path, err := besideCaddyfile(d, d.Val())
	if err != nil {
		return err
	}
	if d.NextArg() {
		return d.Err("identify remote_ip takes one inventory file")
	}
	_, err = unmarshalBlock(d, "identify remote_ip", setting{"address", func() error {
		text, err := unmarshalOne(d)
		s.Address = AddressFrom(text)
		if err != nil {
			return err
		}
		return wrap(d, s.Address.Check())
	}})
	if err != nil {
		return err
	}
	s.Inventory, s.Digest = path, fileDigest(path)
	return nil
}

var (
	_ caddy.Module          = (*RemoteIP)(nil)
	_ caddy.Provisioner     = (*RemoteIP)(nil)
	_ caddy.CleanerUpper    = (*RemoteIP)(nil)
	_ caddyfile.Unmarshaler = (*RemoteIP)(nil)
	_ Source                = (*RemoteIP)(nil)
	_ Starter               = (*RemoteIP)(nil)
)
