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

	"github.com/metaguard/metaguard/module/decision"
)

// inputKey stands for all inputs that a policy cannot tell apart: SHA-256 of
// what it can see of them, so that nobody can make two that share a key.
type inputKey [sha256.Size]byte

// keyer makes keys of inputs. The two members that differ with every request
// are part of a key where a rule can reach them.
type keyer struct{ requestID, sessionAge bool }

// keyBuffers hold keys while they are made.
var keyBuffers = sync.Pool{New: func() any { buffer := make(keyBuffer, 0, 1024); return &buffer }}

// of is the key of an input; false where it has a claim that has no key.
func (k keyer) of(in *decision.Input) (inputKey, bool) {
	buffer := keyBuffers.Get().(*keyBuffer) //nolint:forcetypeassert // there is nothing else in it
	b := (*buffer)[:0]
	b = b.number(in.Version).request(&in.Request, k.requestID).caller(&in.Caller)
	b = b.text(in.Target.InstanceID).text(in.Target.ProjectID).address(in.Target.Address)
	b = b.text(in.Resource.Dialect).text(string(in.Resource.Kind)).text(in.Resource.Version).text(in.Resource.Key)
	b = b.text(string(in.Resource.Action)).flag(in.Resource.Sensitive)
	b = b.flag(in.Session.Present).flag(in.Session.Valid)
	if k.sessionAge {
		b = b.number(in.Session.AgeSeconds)
	}
	b, ok := b.claims(in.Caller.Claims)
	key := inputKey(sha256.Sum256(b))
	*buffer = b
	keyBuffers.Put(buffer)
	return key, ok
}

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

func (b keyBuffer) request(r *decision.Request, withID bool) keyBuffer {
	if withID {
		b = b.text(r.ID)
	}
	b = b.text(r.Method).text(r.Path).texts(r.Segments).text(r.Host).text(r.Protocol)
	b = b.number(len(r.Query))
	var space [16]string
	for _, name := range sortedNames(space[:0], r.Query) {
		b = b.text(name).texts(r.Query[name])
	}
	b = b.number(len(r.Headers))
	for _, name := range sortedNames(space[:0], r.Headers) {
		b = b.text(name).text(r.Headers[name])
	}
	if b = b.flag(r.Body != nil); r.Body != nil {
		b = b.number(r.Body.Size).text(r.Body.Format).number(r.Body.KeyBits)
	}
	return b
}

// caller is all of the caller but its claims.
func (b keyBuffer) caller(c *decision.Caller) keyBuffer {
	b = b.text(c.Source).text(c.ID).text(c.InstanceID).text(c.ProjectID).address(c.Address).texts(c.Roles)
	p := c.Process
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
