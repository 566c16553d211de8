// SPDX-License-Identifier: Apache-2.0

package dialect

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/metaguard/metaguard/module/decision"
)

func gceRequest(target string) Request {
	path, raw, _ := strings.Cut(target, "?")
	query, err := url.ParseQuery(raw)
	if err != nil {
		panic(err)
	}
	if len(query) == 0 {
		query = nil
	}
	return Request{
		Method:        http.MethodGet,
		Segments:      strings.FieldsFunc(path, func(r rune) bool { return r == '/' }),
		TrailingSlash: path != "/" && strings.HasSuffix(path, "/"),
		Query:         query,
	}
}

func TestGCEClassify(t *testing.T) {
	for path, want := range map[string]struct {
		kind      decision.Kind
		format    Format
		sensitive bool
	}{
		"/":                               {decision.KindListing, Listing, false},
		"/computeMetadata":                {decision.KindListing, Listing, false},
		"/computeMetadata/v1/":            {decision.KindListing, Listing, false},
		"/computeMetadata/v1/instance":    {decision.KindListing, Listing, false},
		"/computeMetadata/v1/instance/id": {decision.KindMetadata, Text, false},
		"/computeMetadata/v1/instance/attributes/":                                        {decision.KindListing, Listing, false},
		"/computeMetadata/v1/instance/attributes/mine":                                    {decision.KindMetadata, Text, false},
		"/computeMetadata/v1/instance/attributes/mine/x":                                  {decision.KindUnknown, Text, false},
		"/computeMetadata/v1/instance/attributes/ssh-keys":                                {decision.KindMetadata, Text, true},
		"/computeMetadata/v1/instance/attributes/sshKeys":                                 {decision.KindMetadata, Text, true},
		"/computeMetadata/v1/instance/attributes/windows-keys":                            {decision.KindMetadata, Text, true},
		"/computeMetadata/v1/project/attributes/ssh-keys":                                 {decision.KindMetadata, Text, true},
		"/computeMetadata/v1/project/attributes/sshKeys":                                  {decision.KindMetadata, Text, true},
		"/computeMetadata/v1/project/attributes/windows-keys":                             {decision.KindMetadata, Text, true},
		"/computeMetadata/v1/instance/attributes/kube-env":                                {decision.KindMetadata, Text, true},
		"/computeMetadata/v1/project/attributes/kubeconfig":                               {decision.KindMetadata, Text, true},
		"/computeMetadata/v1/instance/workload-identities":                                {decision.KindCredentials, Text, true},
		"/computeMetadata/v1/project/attributes/windows-startup-script-ps1":               {decision.KindUserdata, Text, false},
		"/computeMetadata/v1/instance/attributes/startup-script":                          {decision.KindUserdata, Text, false},
		"/computeMetadata/v1/instance/attributes/user-data":                               {decision.KindUserdata, Text, false},
		"/computeMetadata/v1/instance/service-accounts/":                                  {decision.KindListing, Listing, false},
		"/computeMetadata/v1/instance/service-accounts/a@b.iam.gserviceaccount.com/":      {decision.KindListing, Listing, false},
		"/computeMetadata/v1/instance/service-accounts/a@b.iam.gserviceaccount.com/token": {decision.KindCredentials, Text, true},
		"/computeMetadata/v1/instance/service-accounts/default/identity":                  {decision.KindCredentials, Text, true},
		"/computeMetadata/v1/instance/service-accounts/default/token/":                    {decision.KindCredentials, Text, true},
		"/computeMetadata/v1/instance/service-accounts/default/token/x":                   {decision.KindUnknown, Text, false},
		"/computeMetadata/v1/instance/service-accounts/default/email":                     {decision.KindMetadata, Text, false},
		"/computeMetadata/v1/instance/service-accounts/default/other":                     {decision.KindUnknown, Text, false},
		"/computeMetadata/v1/instance/credentials/mds-client-certificate":                 {decision.KindCredentials, Text, true},
		"/computeMetadata/v1/instance/gce-workload-certificates/workload-identities":      {decision.KindCredentials, Text, true},
		"/computeMetadata/v1/instance/gce-workload-certificates/trust-anchors":            {decision.KindMetadata, Text, false},
		"/computeMetadata/v1/instance/network-interfaces/0/access-configs/0/external-ip":  {decision.KindNetwork, Text, false},
		"/computeMetadata/v1/instance/network-interfaces/eth0/ip":                         {decision.KindUnknown, Text, false},
		"/computeMetadata/v1/instance/guest-attributes/hostkeys/ssh-rsa":                  {decision.KindMetadata, Text, false},
		"/computeMetadata/v1/instance/partner-attributes/iam.googleapis.com/a/b/c":        {decision.KindMetadata, Text, false},
		"/computeMetadata/v1/universe/universe-domain":                                    {decision.KindMetadata, Text, false},
		"/computeMetadata/v1/project/service-accounts/default/token":                      {decision.KindUnknown, Text, false},
		"/computeMetadata/v1/oslogin/users":                                               {decision.KindUnknown, Text, false},
		"/computeMetadata/v1/instance/nothing":                                            {decision.KindUnknown, Text, false},
		"/computeMetadata/v1beta1/instance/id":                                            {decision.KindUnknown, Text, false},
		"/computeMetadata/v1beta1/instance/service-accounts/default/token":                {decision.KindUnknown, Text, false},
		"/0.1/meta-data/service-accounts/default/acquire":                                 {decision.KindUnknown, Text, false},
		"/computemetadata/v1/instance/id":                                                 {decision.KindUnknown, Text, false},
		"/computeMetadata/v1/Instance/id":                                                 {decision.KindUnknown, Text, false},
	} {
		match := GCE{}.Classify(gceRequest(path))
		resource := match.Resource
		if resource.Kind != want.kind || match.Format != want.format || resource.Sensitive != want.sensitive {
			t.Errorf("%s: %s, format %d, sensitive %t", path, resource.Kind, match.Format, resource.Sensitive)
		}
		if !match.Direct || match.Tree || match.Wait != 0 || match.Ambiguous != "" || resource.Action != decision.Read {
			t.Errorf("%s: %+v", path, match)
		}
		for _, method := range []string{http.MethodPut, http.MethodPost, http.MethodDelete, http.MethodOptions} {
			if match.Allows(method) {
				t.Errorf("%s has %s", path, method)
			}
		}
	}
}

