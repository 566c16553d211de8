// SPDX-License-Identifier: Apache-2.0

package module

import (
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// A site has one name on every replica and after every reload, and another than
// its neighbours.
func TestSiteNames(t *testing.T) {
	name := func(dialect string, hosts []string, listen ...string) string {
		s := &sessions{place: sitePlace(dialect, hosts)}
		server := &caddyhttp.Server{Listen: listen}
		first := s.site(server)
		if again := s.site(server); again != first {
			t.Errorf("%q, then %q", first, again)
		}
		return first
	}
	one := name("openstack", []string{"A.example", "b"}, "10.0.0.1:8775", "10.0.0.1:80")
	for _, same := range []string{
		name("openstack", []string{"b", "a.example", "b"}, "10.0.0.2:80", "10.0.0.2:8775"),
		name("openstack", []string{"b", "a.example"}, ":80", "tcp/:8775", "[fd00::1]:80"),
	} {
		if same != one {
			t.Errorf("%q is not %q", same, one)
		}
	}
	for _, other := range []string{
		name("ec2", []string{"b", "a.example"}, ":80", ":8775"),
		name("openstack", []string{"b"}, ":80", ":8775"),
		name("openstack", nil, ":80", ":8775"),
		name("openstack", []string{"b", "a.example"}, ":80"),
		name("openstack", []string{"b", "a.example"}, ":80-8775"),
		name("openstack", []string{"b", "a.example"}, "unix//run/metaguard.sock"),
	} {
		if other == one {
			t.Errorf("%q is not told apart", other)
		}
	}
	if s := (&sessions{place: "openstack\n"}); !strings.HasPrefix(s.site(nil), "openstack\n") {
		t.Error("a request without a server")
	}
}
