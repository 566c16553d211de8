// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"
	"strings"
	"testing"

	"github.com/metaguard/metaguard/module/pace"
)

// A list in pages is a list, at their ends too.
func TestPlaces(t *testing.T) {
	const page = 1 << pageBits
	for _, n := range []int{0, 1, page - 1, page, page + 1, 3*page + 5} {
		var list places
		for i := range n {
			list = list.add(uint32(i) + 1)
		}
		if got := list.count(); got != n {
			t.Fatalf("%d places are %d", n, got)
		}
		for i := range n {
			if got := *list.at(i); got != uint32(i)+1 {
				t.Fatalf("place %d of %d is %d", i, n, got)
			}
		}
		empty := newPlaces(n, new(pace.Pace))
		if got := empty.count(); got != n {
			t.Fatalf("%d zeros are %d", n, got)
		}
		for i := range n {
			*empty.at(i)++ // each is one of its own
		}
		for i := range n {
			if got := *empty.at(i); got != 1 {
				t.Fatalf("zero %d of %d is %d", i, n, got)
			}
		}
	}
}

// A table finds its names in all of its pages.
func TestTableOfManyPages(t *testing.T) {
	const n = 5 << pageBits / 2
	var text strings.Builder
	for i := range n {
		fmt.Fprintf(&text, `,"%d":%d`, i, i)
	}
	value, _, _, err := parseJSON([]byte("{"+text.String()[1:]+"}"), new(pace.Pace))
	if err != nil {
		t.Fatal(err)
	}
	table, ok := value.(*table)
	if !ok || table.count != n || len(table.slots) < 2 {
		t.Fatalf("%T", value)
	}
	seen := 0
	for at := range table.places() {
		seen++
		if found, ok := table.find(table.name(at)); !ok || found != at {
			t.Fatalf("%s is at %d, found at %d", table.name(at), at, found)
		}
	}
	if _, ok := table.find("nobody"); ok || seen != n {
		t.Errorf("%d of %d names, and one that is not there: %v", seen, n, ok)
	}
}
