// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"encoding/binary"
	"strconv"
	"sync"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
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
