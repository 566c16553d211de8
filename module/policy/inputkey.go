// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"maps"
	"math"
	"net/netip"
	"slices"
	"sync"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/metaguard/metaguard/module/decision"
)

// inputKey stands for all inputs that a policy cannot tell apart: SHA-256 of
// what it can learn of them, so that nobody can make two that share a key.
type inputKey [sha256.Size]byte

// keyer makes keys of inputs, for one policy with its data.
type keyer struct {
	texts     comparedParts[string]
	addresses comparedParts[netip.Addr]
	others    []func(keyBuffer, *decision.Input) keyBuffer
	claims    bool // are part of it
}

// newKeyer makes a keyer for a policy that learns no more than reads of an input, and has
// this data.
func newKeyer(reads readSet, data *branch) keyer {
	k := keyer{
		texts:     newComparedParts(reads, textParts, func(text string) (string, bool) { return text, true }),
		addresses: newComparedParts(reads, addressParts, addressOf),
	}
	for i := range k.texts.parts {
		part := &k.texts.parts[i]
		tables, ok := tablesAt(data, reads[part.name].tables)
		part.all = part.all || !ok
		if len(tables) > 0 {
			part.knows = anyOf(tables)
		}
	}
	for i := range k.addresses.parts {
		part := &k.addresses.parts[i]
		part.all = part.all || len(reads[part.name].tables) > 0 // names are texts
	}
	k.claims = reads[claimsPart] != nil
	for _, name := range sortedKeys(otherParts) {
		if key := otherParts[name].key; key != nil && reads[name] != nil {
			k.others = append(k.others, key)
		}
	}
	return k
}

// addressOf is the address that a policy sees as this text; false: there is none.
func addressOf(text string) (netip.Addr, bool) {
	if text == "" {
		return netip.Addr{}, true
	}
	address, err := netip.ParseAddr(text)
	return address, err == nil && address.String() == text
}

// tablesAt are the objects at some places of the data, where there is anything; false
// where something at a place, or on the way to it, is no object. OPA finds the elements of
// an array by text, too.
func tablesAt(data *branch, places map[string]ast.Ref) (tables []any, ok bool) {
	for _, place := range places {
		var at any = data
		for _, step := range place[1:] {
			name, _ := step.Value.(ast.String)
			at = memberOf(at, string(name))
			switch at.(type) {
			case nil, *branch, *tableValues, ast.Object:
			default:
				return nil, false
			}
		}
		if at != nil {
			tables = append(tables, at)
		}
	}
	return tables, true
}

// anyOf tells whether some table has anything under a name.
func anyOf(tables []any) func(name string) bool {
	small, large := make(map[string]struct{}), []any(nil)
	for _, table := range tables {
		object, ok := table.(ast.Object)
		if !ok || object.Len() >= tableFrom {
			large = append(large, table)
			continue
		}
		// OPA would make a value of each name that it looks for.
		object.Foreach(func(name, _ *ast.Term) {
			if name, ok := name.Value.(ast.String); ok {
				small[string(name)] = struct{}{}
			}
		})
	}
	return func(name string) bool {
		_, known := small[name]
		return known || slices.ContainsFunc(large, func(table any) bool { return holds(table, name) })
	}
}

// of is the key of an input; false where it has a claim that has no key, also if no rule
// reads it: one that cannot be shown to a policy is an error for whoever has it.
func (k *keyer) of(in *decision.Input) (inputKey, bool) {
	buffer := keyBuffers.Get().(*keyBuffer) //nolint:forcetypeassert // there is nothing else in it
	b, ok := (*buffer)[:0].claims(in.Caller.Claims)
	if !k.claims {
		b = b[:0]
	}
	b = k.texts.write(b, in, keyBuffer.text)
	b = k.addresses.write(b, in, keyBuffer.address)
	for _, write := range k.others {
		b = write(b, in)
	}
	key := inputKey(sha256.Sum256(b))
	*buffer = b
	keyBuffers.Put(buffer)
	return key, ok
}

// keyBuffers hold keys while they are made.
var keyBuffers = sync.Pool{New: func() any { buffer := make(keyBuffer, 0, 1024); return &buffer }}

