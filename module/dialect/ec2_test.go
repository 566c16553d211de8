// SPDX-License-Identifier: Apache-2.0

package dialect

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/metaguard/metaguard/module/decision"
)

func classifyEC2(method, path string) Match {
	return EC2{}.Classify(Request{
		Method:        method,
		Segments:      strings.FieldsFunc(path, func(r rune) bool { return r == '/' }),
		TrailingSlash: path != "/" && strings.HasSuffix(path, "/"),
	})
}

func TestEC2Classify(t *testing.T) {
	const mac = "/latest/meta-data/network/interfaces/macs/02:29:96:8f:6a:2d"
	tests := []struct {
		path    string
		kind    decision.Kind
		version string
		key     string
		format  Format
	}{
		{"/", decision.KindListing, "", "", Listing},
		{"/latest", decision.KindListing, "latest", "", Listing},
		{"/latest/", decision.KindListing, "latest", "", Listing},
		{"/2009-04-04/", decision.KindListing, "2009-04-04", "", Listing},
		{"/2024-04-11/meta-data/", decision.KindListing, "2024-04-11", "meta-data", Listing},
		{"/2099-01-01/meta-data/", decision.KindUnknown, "", "", Text},
		{"/meta-data/instance-id", decision.KindUnknown, "", "", Text},
		{"/latest/meta-data/instance-id", decision.KindMetadata, "latest", "meta-data/instance-id", Text},
		{"/1.0/meta-data/instance-id", decision.KindMetadata, "1.0", "meta-data/instance-id", Text},
		{"/latest/meta-data/Instance-Id", decision.KindUnknown, "latest", "", Text},
		{"/latest/meta-data/password", decision.KindUnknown, "latest", "", Text},
		{"/latest/meta-data/placement", decision.KindListing, "latest", "meta-data/placement", Listing},
		{"/latest/meta-data/placement/region", decision.KindMetadata, "latest", "meta-data/placement/region", Text},
		{"/latest/meta-data/placement/nothing", decision.KindUnknown, "latest", "", Text},
		{"/latest/meta-data/block-device-mapping/ebs12", decision.KindMetadata, "latest", "meta-data/block-device-mapping/ebs12", Text},
		{"/latest/meta-data/public-keys/", decision.KindListing, "latest", "meta-data/public-keys", Listing},
		{"/latest/meta-data/public-keys/0", decision.KindListing, "latest", "meta-data/public-keys/0", Listing},
		{"/latest/meta-data/public-keys/0/openssh-key", decision.KindMetadata, "latest", "meta-data/public-keys/0/openssh-key", Text},
		{"/latest/meta-data/public-keys/x/openssh-key", decision.KindUnknown, "latest", "", Text},
		{"/latest/meta-data/tags/instance/a:b=c+d,e@f", decision.KindMetadata, "latest", "meta-data/tags/instance/a:b=c+d,e@f", Text},
		{"/latest/meta-data/managed-ssh-keys/active-keys/ubuntu/", decision.KindMetadata, "latest", "meta-data/managed-ssh-keys/active-keys/ubuntu", Text},
		{"/latest/meta-data/managed-ssh-keys/signer-ocsp/", decision.KindListing, "latest", "meta-data/managed-ssh-keys/signer-ocsp", Listing},
		{"/latest/meta-data/spot/instance-action", decision.KindMetadata, "latest", "meta-data/spot/instance-action", JSON},
		{"/latest/meta-data/spot/termination-time", decision.KindMetadata, "latest", "meta-data/spot/termination-time", Text},
		{"/latest/meta-data/events/maintenance/scheduled", decision.KindMetadata, "latest", "meta-data/events/maintenance/scheduled", JSON},
		{mac + "/", decision.KindListing, "latest", strings.TrimPrefix(mac, "/latest/"), Listing},
		{mac + "/local-ipv4s", decision.KindNetwork, "latest", strings.TrimPrefix(mac, "/latest/") + "/local-ipv4s", Text},
		{mac + "/ipv4-associations/192.0.2.54", decision.KindNetwork, "latest", strings.TrimPrefix(mac, "/latest/") + "/ipv4-associations/192.0.2.54", Text},
		{mac + "/nothing", decision.KindUnknown, "latest", "", Text},
		{"/latest/meta-data/iam/info", decision.KindMetadata, "latest", "meta-data/iam/info", JSON},
		{"/latest/meta-data/iam/security-credentials/", decision.KindListing, "latest", "meta-data/iam/security-credentials", Listing},
		{"/latest/meta-data/iam/security-credentials/a+b=c,d.e@f-g_h", decision.KindCredentials, "latest", "meta-data/iam/security-credentials/a+b=c,d.e@f-g_h", JSON},
		{"/2012-01-12/meta-data/iam/security-credentials/role/", decision.KindCredentials, "2012-01-12", "meta-data/iam/security-credentials/role", JSON},
		{"/latest/meta-data/iam/security-credentials/role/more", decision.KindUnknown, "latest", "", Text},
		{"/latest/meta-data/identity-credentials/ec2/info", decision.KindMetadata, "latest", "meta-data/identity-credentials/ec2/info", JSON},
		{"/latest/meta-data/identity-credentials/ec2/security-credentials/ec2-instance", decision.KindCredentials, "latest", "meta-data/identity-credentials/ec2/security-credentials/ec2-instance", JSON},
		{"/latest/dynamic/", decision.KindListing, "latest", "dynamic", Listing},
		{"/latest/dynamic/instance-identity/", decision.KindListing, "latest", "dynamic/instance-identity", Listing},
		{"/latest/dynamic/instance-identity/document", decision.KindCredentials, "latest", "dynamic/instance-identity/document", JSON},
		{"/latest/dynamic/instance-identity/pkcs7", decision.KindCredentials, "latest", "dynamic/instance-identity/pkcs7", Text},
		{"/latest/dynamic/instance-identity/rsa2048", decision.KindCredentials, "latest", "dynamic/instance-identity/rsa2048", Text},
		{"/latest/dynamic/instance-identity/signature", decision.KindCredentials, "latest", "dynamic/instance-identity/signature", Text},
		{"/latest/dynamic/instance-identity/other", decision.KindUnknown, "latest", "", Text},
		{"/latest/dynamic/fws/instance-monitoring", decision.KindMetadata, "latest", "dynamic/fws/instance-monitoring", Text},
		{"/latest/user-data", decision.KindUserdata, "latest", "user-data", Text},
		{"/latest/user-data/x", decision.KindUnknown, "latest", "", Text},
		{"/latest/api", decision.KindUnknown, "latest", "", Text},
		{"/2021-07-15/api/token", decision.KindUnknown, "2021-07-15", "", Text},
		{"/latest/api/token/", decision.KindUnknown, "latest", "", Text},
		{"/openstack/latest/password", decision.KindUnknown, "", "", Text},
	}
	for _, test := range tests {
		match := classifyEC2(http.MethodGet, test.path)
		resource := match.Resource
		if resource.Kind != test.kind || resource.Version != test.version || resource.Key != test.key || match.Format != test.format {
			t.Errorf("%s: got %s version %q key %q format %d, want %s %q %q %d", test.path,
				resource.Kind, resource.Version, resource.Key, match.Format, test.kind, test.version, test.key, test.format)
		}
		if resource.Action != decision.Read || resource.Dialect != "ec2" || match.Body || match.Direct {
			t.Errorf("%s: a GET is a read of ec2 without a body, got %+v", test.path, match)
		}
		if sensitive := test.kind == decision.KindCredentials; resource.Sensitive != sensitive {
			t.Errorf("%s: sensitive %t, want %t", test.path, resource.Sensitive, sensitive)
		}
	}
}

