// SPDX-License-Identifier: Apache-2.0

package dialect

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/metaguard/metaguard/module/decision"
)

func classify(method, path string) Match {
	segments := strings.FieldsFunc(path, func(r rune) bool { return r == '/' })
	slash := path != "/" && strings.HasSuffix(path, "/")
	return OpenStack{}.Classify(Request{Method: method, Segments: segments, TrailingSlash: slash})
}

func TestOpenStackClassify(t *testing.T) {
	tests := []struct {
		path    string
		kind    decision.Kind
		version string
		key     string
		format  Format
	}{
		{"/", decision.KindListing, "", "", Listing},
		{"/healthcheck", decision.KindHealth, "", "", Text},
		{"/healthcheck/", decision.KindUnknown, "", "", Text},
		{"/healthcheck/x", decision.KindUnknown, "", "", Text},
		{"/openstack", decision.KindListing, "", "", Listing},
		{"/openstack/", decision.KindListing, "", "", Listing},
		{"/openstack/latest", decision.KindListing, "latest", "", Listing},
		{"/openstack/latest/", decision.KindListing, "latest", "", Listing},
		{"/openstack/2012-08-10/version", decision.KindListing, "2012-08-10", "version", Listing},
		{"/openstack/latest/meta_data.json", decision.KindMetadata, "latest", "meta_data.json", JSON},
		{"/openstack/latest/user_data", decision.KindUserdata, "latest", "user_data", Text},
		{"/openstack/latest/password", decision.KindPassword, "latest", "password", Text},
		{"/openstack/latest/password/", decision.KindPassword, "latest", "password", Text},
		{"/openstack/2013-04-04/password", decision.KindPassword, "2013-04-04", "password", Text},
		{"/openstack/2020-10-14/password", decision.KindPassword, "2020-10-14", "password", Text},
		{"/openstack/2012-08-10/password", decision.KindUnknown, "2012-08-10", "", Text},
		{"/openstack/2099-01-01/password", decision.KindUnknown, "", "", Text},
		{"/openstack/latest/PASSWORD", decision.KindUnknown, "latest", "", Text},
		{"/openstack/latest/password/x", decision.KindUnknown, "latest", "", Text},
		{"/openstack/latest/content", decision.KindUnknown, "latest", "", Text},
		{"/openstack/content", decision.KindUnknown, "", "", Text},
		{"/openstack/content/0000", decision.KindUserdata, "", "content/0000", Text},
		{"/openstack/content/password/x", decision.KindUnknown, "", "", Text},
		{"/openstack/password", decision.KindUnknown, "", "", Text},
		{"/password", decision.KindUnknown, "", "", Text},
		{"/latest/password", decision.KindUnknown, "latest", "", Text},
		{"/openstack/2012-08-10/vendor_data.json", decision.KindUnknown, "2012-08-10", "", Text},
		{"/openstack/2013-10-17/vendor_data.json", decision.KindVendordata, "2013-10-17", "vendor_data.json", JSON},
		{"/openstack/2013-10-17/vendor_data2.json", decision.KindUnknown, "2013-10-17", "", Text},
		{"/openstack/2016-10-06/vendor_data2.json", decision.KindVendordata, "2016-10-06", "vendor_data2.json", JSON},
		{"/openstack/2012-08-10/network_data.json", decision.KindNetwork, "2012-08-10", "network_data.json", JSON},
		{"/1.0", decision.KindListing, "1.0", "", Listing},
		{"/ec2", decision.KindListing, "", "", Listing},
		{"/ec2/2009-04-04/", decision.KindListing, "2009-04-04", "", Listing},
		{"/ec2/latest/user-data", decision.KindUserdata, "latest", "user-data", Text},
		{"/latest/user-data", decision.KindUserdata, "latest", "user-data", Text},
		{"/latest/user-data/x", decision.KindUnknown, "latest", "", Text},
		{"/latest/meta-data", decision.KindListing, "latest", "meta-data", Listing},
		{"/latest/meta-data/", decision.KindListing, "latest", "meta-data", Listing},
		{"/latest/meta-data/instance-id", decision.KindMetadata, "latest", "meta-data/instance-id", Text},
		{"/latest/meta-data/public-keys/", decision.KindListing, "latest", "meta-data/public-keys", Listing},
		{"/latest/meta-data/public-keys/0/", decision.KindListing, "latest", "meta-data/public-keys/0", Listing},
		{"/latest/meta-data/public-keys/0/openssh-key", decision.KindMetadata, "latest", "meta-data/public-keys/0/openssh-key", Text},
		{"/latest/meta-data/public-keys/x/openssh-key", decision.KindUnknown, "latest", "", Text},
		{"/latest/meta-data/public-keys/0/other", decision.KindUnknown, "latest", "", Text},
		{"/latest/meta-data/block-device-mapping/ebs0", decision.KindMetadata, "latest", "meta-data/block-device-mapping/ebs0", Text},
		{"/latest/meta-data/placement/availability-zone", decision.KindMetadata, "latest", "meta-data/placement/availability-zone", Text},
		{"/latest/meta-data/password_evil", decision.KindUnknown, "latest", "", Text},
		{"/latest/api/token", decision.KindUnknown, "latest", "", Text},
		{"/2099-01-01/meta-data/", decision.KindUnknown, "", "", Text},
		{"/ec2/openstack/latest/password", decision.KindUnknown, "", "", Text},
	}
	for _, test := range tests {
		match := classify(http.MethodGet, test.path)
		resource := match.Resource
		if resource.Kind != test.kind || resource.Version != test.version || resource.Key != test.key || match.Format != test.format {
			t.Errorf("%s: got %s version %q key %q format %d, want %s %q %q %d", test.path,
				resource.Kind, resource.Version, resource.Key, match.Format, test.kind, test.version, test.key, test.format)
		}
		if resource.Action != decision.Read || resource.Dialect != "openstack" || match.Body {
			t.Errorf("%s: a GET is a read of openstack without a body, got %+v", test.path, match)
		}
		if sensitive := test.kind == decision.KindPassword; resource.Sensitive != sensitive {
			t.Errorf("%s: sensitive %t, want %t", test.path, resource.Sensitive, sensitive)
		}
	}
}