func TestGCEQuery(t *testing.T) {
	const instance, id = "/computeMetadata/v1/instance/", "/computeMetadata/v1/instance/id"
	for target, want := range map[string]struct {
		format    Format
		tree      bool
		wait      time.Duration
		ambiguous string
	}{
		instance + "?recursive=true":                                                         {JSON, true, 0, ""},
		instance + "?recursive=True":                                                         {JSON, true, 0, ""},
		instance + "?recursive=true&alt=json":                                                {JSON, true, 0, ""},
		instance + "?recursive=true&alt=text":                                                {Listing, false, 0, "query_recursive_text"},
		instance + "?recursive=TRUE&alt=TEXT":                                                {Listing, false, 0, "query_recursive_text"},
		instance + "?recursive=false":                                                        {Listing, false, 0, ""},
		instance + "?recursive=false&alt=text":                                               {Listing, false, 0, ""},
		instance + "?alt=json":                                                               {Listing, false, 0, "query_listing_json"},
		instance + "?alt=JSON&recursive=false":                                               {Listing, false, 0, "query_listing_json"},
		instance + "?recursive=true&alt=json&timeout_sec=60":                                 {JSON, true, 0, ""},
		id + "?alt=json":                                                                     {Text, false, 0, ""},
		id + "?recursive=true&alt=text":                                                      {Text, false, 0, ""},
		id + "?wait_for_change=true":                                                         {Text, false, 10 * time.Minute, ""},
		id + "?wait_for_change=TRUE&timeout_sec=60":                                          {Text, false, time.Minute, ""},
		id + "?wait_for_change=true&timeout_sec=0":                                           {Text, false, 0, ""},
		id + "?wait_for_change=true&timeout_sec=601":                                         {Text, false, 10 * time.Minute, ""},
		id + "?wait_for_change=true&timeout_sec=99999999999999999999":                        {Text, false, 10 * time.Minute, ""},
		id + "?wait_for_change=true&timeout_sec=-1":                                          {Text, false, 0, "query_timeout_sec"},
		id + "?wait_for_change=true&timeout_sec=1.5":                                         {Text, false, 0, "query_timeout_sec"},
		id + "?wait_for_change=true&timeout_sec=":                                            {Text, false, 0, "query_timeout_sec"},
		id + "?wait_for_change=false&timeout_sec=60":                                         {Text, false, 0, ""},
		instance + "?alt=json&last_etag=a&recursive=true&timeout_sec=5&wait_for_change=true": {JSON, true, 5 * time.Second, ""},
	} {
		match := GCE{}.Classify(gceRequest(target))
		if match.Format != want.format || match.Tree != want.tree || match.Wait != want.wait || match.Ambiguous != want.ambiguous {
			t.Errorf("%s: format %d, tree %t, wait %s, ambiguous %q", target, match.Format, match.Tree, match.Wait, match.Ambiguous)
		}
	}
}

