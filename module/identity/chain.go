// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"

	"github.com/metaguard/metaguard/module/decision"
)

// Chain is the ordered list of sources. An empty chain refuses everything.
type Chain []Source

// Validate refuses a chain that cannot mean what it says: without sources,
// with one source twice, or with one after anonymous, which nothing reaches.
func (c Chain) Validate() error {
	if len(c) == 0 {
		return errors.New("no identity source: add an `identify` line")
	}
	seen := make(map[string]bool, len(c))
	for i, source := range c {
		name := source.Name()
		if seen[name] {
			return fmt.Errorf("identity source %s is given twice: the first answers for every request of the second", name)
		}
		seen[name] = true
		if name == anonymousName && i != len(c)-1 {
			return fmt.Errorf("identity source anonymous must be last: it claims every request, so %s would never be asked", c[i+1].Name())
		}
	}
	return nil
}

// Identify asks the sources in their order. The first claim decides; without
// any the request ends with identity_missing. It also gives the name of the
// source that claimed the request, or "".
func (c Chain) Identify(r *http.Request, peer netip.Addr) (_ *decision.Caller, claimed string, _ *decision.Refusal) {
	for _, source := range c {
		caller, refusal := source.Identify(r, peer)
		if refusal != nil {
			return nil, source.Name(), refusal
		}
		if caller != nil {
			return caller, source.Name(), nil
		}
	}
	return nil, "", decision.Refuse(decision.IdentityMissing, "identity_unclaimed")
}

// At says who is at an address as far as that alone tells: whom an inventory has
// there, or anyone. The request's own address must be the same.
func (c Chain) At(r *http.Request, address netip.Addr) (*decision.Caller, *decision.Refusal) {
	var byAddress Chain
	for _, source := range c {
		switch source.(type) {
		case *RemoteIP, *Anonymous:
			byAddress = append(byAddress, source)
		}
	}
	caller, _, refusal := byAddress.Identify(r, address)
	return caller, refusal
}

// TargetRule says on whose data the caller acts that a source of the chain
// identified; nil: nobody said.
func (c Chain) TargetRule(caller *decision.Caller) *TargetRule {
	for _, source := range c {
		if targeter, ok := source.(Targeter); ok && source.Name() == caller.Source {
			return targeter.TargetRule()
		}
	}
	return nil
}

// Inventories lists the inventory files that the chain's sources look into.
// They are there once the sources are provisioned.
func (c Chain) Inventories() []*InventoryFile {
	var files []*InventoryFile
	for _, source := range c {
		if inventory, ok := source.(*RemoteIP); ok {
			files = append(files, inventory.File())
		}
		if targeter, ok := source.(Targeter); ok {
			if rule := targeter.TargetRule(); rule != nil && rule.file != nil {
				files = append(files, rule.file)
			}
		}
	}
	return files
}

// Trusts tells whether a source of the chain has an agent at peer.
func (c Chain) Trusts(peer netip.Addr) bool {
	for _, source := range c {
		if agent, ok := source.(Agent); ok && agent.Trusts(peer) {
			return true
		}
	}
	return false
}

// Headers lists what all sources read, sorted, each once. It allocates: ask at
// start, not per request.
func (c Chain) Headers() []string {
	var names []string
	for _, source := range c {
		names = append(names, source.Headers()...)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

var _ Agent = Chain(nil)
