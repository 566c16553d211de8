// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"fmt"
	"net/netip"

	"github.com/google/uuid"

	"github.com/metaguard/metaguard/module/decision"
	"github.com/metaguard/metaguard/module/pace"
)

// located is what is known of an instance by its id, without a pointer.
type located struct {
	project uint32 // index in Inventory.projects
	line    uint32 // of the entry whose address this is
	address [16]byte
	single  bool // address is one
}

// LoadInstances reads an inventory as LoadInventory does, for finding instances
// by their ids too. An instance in two projects is an *InventoryError.
func LoadInstances(path string, p *pace.Pace) (*Inventory, error) {
	inventory, err := LoadInventory(path, p)
	if err != nil {
		return nil, err
	}
	inventory.instances = make(map[uuid.UUID]located, inventory.size-len(inventory.named))
	inventory.others = make(map[string]located, len(inventory.named))
	for prefix, entry := range inventory.all() {
		if p.Step(); entry.caller == 0 {
			continue
		}
		id := inventory.caller(entry.caller)[len(instancePrefix):]
		now := located{project: entry.project, line: entry.line}
		if prefix.IsSingleIP() {
			now.address, now.single = prefix.Addr().As16(), true
		}
		earlier, again := inventory.locate(id)
		if again && earlier.project != now.project {
			return nil, inventory.disagreement(path)
		}
		if again && earlier.single && (!now.single || earlier.line < now.line) {
			continue
		}
		if isUUID(id) {
			inventory.instances[uuid.MustParse(id)] = now
		} else {
			inventory.others[id] = now
		}
	}
	return inventory, nil
}

// disagreement is about the first entry in the file that gives an instance another
// project than an earlier one.
func (i *Inventory) disagreement(path string) error {
	first := make(map[string]record)
	for _, entry := range i.all() {
		if entry.caller == 0 {
			continue
		}
		id := i.caller(entry.caller)
		if earlier, ok := first[id]; !ok || entry.line < earlier.line {
			first[id] = entry
		}
	}
	var wrong record
	for _, entry := range i.all() {
		if entry.caller != 0 && entry.project != first[i.caller(entry.caller)].project && (wrong.line == 0 || entry.line < wrong.line) {
			wrong = entry
		}
	}
	id := i.caller(wrong.caller)
	return &InventoryError{
		Path: path, Line: int(wrong.line), Column: 1,
		Problem: fmt.Sprintf("instance %s has another project than in line %d: correct one of them", id[len(instancePrefix):], first[id].line),
	}
}

// locate finds an instance by its id. A UUID takes less room than its text.
func (i *Inventory) locate(id string) (found located, ok bool) {
	if isUUID(id) {
		found, ok = i.instances[uuid.MustParse(id)]
	} else {
		found, ok = i.others[id]
	}
	return found, ok
}

// Instance finds an instance by its id, with the address of its first entry
// that is no prefix. Only what LoadInstances read has any.
func (i *Inventory) Instance(id string) (decision.Target, bool) {
	found, ok := i.locate(id)
	target := decision.Target{InstanceID: id, ProjectID: i.projects[found.project]}
	if found.single {
		target.Address = netip.AddrFrom16(found.address).Unmap()
	}
	return target, ok
}
