// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"iter"
	"net/netip"

	"github.com/gaissmai/bart"
	"github.com/google/uuid"
)

// Inventory says which address or prefix belongs to which instance. It is
// immutable and safe for concurrent use; looking an address up takes no lock
// and allocates nothing.
//
// The file is a JSON list (a million entries are fine):
//
//	[{"address": "10.0.0.5", "instance_id": "…", "project_id": "…", "roles": ["windows"]},
//	 {"address": "10.1.0.0/16", "project_id": "…"}]
//
// address is required: an IPv4 or IPv6 address, or a prefix without host bits.
// The longest prefix wins. An IPv4-mapped IPv6 address is IPv4. The same
// prefix twice, one that covers every address, and unknown keys are errors.
// instance_id is a UUID in lower case, or another name of 1 to 64 letters, digits
// and "-_."; project_id has 1 to 64 letters, digits
// and "-_.:"; roles are not empty and have no control characters. What is not known is
// left out. An empty list is an inventory in which nobody is known.
type Inventory struct {
	hosts    map[[16]byte]record // of single addresses, which most entries are: nothing of it has a pointer
	prefixes bart.Table[record]  // the other entries
	callers  []string            // of callersPerChunk caller ids each, whose instances are UUIDs
	named    []string            // the other caller ids
	projects []string
	roles    [][]string
	size     int
	digest   string

	instances map[uuid.UUID]located // nil: LoadInventory made it
	others    map[string]located    // the instances whose ids are no UUIDs
}

// Entry is what the inventory knows about one address or prefix.
type Entry struct {
	// CallerID is "instance:<instance id>", or empty without an instance.
	CallerID string
	// InstanceID is the instance's id, or empty.
	InstanceID string
	// ProjectID is the instance's project, or empty.
	ProjectID string
	// Roles may be nil. They are shared: do not change them.
	Roles []string
	// Line is where the entry begins in the file; the first line is 1.
	Line int
}

// Lookup finds the entry with the longest prefix that holds addr. The zero
// Addr has none.
func (i *Inventory) Lookup(addr netip.Addr) (Entry, bool) {
	if !addr.IsValid() {
		return Entry{}, false
	}
	addr = plain(addr)
	found, ok := i.hosts[addr.As16()]
	if !ok {
		found, ok = i.prefixes.Lookup(addr)
	}
	if !ok {
		return Entry{}, false
	}
	entry := Entry{ProjectID: i.projects[found.project], Roles: i.roles[found.roles], Line: int(found.line)}
	if found.caller != 0 {
		entry.CallerID = i.caller(found.caller)
		entry.InstanceID = entry.CallerID[len(instancePrefix):]
	}
	return entry, true
}

// Len is the number of entries.
func (i *Inventory) Len() int { return i.size }

// Digest is the SHA-256 of the file, in lower-case hexadecimal digits.
func (i *Inventory) Digest() string { return i.digest }

// all gives every entry, in no order.
func (i *Inventory) all() iter.Seq2[netip.Prefix, record] {
	return func(yield func(netip.Prefix, record) bool) {
		for host, entry := range i.hosts {
			addr := netip.AddrFrom16(host).Unmap()
			if !yield(netip.PrefixFrom(addr, addr.BitLen()), entry) {
				return
			}
		}
		i.prefixes.All()(yield)
	}
}

// record is an Entry in 16 bytes without a pointer, which keeps a million of
// them small and the garbage collector away from them. Zero is "none".
type record struct {
	caller  uint32 // 1 + index of the caller id; isNamed tells where
	project uint32 // index in Inventory.projects
	roles   uint32 // index in Inventory.roles
	line    uint32
}

// Caller ids of UUIDs all have one length, so many of them stand in one string.
const (
	isNamed         = 1 << 31 // in record.caller: an index of Inventory.named
	callerLen       = len(instancePrefix) + uuidLen
	callersPerChunk = 1024
)

func (i *Inventory) caller(number uint32) string {
	if number&isNamed != 0 {
		return i.named[number&^isNamed-1]
	}
	at := int(number-1) % callersPerChunk * callerLen
	return i.callers[int(number-1)/callersPerChunk][at : at+callerLen]
}

// inventoryBuilder collects what an Inventory shares between its entries.
type inventoryBuilder struct {
	inventory *Inventory
	chunk     []byte // caller ids that are not yet in inventory.callers
	callers   uint32
	projects  map[string]uint32
	roles     map[string]uint32 // by the list's JSON text
}

func newInventoryBuilder() *inventoryBuilder {
	return &inventoryBuilder{
		inventory: &Inventory{hosts: make(map[[16]byte]record), projects: []string{""}, roles: [][]string{nil}},
		projects:  make(map[string]uint32),
		roles:     make(map[string]uint32),
	}
}

// caller keeps an instance id and gives its number.
func (b *inventoryBuilder) caller(instanceID []byte) uint32 {
	if !isUUID(instanceID) {
		b.inventory.named = append(b.inventory.named, instancePrefix+string(instanceID))
		return uint32(len(b.inventory.named)) | isNamed
	}
	if b.chunk == nil {
		b.chunk = make([]byte, 0, callersPerChunk*callerLen)
	}
	b.chunk = append(append(b.chunk, instancePrefix...), instanceID...)
	b.callers++
	if len(b.chunk) == cap(b.chunk) {
		b.flush()
	}
	return b.callers
}

// project keeps a project id once and gives its index.
func (b *inventoryBuilder) project(id []byte) uint32 {
	if index, ok := b.projects[string(id)]; ok {
		return index
	}
	kept := string(id)
	index := uint32(len(b.inventory.projects))
	b.inventory.projects = append(b.inventory.projects, kept)
	b.projects[kept] = index
	return index
}

// insert adds a record, or gives the one that already has this prefix.
func (b *inventoryBuilder) insert(prefix netip.Prefix, added record) (earlier record, doubled bool) {
	if prefix.IsSingleIP() {
		if earlier, doubled = b.inventory.hosts[prefix.Addr().As16()]; !doubled {
			b.inventory.hosts[prefix.Addr().As16()] = added
		}
	} else if earlier, doubled = b.inventory.prefixes.Get(prefix); !doubled {
		b.inventory.prefixes.Insert(prefix, added)
	}
	if !doubled {
		b.inventory.size++
	}
	return earlier, doubled
}

func (b *inventoryBuilder) flush() {
	if len(b.chunk) > 0 {
		b.inventory.callers = append(b.inventory.callers, string(b.chunk))
		b.chunk = b.chunk[:0]
	}
}

// finish gives the inventory, which is not changed afterwards.
func (b *inventoryBuilder) finish(digest string) *Inventory {
	b.flush()
	b.inventory.digest = digest
	return b.inventory
}

// addRoles keeps a list of roles once, by its JSON text, and gives its index.
func (b *inventoryBuilder) addRoles(text string, roles []string) uint32 {
	index := uint32(len(b.inventory.roles))
	b.inventory.roles = append(b.inventory.roles, roles)
	b.roles[text] = index
	return index
}