// Only a password can be written: everything else has no POST, so that it is
// refused with 405 and Nova, which answers a POST as it does a GET, never
// sees it.
func TestOpenStackMethods(t *testing.T) {
	for key := range openStackLeaves {
		match := classify(http.MethodPost, "/openstack/latest/"+key)
		if writable := key == "password"; match.Allows(http.MethodPost) != writable || match.Body != writable {
			t.Errorf("%s: POST allowed %t, body %t, want %t", key, match.Allows(http.MethodPost), match.Body, writable)
		}
	}
	write := classify(http.MethodPost, "/openstack/2013-04-04/password")
	if write.Resource.Action != decision.Write {
		t.Errorf("a POST to password is a write, got %s", write.Resource.Action)
	}
	for _, method := range []string{"PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND", "get", "Post", ""} {
		if classify(method, "/openstack/latest/password").Allows(method) {
			t.Errorf("%q is allowed on the password", method)
		}
	}
	if classify(http.MethodPost, "/openstack/2012-08-10/password").Allows(http.MethodPost) {
		t.Error("a version without a password resource must have no POST")
	}
}

func TestOpenStackTraits(t *testing.T) {
	traits := OpenStack{}.Traits()
	if traits.ExtraPathBytes != "" || len(traits.Query) != 0 || len(traits.RequestHeaders) != 0 {
		t.Errorf("Nova needs no further path bytes, queries or headers: %+v", traits)
	}
	if traits.MaxPassword != 1020 || traits.Cache.Seconds() != 15 {
		t.Errorf("Nova keeps 1020 bytes and caches 15 s, got %+v", traits)
	}
	if !slices.Contains(traits.Survives, http.StatusNotFound) || slices.Contains(traits.Survives, http.StatusMethodNotAllowed) {
		t.Errorf("cloud-init survives 404; Neutron's agent turns 405 into 500: %v", traits.Survives)
	}
}

func BenchmarkOpenStackClassify(b *testing.B) {
	request := Request{Method: http.MethodGet, Segments: []string{"openstack", "latest", "meta_data.json"}}
	b.ReportAllocs()
	for b.Loop() {
		OpenStack{}.Classify(request)
	}
}
