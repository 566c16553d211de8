// SPDX-License-Identifier: Apache-2.0

package dialect

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/metaguard/metaguard/module/decision"
)

// azureAsk reads a method and a target as a site would, in short.
func azureAsk(t *testing.T, method, target string) Match {
	t.Helper()
	path, rawQuery, _ := strings.Cut(target, "?")
	query, err := url.ParseQuery(rawQuery)
	if err != nil {
		t.Fatal(err)
	}
	return Azure{}.Classify(Request{
		Method: method, Query: query, TrailingSlash: path != "/" && strings.HasSuffix(path, "/"),
		Segments: strings.FieldsFunc(path, func(r rune) bool { return r == '/' }),
	})
}

func TestAzureClassify(t *testing.T) {
	const v = "?api-version=2021-02-01"
	for _, test := range []struct {
		target    string
		kind      decision.Kind
		key       string
		format    Format
		tree      bool
		sensitive bool
	}{
		{"/metadata/versions", decision.KindListing, "versions", JSON, false, false},
		{"/metadata/instance" + v, decision.KindMetadata, "instance", JSON, true, false},
		{"/metadata/instance/" + v, decision.KindMetadata, "instance", JSON, true, false},
		{"/metadata/instance" + v + "&format=json", decision.KindMetadata, "instance", JSON, true, false},
		{"/metadata/instance" + v + "&extended=true", decision.KindMetadata, "instance", JSON, true, false},
		{"/metadata/instance" + v + "&format=text", decision.KindListing, "instance", Listing, false, false},
		{"/metadata/instance/compute" + v, decision.KindMetadata, "instance/compute", JSON, true, false},
		{"/metadata/instance/compute/vmId" + v + "&format=text", decision.KindMetadata, "instance/compute/vmId", Text, false, false},
		{"/metadata/instance/compute/userData" + v + "&format=text", decision.KindUserdata, "instance/compute/userData", Text, false, false},
		{"/metadata/instance/compute/customData" + v, decision.KindUserdata, "instance/compute/customData", Text, false, false},
		{"/metadata/instance/compute/storageProfile" + v, decision.KindMetadata, "instance/compute/storageProfile", JSON, true, false},
		{"/metadata/instance/compute/storageProfile/dataDisks/12/managedDisk/id" + v, decision.KindMetadata, "instance/compute/storageProfile/dataDisks/12/managedDisk/id", Text, false, false},
		{"/metadata/instance/compute/tagsList/0" + v, decision.KindMetadata, "instance/compute/tagsList/0", JSON, true, false},
		{"/metadata/instance/network" + v, decision.KindNetwork, "instance/network", JSON, true, false},
		{"/metadata/instance/network/interface/0/ipv4/ipAddress/0/publicIpAddress" + v + "&format=text", decision.KindNetwork, "instance/network/interface/0/ipv4/ipAddress/0/publicIpAddress", Text, false, false},
		{"/metadata/instance/network/interface" + v + "&format=text", decision.KindListing, "instance/network/interface", Listing, false, false},
		{"/metadata/instance/extended/compute/ppsType" + v, decision.KindMetadata, "instance/extended/compute/ppsType", Text, false, false},
		{"/metadata/identity/oauth2/token?api-version=2018-02-01&resource=x", decision.KindCredentials, "identity/oauth2/token", JSON, false, true},
		{"/metadata/identity/info" + v, decision.KindMetadata, "identity/info", JSON, false, false},
		{"/metadata/attested/document" + v, decision.KindCredentials, "attested/document", JSON, false, true},
		{"/metadata/loadbalancer" + v, decision.KindNetwork, "loadbalancer", JSON, false, false},
		{"/metadata/scheduledevents" + v, decision.KindMetadata, "scheduledevents", JSON, false, false},
		{"/metadata/reprovisiondata" + v, decision.KindCredentials, "reprovisiondata", Text, false, true},
	} {
		got := azureAsk(t, http.MethodGet, test.target)
		want := decision.Resource{Dialect: "azure", Kind: test.kind, Key: test.key, Action: decision.Read, Sensitive: test.sensitive}
		if _, query, _ := strings.Cut(test.target, "api-version="); query != "" {
			want.Version, _, _ = strings.Cut(query, "&")
		}
		if got.Resource != want || got.Format != test.format || got.Tree != test.tree || got.Ambiguous != "" || !got.Direct {
			t.Errorf("%s: %+v, want %+v", test.target, got, want)
		}
	}
}

// Names are exact, and what the page does not list is unknown.
func TestAzureUnknown(t *testing.T) {
	for _, target := range []string{
		"/", "/metadata", "/metadata/", "/latest", "/latest/meta-data", "/openstack", "/machine", "/metadata/nothing",
		"/Metadata/instance", "/metadata/Instance", "/metadata/instance/compute/userdata", "/metadata/instance/compute/USERDATA",
		"/metadata/instance/compute/vmid", "/metadata/instance/compute/later", "/metadata/instance/compute/vmId/0",
		"/metadata/instance/network/interface/first", "/metadata/instance/network/interface/0/ipv4/ipAddress/-1",
		"/metadata/identity", "/metadata/identity/oauth2", "/metadata/identity/OAuth2/token", "/metadata/attested",
		"/metadata/scheduledevents/0", "/metadata/loadbalancer/publicIpAddresses", "/metadata/instance/extended/network",
	} {
		got := azureAsk(t, http.MethodGet, target+"?api-version=2021-02-01&format=text")
		if got.Resource.Kind != decision.KindUnknown || got.Allows(http.MethodPost) || got.Ambiguous != "" || got.Tree {
			t.Errorf("%s: %+v", target, got)
		}
	}
}