func TestGCEBelow(t *testing.T) {
	for _, test := range []struct{ of, members, want string }{
		{"/", "computeMetadata v1 instance serviceAccounts default token", "/computeMetadata/v1/instance/service-accounts/default/token"},
		{"/computeMetadata/v1/", "instance attributes sshKeys", "/computeMetadata/v1/instance/attributes/sshKeys"},
		{"/computeMetadata/v1/", "instance attributes myOwnName", "/computeMetadata/v1/instance/attributes/myOwnName"},
		{"/computeMetadata/v1/", "instance machineType", "/computeMetadata/v1/instance/machine-type"},
		{"/computeMetadata/v1/", "project projectId", "/computeMetadata/v1/project/project-id"},
		{"/computeMetadata/v1/", "project attributes", "/computeMetadata/v1/project/attributes/"},
		{"/computeMetadata/v1/", "project attributes Ab", "/computeMetadata/v1/project/attributes/Ab"},
		{"/computeMetadata/v1/instance/attributes/", "sshKeys", "/computeMetadata/v1/instance/attributes/sshKeys"},
		{"/computeMetadata/v1/instance/", "guestAttributes someSpace someKey", "/computeMetadata/v1/instance/guest-attributes/someSpace/someKey"},
		{"/computeMetadata/v1/instance/", "networkInterfaces 0 accessConfigs 1 externalIp", "/computeMetadata/v1/instance/network-interfaces/0/access-configs/1/external-ip"},
		{"/computeMetadata/v1/instance/", "networkInterfaces 0 forwardedIpv6s", "/computeMetadata/v1/instance/network-interfaces/0/forwarded-ipv6s/"},
		{"/computeMetadata/v1/instance/", "vlanNetworkInterfaces 0 5 parentInterface", "/computeMetadata/v1/instance/vlan-network-interfaces/0/5/parent-interface"},
		{"/computeMetadata/v1/instance/", "credentials mdsClientCertificate", "/computeMetadata/v1/instance/credentials/mds-client-certificate"},
		{"/computeMetadata/v1/instance/", "serviceAccounts default someName", "/computeMetadata/v1/instance/service-accounts/default/some-name"},
		{"/computeMetadata/v1/instance/", "partnerAttributes iam someKey", "/computeMetadata/v1/instance/partner-attributes/iam/someKey"},
		{"/computeMetadata/v1/instance", "service-accounts A@b token", "/computeMetadata/v1/instance/service-accounts/A@b/token"},
	} {
		asked := gceRequest(test.of + "?recursive=true&wait_for_change=true")
		got := GCE{}.Below(asked, strings.Fields(test.members))
		path := "/" + strings.Join(got.Segments, "/")
		if got.TrailingSlash {
			path += "/"
		}
		if path != test.want || got.Query != nil || got.Method != http.MethodGet {
			t.Errorf("%s of %s: %s %v", test.members, test.of, path, got.Query)
		}
	}
}

// Whatever names a document has, and however they are spelled, its credentials stay
// credentials: a member that could be one is never judged as something less.
func FuzzGCEBelow(f *testing.F) {
	f.Add("/computeMetadata/v1/", "instance serviceAccounts default token")
	f.Add("/computeMetadata/v1/instance/", "Service-accounts default token")
	f.Add("/", "computeMetadata v1 project attributes x")
	f.Fuzz(func(t *testing.T, of, text string) {
		r := gceRequest("/" + strings.Trim(strings.ReplaceAll(of, "?", ""), "/") + "/")
		members := strings.Fields(text)
		before := len(r.Segments)
		below := GCE{}.Below(r, members)
		if len(r.Segments) != before || len(below.Segments) != before+len(members) {
			t.Fatalf("%q of %q: %q", members, r.Segments, below.Segments)
		}
		match := GCE{}.Classify(below)
		last := ""
		if len(members) > 0 {
			last = members[len(members)-1]
		}
		// The same names as a path would have them, which a document may have too.
		direct := GCE{}.Classify(Request{Method: http.MethodGet, Segments: append(r.Segments[:before:before], members...)})
		if direct.Resource.Kind == decision.KindCredentials && strings.ToLower(last) == last && strings.IndexFunc(text, isCapital) < 0 &&
			match.Resource.Kind != decision.KindCredentials {
			t.Fatalf("%q of %q became %s", members, r.Segments, match.Resource.Kind)
		}
		if match.Resource.Kind == decision.KindMetadata && (last == "token" || last == "identity") && !gceKeepsNames(below.Segments[:len(below.Segments)-1]) {
			t.Fatalf("%q of %q is %s", members, r.Segments, match.Resource.Kind)
		}
	})
}

// A name that is a switch has no other values than those of one.
func TestSwitchesInQueries(t *testing.T) {
	for _, test := range []struct {
		dialect Dialect
		names   []string
	}{
		{GCE{}, []string{"recursive", "wait_for_change", "licenses"}},
		{Azure{}, []string{"extended", "bypass_cache"}},
	} {
		for _, name := range test.names {
			if got := strings.Join(test.dialect.Traits().Query[name], " "); got != "true false" {
				t.Errorf("%s of %s: %q", name, test.dialect.Name(), got)
			}
		}
	}
}

func TestGCESamples(t *testing.T) {
	kinds := make(map[decision.Kind]bool)
	for _, input := range Samples(GCE{}) {
		kinds[input.Resource.Kind] = true
	}
	for _, kind := range []decision.Kind{decision.KindListing, decision.KindMetadata, decision.KindUserdata, decision.KindNetwork, decision.KindCredentials, decision.KindUnknown} {
		if !kinds[kind] {
			t.Errorf("no sample of %s", kind)
		}
	}
}

func BenchmarkGCEClassify(b *testing.B) {
	request := gceRequest("/computeMetadata/v1/instance/service-accounts/default/token")
	b.ReportAllocs()
	for b.Loop() {
		GCE{}.Classify(request)
	}
}
