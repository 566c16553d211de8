// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"encoding/binary"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"testing"
	"weak"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/metaguard/metaguard/module/decision"
)

// A policy that gives every caller another verdict does not fill memory, and what is
// remembered for an input is the verdict of that input, also while all begins anew.
func TestVerdictsAreBounded(t *testing.T) {
	var p Policy
	p.verdicts.Store(newVerdicts(newVerdictCache(1000, false, keyer{})))
	var recalled [4]int
	var group sync.WaitGroup
	for n := range recalled {
		group.Go(func() {
			for i := range maxShared {
				v := &verdict{output: ast.String(strconv.Itoa(n) + "-" + strconv.Itoa(i)), explained: true}
				p.keep(v)
				var key inputKey
				binary.LittleEndian.PutUint64(key[:], uint64(n)<<32|uint64(i))
				key[0] ^= key[1] // any hash will do
				v.remember(key)
				switch got := p.verdicts.Load().recall(key); {
				case got == v:
					recalled[n]++
				case got != nil:
					t.Errorf("%v was remembered as %v", v.output, got.output)
				}
				if count := len(*p.verdicts.Load().all.Load()); count > maxShared {
					t.Errorf("%d verdicts are kept", count)
				}
			}
		})
	}
	group.Wait()
	for _, count := range recalled {
		if count == 0 {
			t.Error("nothing was remembered")
		}
	}
}

// Where all begins anew, nothing keeps what was before: not a verdict that was explained
// later either.
func TestVerdictsAreForgotten(t *testing.T) {
	deny := "deny contains code if {\n\tinput.request.path != \"/ok\"\n\tcode := concat(\" \", [\"no\", input.request.path])\n}\n"
	p := withTeam(t, deny+deny) // two rules can have given a code, so that it is explained
	in := instance(decision.KindMetadata, decision.Read)
	var all []weak.Pointer[verdicts]
	in.Request.Path = "/ok" // one verdict, so that what is explained is the last before all begins anew
	p.Decide(t.Context(), in)
	for i := range 2 * maxShared { // each gives two
		in.Request.Path = fmt.Sprint("/", i)
		if r := p.Decide(t.Context(), in); len(r.Rules) != 2 || r.verdict == nil {
			t.Fatalf("%+v", r)
		}
		if now := weak.Make(p.verdicts.Load()); !slices.Contains(all, now) {
			all = append(all, now)
		}
	}
	if len(all) < 3 {
		t.Fatalf("only %d times all has begun anew", len(all)-1)
	}
	eventually(t, "what was before is forgotten", func() bool {
		runtime.GC()
		return !slices.ContainsFunc(all[:len(all)-1], func(before weak.Pointer[verdicts]) bool { return before.Value() != nil })
	})
	runtime.KeepAlive(p)
}