// keyBuffer is what a key is made of. Every part says how long it is or has a
// fixed length, so that no two inputs are written alike.
type keyBuffer []byte

func (b keyBuffer) number(n int) keyBuffer { return binary.LittleEndian.AppendUint64(b, uint64(n)) }

func (b keyBuffer) flag(is bool) keyBuffer {
	if is {
		return append(b, 1)
	}
	return append(b, 0)
}

func (b keyBuffer) text(text string) keyBuffer {
	return append(binary.AppendUvarint(b, uint64(len(text))), text...)
}

// address is written as a policy sees it.
func (b keyBuffer) address(address netip.Addr) keyBuffer {
	if !address.IsValid() {
		return append(b, 0)
	}
	var space [48]byte
	text := address.AppendTo(space[:0])
	return append(binary.AppendUvarint(b, uint64(len(text))), text...)
}

func (b keyBuffer) texts(list []string) keyBuffer {
	b = b.number(len(list))
	for _, text := range list {
		b = b.text(text)
	}
	return b
}

func (b keyBuffer) numbers(list []int) keyBuffer {
	b = b.number(len(list))
	for _, n := range list {
		b = b.number(n)
	}
	return b
}

func (b keyBuffer) query(query map[string][]string) keyBuffer {
	b = b.number(len(query))
	var space [16]string
	for _, name := range sortedNames(space[:0], query) {
		b = b.text(name).texts(query[name])
	}
	return b
}

func (b keyBuffer) headers(headers map[string]string) keyBuffer {
	b = b.number(len(headers))
	var space [16]string
	for _, name := range sortedNames(space[:0], headers) {
		b = b.text(name).text(headers[name])
	}
	return b
}

func (b keyBuffer) body(body *decision.Body) keyBuffer {
	if b = b.flag(body != nil); body != nil {
		b = b.number(body.Size).text(body.Format).number(body.KeyBits)
	}
	return b
}

func (b keyBuffer) process(p *decision.Process) keyBuffer {
	if b = b.flag(p != nil); p == nil {
		return b
	}
	b = b.number(p.PID).number(p.UserID).text(p.User).numbers(p.GroupIDs).texts(p.Groups)
	return b.text(p.Executable).text(p.CommandLineSHA256).text(p.Cgroup).text(p.Unit).text(p.ContainerID)
}

func (b keyBuffer) claims(claims map[string]any) (keyBuffer, bool) {
	if len(claims) == 0 {
		return append(b, 0), true
	}
	return b.value(claims, 1)
}

// maxClaimDepth bounds how deep claims are read.
const maxClaimDepth = 32

// value writes what JSON knows, each kind under its own letter, and gives up on
// anything else: it shall be judged every time.
func (b keyBuffer) value(value any, depth int) (keyBuffer, bool) {
	if depth > maxClaimDepth {
		return b, false
	}
	switch value := value.(type) {
	case nil:
		return append(b, 'z'), true
	case bool:
		return append(b, 'b').flag(value), true
	case string:
		return append(b, 's').text(value), true
	case json.Number:
		return append(b, 'n').text(value.String()), true
	case float64:
		return binary.LittleEndian.AppendUint64(append(b, 'f'), math.Float64bits(value)), true
	case int:
		return append(b, 'i').number(value), true
	case int64:
		return binary.LittleEndian.AppendUint64(append(b, 'j'), uint64(value)), true
	case []string:
		return append(b, 't').texts(value), true
	case []any:
		b = append(b, 'a').number(len(value))
		for _, item := range value {
			var ok bool
			if b, ok = b.value(item, depth+1); !ok {
				return b, false
			}
		}
		return b, true
	case map[string]any:
		b = append(b, 'o').number(len(value))
		for _, name := range slices.Sorted(maps.Keys(value)) {
			var ok bool
			if b, ok = b.text(name).value(value[name], depth+1); !ok {
				return b, false
			}
		}
		return b, true
	}
	return b, false
}

// sortedNames are the names in a map, in space if they fit.
func sortedNames[V any](space []string, in map[string]V) []string {
	for name := range in {
		space = append(space, name)
	}
	slices.Sort(space)
	return space
}