// Every row of the table is found again as what it is, and everything above it is
// a listing: an entry that is advertised can be asked for.
func TestEC2Table(t *testing.T) {
	fill := strings.NewReplacer("{version}", "latest", "#", "7", "*", "x")
	for _, r := range ec2Rows {
		path := fill.Replace(r.pattern)
		if match := classifyEC2(http.MethodGet, path); match.Resource.Kind != r.kind {
			t.Errorf("%s: %s, want %s", path, match.Resource.Kind, r.kind)
		}
		segments := strings.Split(path, "/")
		for i := range segments {
			above := "/" + strings.Join(segments[:i], "/")
			if above == "/latest/api" {
				continue // EC2 lists it nowhere
			}
			if match := classifyEC2(http.MethodGet, above); match.Resource.Kind != decision.KindListing || match.Format != Listing {
				t.Errorf("%s, above %s: %s", above, path, match.Resource.Kind)
			}
		}
		if secret := r.kind == decision.KindCredentials || r.kind == decision.KindToken; r.sensitive != secret {
			t.Errorf("%s is sensitive: %t", path, r.sensitive)
		}
	}
}

// A token is written, with a PUT and without a body, and nothing else has another
// method than GET and HEAD.
func TestEC2Methods(t *testing.T) {
	fill := strings.NewReplacer("{version}", "latest", "#", "7", "*", "x")
	for _, r := range ec2Rows {
		path := fill.Replace(r.pattern)
		for _, method := range []string{"PUT", "POST", "DELETE", "PATCH", "OPTIONS", "TRACE", "put", ""} {
			if allowed := classifyEC2(method, path).Allows(method); allowed != (method == "PUT" && r.kind == decision.KindToken) {
				t.Errorf("%q %s: %t", method, path, allowed)
			}
		}
		if readable := classifyEC2(http.MethodGet, path).Allows(http.MethodGet); readable != (r.kind != decision.KindToken) {
			t.Errorf("GET %s: %t", path, readable)
		}
	}
	for _, path := range []string{"/2021-07-15/api/token", "/latest/api/token/"} {
		if match := classifyEC2(http.MethodPut, path); match.Allows(http.MethodPut) || match.Resource.Action != decision.Read {
			t.Errorf("PUT %s: %+v", path, match)
		}
	}
	token := classifyEC2(http.MethodPut, "/latest/api/token")
	if token.Resource != (decision.Resource{Dialect: "ec2", Kind: decision.KindToken, Version: "latest", Key: "api/token", Action: decision.Write, Sensitive: true}) ||
		token.Body || !token.Direct || !slices.Equal(token.Methods, []string{http.MethodPut}) {
		t.Errorf("%+v", token)
	}
}