func TestAzureFormat(t *testing.T) {
	for target, want := range map[string]string{
		"/metadata/instance?format=TEXT":                      "query_format",
		"/metadata/instance/compute/userData?format=Text":     "query_format",
		"/metadata/instance?format=JSON":                      "query_format",
		"/metadata/identity/oauth2/token?format=text":         "query_format_text",
		"/metadata/attested/document?format=text":             "query_format_text",
		"/metadata/versions?format=text":                      "query_format_text",
		"/metadata/scheduledevents?format=text":               "query_format_text",
		"/metadata/attested/document?format=json":             "",
		"/metadata/instance/compute/userData?format=json":     "", // the server says 400
		"/metadata/instance/compute/plan/product?format=text": "",
	} {
		if got := azureAsk(t, http.MethodGet, target); got.Ambiguous != want {
			t.Errorf("%s: %q, want %q", target, got.Ambiguous, want)
		}
	}
}

// Only an approval of scheduled events is a write.
func TestAzureMethods(t *testing.T) {
	const events = "/metadata/scheduledevents?api-version=2020-07-01"
	if got := azureAsk(t, http.MethodPost, events); got.Resource.Action != decision.Write || !got.Body || !got.Allows(http.MethodPost) {
		t.Errorf("%+v", got)
	}
	if got := azureAsk(t, http.MethodGet, events); got.Resource.Action != decision.Read || got.Body {
		t.Errorf("%+v", got)
	}
	for _, path := range []string{"/metadata/instance", "/metadata/identity/oauth2/token", "/metadata/attested/document", "/metadata/versions", "/metadata/reprovisiondata", "/metadata/nothing"} {
		if got := azureAsk(t, http.MethodPost, path); got.Allows(http.MethodPost) || got.Allows(http.MethodPut) || !got.Allows(http.MethodHead) || got.Resource.Action != decision.Read {
			t.Errorf("%s: %+v", path, got)
		}
	}
}

// A member of a document is the request for it.
func TestAzureBelow(t *testing.T) {
	asked := Request{Method: http.MethodGet, Segments: make([]string, 2, 9), TrailingSlash: true, Query: url.Values{"api-version": {"2021-02-01"}}}
	copy(asked.Segments, []string{"metadata", "instance"})
	one, other := Azure{}.Below(asked, []string{"compute", "userData"}), Azure{}.Below(asked, []string{"network", "interface", "0"})
	if got := strings.Join(one.Segments, "/"); got != "metadata/instance/compute/userData" || one.TrailingSlash || one.Query == nil {
		t.Errorf("%+v", one)
	}
	if got := (Azure{}).Classify(other); got.Resource.Kind != decision.KindNetwork || !got.Tree || got.Resource.Version != "2021-02-01" {
		t.Errorf("%+v", got)
	}
}

func TestAzureSamples(t *testing.T) {
	kinds := make(map[decision.Kind]bool)
	for _, in := range Samples(Azure{}) {
		kinds[in.Resource.Kind] = true
		if known := !strings.HasSuffix(in.Request.Path, "/nothing"); known == (in.Resource.Kind == decision.KindUnknown) {
			t.Errorf("%s is %s", in.Request.Path, in.Resource.Kind)
		}
	}
	if len(kinds) != 6 {
		t.Errorf("%v", kinds)
	}
}

// Whatever is asked for, there is one answer that fits together.
func FuzzAzure(f *testing.F) {
	for _, seed := range []string{"/metadata/instance/compute?format=text", "/metadata/scheduledevents", "/metadata/instance/network/interface/0?format=TEXT&api-version=1"} {
		f.Add(http.MethodGet, seed)
		f.Add(http.MethodPost, seed)
	}
	f.Fuzz(func(t *testing.T, method, target string) {
		path, rawQuery, _ := strings.Cut(target, "?")
		query, err := url.ParseQuery(rawQuery)
		if err != nil {
			return
		}
		got := Azure{}.Classify(Request{Method: method, Query: query, Segments: strings.FieldsFunc(path, func(r rune) bool { return r == '/' })})
		switch unknown := got.Resource.Kind == decision.KindUnknown; {
		case got.Tree && got.Format != JSON, !got.Direct:
			t.Errorf("%+v", got)
		case unknown && (got.Tree || got.Body || got.Resource.Key != "" || got.Resource.Action != decision.Read):
			t.Errorf("unknown: %+v", got)
		case got.Resource.Action == decision.Write && (method != http.MethodPost || !got.Body):
			t.Errorf("write: %+v", got)
		case strings.Contains(strings.ToLower(path), "/userdata") && got.Resource.Kind != decision.KindUserdata && !unknown:
			t.Errorf("user data: %+v", got)
		}
	})
}
