// SPDX-License-Identifier: Apache-2.0

package nova_test

import (
	"slices"
	"strings"
	"testing"
)

// TestListingsHoldWhatTheySay follows every listing from both roots, as
// cloud-init's crawler does (cloudinit/sources/helpers/ec2.py,
// MetadataMaterializer), and further: nothing that a listing names is refused
// when it is asked for, every entry answers what Nova answers, and a listing
// leaves out the password alone.
func TestListingsHoldWhatTheySay(t *testing.T) {
	for _, kind := range webServers {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			nova := novaUnder(t, kind)
			g := guardBefore(t, nova.address, setup{})
			entries := 0
			var follow func(listing string)
			follow = func(listing string) {
				direct, guarded := get(t, nova.address, listing, withPassword), get(t, g.address, listing, withPassword)
				if guarded.status != 200 {
					t.Errorf("%s: %v", listing, guarded)
					return
				}
				names := listed(guarded.body)
				all := slices.DeleteFunc(listed(direct.body), func(name string) bool { return name == "password" })
				if !slices.Equal(names, all) {
					t.Errorf("%s lists %q, and Nova %q", listing, names, all)
				}
				for _, name := range names {
					entries++
					path := strings.TrimSuffix(listing, "/") + "/" + name
					if isListing(path) {
						follow(path)
						continue
					}
					direct, guarded := get(t, nova.address, path, withPassword), get(t, g.address, path, withPassword)
					if guarded.status != 200 || stable(guarded) != stable(direct) {
						t.Errorf("%s is listed, and answered with %v; by Nova with %v", path, guarded, direct)
					}
				}
			}
			for _, root := range []string{"/", "/openstack"} {
				follow(root)
			}
			if entries < 200 {
				t.Errorf("only %d entries", entries)
			}
			if refused := strings.Count(g.Log(), `"verdict":"deny"`); refused > 0 {
				t.Errorf("%d refusals", refused)
			}
		})
	}
}

// listed are the entries of a listing. A key is listed as its number and name,
// and asked for by the number.
func listed(body string) []string {
	names := strings.Fields(body)
	for n, name := range names {
		if number, _, isKey := strings.Cut(name, "="); isKey {
			names[n] = number + "/"
		}
	}
	return names
}

// isListing tells whether Nova answers a path that it lists with a listing:
// it says so by a slash everywhere but at the roots, which list versions.
func isListing(path string) bool {
	segments := strings.Split(strings.Trim(path, "/"), "/")
	version := len(segments) == 1 || len(segments) == 2 && (segments[0] == "openstack" || segments[0] == "ec2")
	return version || strings.HasSuffix(path, "/")
}
