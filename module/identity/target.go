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

// HeaderTarget names the instance that a request is about, by `target request`.
const HeaderTarget = "X-Metaguard-Target"

// The ways to find a target.
const (
	targetByAddress = "remote_ip"
	targetByClaim   = "claim"
	targetByRequest = "request"
)

// TargetRule says on whose data a caller acts that is no instance itself.
type TargetRule struct {
	// `remote_ip`: the instance that the inventory gives for the caller's
	// address. `claim`: the one that a verified claim names. `request`: the one
	// that the request's header `X-Metaguard-Target` names, which the inventory
	// must have. None found refuses the request with `target_unknown`.
	By string `json:"by"`

	// The inventory file, for `remote_ip` and `request`.
	Inventory string `json:"inventory,omitempty"`

	// The SHA-256 of the inventory when the configuration was adapted, so that a
	// reload notices an edit. It is compared with nothing.
	Digest string `json:"digest,omitempty"`

	// Where the address comes from that `remote_ip` looks up: `connection`
	// (default), `client_ip` or `proxy_protocol`.
	Address AddressFrom `json:"address,omitempty"`

	// The claim that names the instance, a UUID in lower case.
	Claim string `json:"claim,omitempty"`

	// The claim that names the instance's project. Default: the caller's own.
	ProjectClaim string `json:"project_claim,omitempty"`

	file *InventoryFile
}

// Provision checks the rule and reads its inventory. It starts nothing.
func (t *TargetRule) Provision(ctx caddy.Context) (err error) {
	if err := t.Address.Check(); err != nil {
		return fmt.Errorf("target: %w", err)
	}
	if err := t.Address.CheckSite(ctx); err != nil {
		return fmt.Errorf("target: %w", err)
	}
	switch t.By {
	case targetByAddress, targetByRequest:
		if t.Inventory == "" {
			return fmt.Errorf("target %s needs an inventory file", t.By)
		}
		load := LoadInventory
		if t.By == targetByRequest {
			load = LoadInstances
		}
		t.file, err = openInventory(t.Inventory, ctx.Logger(), load)
		return err
	case targetByClaim:
		if t.Claim == "" {
			return errors.New("target claim needs the claim's name")
		}
		return nil
	}
	return fmt.Errorf("target %q: it is remote_ip, claim or request", t.By)
}

// Start follows the inventory, if there is one.
func (t *TargetRule) Start() error {
	if t == nil || t.file == nil {
		return nil
	}
	return t.file.Start()
}

// Stop ends what Start began.
func (t *TargetRule) Stop() {
	if t != nil && t.file != nil {
		t.file.Stop()
	}
}

// Find gives the target of a caller's request, or false.
func (t *TargetRule) Find(r *http.Request, peer netip.Addr, caller *decision.Caller) (decision.Target, bool) {
	switch t.By {
	case targetByAddress:
		address := t.Address.Of(r, peer)
		entry, ok := t.file.Lookup(address)
		return decision.Target{InstanceID: entry.InstanceID, ProjectID: entry.ProjectID, Address: address}, ok && entry.InstanceID != ""
	case targetByClaim:
		return t.claimed(caller)
	default:
		names := r.Header[HeaderTarget]
		if len(names) != 1 || !validInstanceID(names[0]) {
			return decision.Target{}, false
		}
		return t.file.Inventory().Instance(names[0])
	}
}

func (t *TargetRule) claimed(caller *decision.Caller) (decision.Target, bool) {
	id, _ := caller.Claims[t.Claim].(string)
	project := caller.ProjectID
	if t.ProjectClaim != "" {
		project, _ = caller.Claims[t.ProjectClaim].(string)
		if !validProjectID(project) {
			return decision.Target{}, false
		}
	}
	return decision.Target{InstanceID: id, ProjectID: project}, validInstanceID(id)
}

// headers are those that the rule reads.
func (t *TargetRule) headers() []string {
	if t != nil && t.By == targetByRequest {
		return []string{HeaderTarget}
	}
	return nil
}

// unmarshalTarget reads, with the dispenser on the word `target`:
//
//	target remote_ip <inventory-file> [connection|client_ip|proxy_protocol]
//	target claim <name> [<project-claim>]
//	target request <inventory-file>
func unmarshalTarget(d *caddyfile.Dispenser) (*TargetRule, error) {
	const grammar = "it is `target remote_ip <inventory-file> [connection|client_ip|proxy_protocol]`, `target claim <name> [<project-claim>]` or `target request <inventory-file>`"
	args := d.RemainingArgs()
	if len(args) < 2 || len(args) > 3 || args[1] == "" {
		return nil, d.Err(grammar)
	}
	t := &TargetRule{By: args[0]}
	switch t.By {
	case targetByAddress, targetByRequest:
		path, err := besideCaddyfile(d, args[1])
		if err != nil {
			return nil, err
		}
		t.Inventory, t.Digest = path, fileDigest(path)
	case targetByClaim:
		t.Claim = args[1]
	default:
		return nil, d.Err(grammar)
	}
	switch {
	case len(args) == 2:
	case t.By == targetByAddress:
		t.Address = AddressFrom(args[2])
		if err := t.Address.Check(); err != nil {
			return nil, d.WrapErr(err)
		}
	case t.By == targetByClaim && args[2] != "":
		t.ProjectClaim = args[2]
	default:
		return nil, d.Err(grammar)
	}
	return t, noBlock(d, "target")
}