// A policy is tried with one request of every kind that the table has.
func TestEC2Samples(t *testing.T) {
	tried := make(map[decision.Kind]bool)
	for _, in := range Samples(EC2{}) {
		tried[in.Resource.Kind] = true
	}
	for _, r := range ec2Rows {
		if !tried[r.kind] {
			t.Errorf("no sample of kind %s", r.kind)
		}
	}
	if !tried[decision.KindUnknown] {
		t.Error("no sample that is unknown")
	}
}

func FuzzEC2Classify(f *testing.F) {
	for _, r := range ec2Rows {
		f.Add("GET", "/"+strings.Replace(r.pattern, "{version}", "latest", 1))
	}
	f.Add("PUT", "/latest/api/token")
	f.Fuzz(func(t *testing.T, method, path string) {
		match := classifyEC2(method, path)
		switch {
		case match.Resource.Dialect != "ec2" || match.Resource.Kind == "" || match.Body:
			t.Errorf("%+v", match)
		case match.Resource.Action == decision.Write && (method != http.MethodPut || match.Resource.Key != "api/token"):
			t.Errorf("a write of %q: %+v", path, match)
		}
	})
}

func BenchmarkEC2Classify(b *testing.B) {
	request := Request{Method: http.MethodGet, Segments: []string{"latest", "meta-data", "iam", "security-credentials", "role"}}
	b.ReportAllocs()
	for b.Loop() {
		EC2{}.Classify(request)
	}
}
