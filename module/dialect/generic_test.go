// SPDX-License-Identifier: Apache-2.0

package dialect

import (
	"context"
	"encoding/json"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/metaguard/metaguard/module/decision"
)

// genericOf reads what stands in a block `dialect generic`.
func genericOf(block string) (*Generic, error) {
	g := new(Generic)
	if err := g.UnmarshalCaddyfile(caddyfile.NewTestDispenser("generic {\n" + block + "\n}")); err != nil {
		return nil, err
	}
	// As the site gets it: through JSON.
	text, err := json.Marshal(g)
	if err != nil {
		return nil, err
	}
	loaded := new(Generic)
	if err := json.Unmarshal(text, loaded); err != nil {
		return nil, err
	}
	ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
	defer cancel()
	if err := loaded.Provision(ctx); err != nil {
		return nil, err
	}
	return loaded, loaded.Validate()
}

const genericExample = `
	path_bytes :
	resource listing     /                        { listing }
	resource listing     /{version}
	resource metadata    /{version}/metadata      { json }
	resource metadata    /{version}/all           { tree }
	resource userdata    /{version}/user-data
	resource userdata    /{version}/files/**
	resource credentials /{version}/keys/#/secret { text }
	resource network     /{version}/nic/*         { sensitive }
	resource password    /{version}/password {
		action read
		action write PUT POST
	}
	resource metadata    /{version}/hello         { action write }
	resource health      /health
	passwords {
		max_size 2KiB
		cache    0s
	}
	query format json text
	query nonce
	headers X-Own
	answer_headers X-Theirs
`

// genericBlock puts each one-line block of genericExample in lines of its own,
// as Caddyfiles want it.
func genericBlock(text string) string {
	var lines strings.Builder
	for line := range strings.Lines(text) {
		if head, rest, found := strings.Cut(line, " { "); found {
			line = head + " {\n" + strings.TrimSuffix(strings.TrimSpace(rest), "}") + "\n}\n"
		}
		lines.WriteString(line)
	}
	return lines.String()
}

func TestGenericClassify(t *testing.T) {
	g, err := genericOf(genericBlock(genericExample))
	if err != nil {
		t.Fatal(err)
	}
	both := []string{http.MethodGet, http.MethodHead, http.MethodPut, http.MethodPost}
	for _, test := range []struct {
		method, path string
		kind         decision.Kind
		version, key string
		methods      []string
		format       Format
		tree, write  bool
		sensitive    bool
	}{
		{"GET", "/", decision.KindListing, "", "", readable, Listing, false, false, false},
		{"GET", "/v2", decision.KindListing, "v2", "", readable, Listing, false, false, false},
		{"GET", "/health", decision.KindHealth, "", "health", readable, Text, false, false, false},
		{"GET", "/v1/metadata", decision.KindMetadata, "v1", "metadata", readable, JSON, false, false, false},
		{"POST", "/v1/metadata", decision.KindMetadata, "v1", "metadata", readable, JSON, false, false, false},
		{"GET", "/v1/all", decision.KindMetadata, "v1", "all", readable, JSON, true, false, false},
		{"GET", "/v1/user-data", decision.KindUserdata, "v1", "user-data", readable, Text, false, false, false},
		{"GET", "/v1/files/a/b:c", decision.KindUserdata, "v1", "files/a/b:c", readable, Text, false, false, false},
		{"GET", "/v1/files", decision.KindUnknown, "v1", "", readable, Text, false, false, false},
		{"GET", "/v1/keys/7/secret", decision.KindCredentials, "v1", "keys/7/secret", readable, Text, false, false, true},
		{"GET", "/v1/keys/x/secret", decision.KindUnknown, "v1", "", readable, Text, false, false, false},
		{"GET", "/v1/nic/eth0", decision.KindNetwork, "v1", "nic/eth0", readable, Text, false, false, true},
		{"GET", "/v1/password", decision.KindPassword, "v1", "password", both, Text, false, false, true},
		{"PUT", "/v1/password", decision.KindPassword, "v1", "password", both, Text, false, true, true},
		{"POST", "/v1/password", decision.KindPassword, "v1", "password", both, Text, false, true, true},
		{"DELETE", "/v1/password", decision.KindPassword, "v1", "password", both, Text, false, false, true},
		{"POST", "/v1/hello", decision.KindMetadata, "v1", "hello", []string{http.MethodPost}, Text, false, true, false},
		{"GET", "/v1/Password", decision.KindUnknown, "v1", "", readable, Text, false, false, false},
	} {
		got := g.Classify(Request{Method: test.method, Segments: splitPattern(test.path)})
		want := decision.Resource{Dialect: "generic", Kind: test.kind, Version: test.version, Key: test.key, Action: decision.Read, Sensitive: test.sensitive}
		if test.write {
			want.Action = decision.Write
		}
		if got.Resource != want || got.Format != test.format || got.Tree != test.tree || got.Body != test.write || !reflect.DeepEqual(got.Methods, test.methods) {
			t.Errorf("%s %s: %+v, want %+v %v", test.method, test.path, got, want, test.methods)
		}
	}
	traits := g.Traits()
	if traits.MaxPassword != 2048 || traits.Cache != 0 || traits.ExtraPathBytes != ":" || traits.RequestHeaders[0] != "X-Own" || traits.ResponseHeaders[0] != "X-Theirs" ||
		len(traits.Query["format"]) != 2 || traits.Query["nonce"] == nil || len(traits.Query["nonce"]) != 0 || traits.DenyStatus != http.StatusForbidden {
		t.Errorf("%+v", traits)
	}
	inner := g.Below(Request{Segments: []string{"v1", "all"}}, []string{"keys", "0", "secret"})
	if inner.Segments = append([]string{"v1"}, inner.Segments[2:]...); g.Classify(inner).Resource.Kind != decision.KindCredentials {
		t.Errorf("%+v", inner)
	}
}

// Each resource is sampled with each of its methods, as what it is.
func TestGenericSamples(t *testing.T) {
	g, err := genericOf(genericBlock(genericExample))
	if err != nil {
		t.Fatal(err)
	}
	kinds := make(map[string]int)
	for _, in := range Samples(g) {
		kinds[string(in.Resource.Kind)+" "+string(in.Resource.Action)]++
	}
	want := map[string]int{
		"listing read": 2, "metadata read": 2, "metadata write": 1, "userdata read": 2, "credentials read": 1,
		"network read": 1, "password read": 1, "password write": 2, "health read": 1, "unknown read": 1,
	}
	// /metaguard-nothing is a version to this server.
	if kinds["unknown read"] == 0 {
		delete(want, "unknown read")
		want["listing read"]++
	}
	if !reflect.DeepEqual(kinds, want) {
		t.Errorf("%v, want %v", kinds, want)
	}
}

// Every byte of names in paths may stand in a pattern.
func TestGenericPatternBytes(t *testing.T) {
	if _, err := genericOf("path_bytes $&+,:=@\nresource metadata /AZaz09._~-/$&+,:=@"); err != nil {
		t.Error(err)
	}
}

func TestGenericIssued(t *testing.T) {
	g, err := genericOf("resource password /password\npasswords {\n\tmax_size 64\n\tissued\n}")
	if err != nil || !g.Traits().Issues || g.Traits().MaxPassword != 64 {
		t.Fatalf("%+v %v", g, err)
	}
	g, err = genericOf("resource password /password {\n\taction write\n\taction read\n}\npasswords {\n\tmax_size 64\n\tcache 90s\n}")
	if err != nil || g.Traits().Cache != 90*time.Second || g.Traits().Issues {
		t.Fatalf("%+v %v", g, err)
	}
}

// What is wrong is said with its line.
func TestGenericErrors(t *testing.T) {
	const passwords = "\npasswords {\n\tmax_size 10\n\tcache 1s\n}"
	for block, want := range map[string]string{
		"":                                                              "no resource",
		"query a":                                                       "no resource",
		"resource":                                                      "it is `resource <kind> <pattern>`",
		"resource metadata":                                             "it is `resource <kind> <pattern>`",
		"resource metadata /a /b":                                       "it is `resource <kind> <pattern>`",
		"resource secrets /a":                                           "the kind is one of listing, metadata",
		"resource token /a":                                             "the kind is one of",
		"resource unknown /a":                                           "the kind is one of",
		"resource metadata a":                                           "begins with a slash",
		"resource metadata /a/":                                         "leave the slash at the end out",
		"resource metadata //a":                                         "repeated slashes",
		"resource metadata /a/../b":                                     "no path has a dot segment",
		"resource metadata /a/./b":                                      "no path has a dot segment",
		"resource metadata /a/**/b":                                     "** stands only at the end",
		"resource metadata /{version}/{version}":                        "{version} is there twice",
		"resource metadata /a*":                                         `"*" cannot stand in a path`,
		"resource metadata /a/{id}":                                     `"{" cannot stand in a path`,
		"resource metadata /a%2fb":                                      `"%" cannot stand in a path`,
		"resource metadata /a:b":                                        `":" cannot stand in a path`,
		"resource metadata /a?x":                                        `"?" cannot stand in a path`,
		"resource metadata /é":                                          "cannot stand in a path",
		"resource metadata /a\nresource listing /a":                     "described twice",
		"resource metadata /a {\n\tread\n}":                             `unrecognized setting "read"`,
		"resource metadata /a {\n\taction\n}":                           "it is `action read` or",
		"resource metadata /a {\n\taction delete\n}":                    "it is `action read` or",
		"resource metadata /a {\n\taction read GET\n}":                  "action read takes no method",
		"resource metadata /a {\n\taction read write\n}":                "a second line `action write`",
		"resource metadata /a {\n\taction write GET\n}":                 "a method that writes is one of",
		"resource metadata /a {\n\taction write post\n}":                "a method that writes is one of",
		"resource metadata /a {\n\taction write PUT PUT\n}":             "it is there twice",
		"resource metadata /a {\n\taction read\n\taction read\n}":       "action read is given twice",
		"resource metadata /a {\n\taction write\n\taction write PUT\n}": "action write is given twice",
		"resource metadata /a {\n\tsensitive\n\tsensitive\n}":           "sensitive is given twice",
		"resource metadata /a {\n\tsensitive yes\n}":                    "rong argument count",
		"resource metadata /a {\n\tjson\n\tlisting\n}":                  "it has one form",
		"resource metadata /a {\n\txml\n}":                              `unrecognized setting "xml"`,
		"resource password /a {\n\tjson\n}" + passwords:                 "a password is text",
		"resource password /a {\n\taction write DELETE\n}" + passwords:  "nothing of it is deleted",
		"resource password /a {\n\taction write\n}":                     "needs a block `passwords`",
		"resource password /a":                                          "needs a block `passwords`",
		"resource metadata /a" + passwords:                              "no resource is of kind password",
		"resource password /a" + passwords + passwords:                  "passwords is given twice",
		"resource password /a\npasswords {\n}":                          "needs max_size",
		"resource password /a\npasswords {\n\tmax_size 10\n}":           "needs max_size",
		"resource password /a\npasswords {\n\tcache 1s\n}":              "needs max_size",
		"resource password /a\npasswords {\n\tmax_size 0\n}":            "above zero",
		"resource password /a\npasswords {\n\tmax_size 1GiB\n}":         "up to 65536",
		"resource password /a\npasswords {\n\tcache -1s\n}":             "it is a duration",
		"resource password /a\npasswords {\n\tcache 1s\n\tcache 1s\n}":  "cache is given twice",
		"resource password /a\npasswords {\n\tkeep 1s\n}":               `unrecognized setting "keep"`,
		"resource password /a {\n\taction write\n}\npasswords {\n\tmax_size 10\n\tissued\n}": "makes them itself",
		"resource metadata /a\nquery":                              "rong argument count",
		"resource metadata /a\nquery a\nquery a b":                 "query a is given twice",
		"resource metadata /a\nheaders":                            "rong argument count",
		"resource metadata /a\nheaders A A":                        "A is given twice",
		"resource metadata /a\nheaders A\nheaders B":               "headers is given twice",
		"resource metadata /a\nanswer_headers A\nanswer_headers B": "answer_headers is given twice",
		"resource metadata /a\npath_bytes :":                       "stands before the resources",
		"path_bytes ;\nresource metadata /a":                       "only bytes of",
		"path_bytes : :\nresource metadata /a":                     "rong argument count",
		"resource metadata /a\nrequire_header X y":                 `unrecognized setting "require_header"`,
	} {
		_, err := genericOf(block)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "Testfile:") {
			t.Errorf("%q:\n%v, want %q", block, err, want)
		}
	}
	if err := new(Generic).UnmarshalCaddyfile(caddyfile.NewTestDispenser("generic x {\n\tresource metadata /a\n}")); err == nil {
		t.Error("an argument is taken")
	}
}

// What comes as JSON is checked no less.
func TestGenericJSON(t *testing.T) {
	for text, want := range map[string]string{
		`{}`: "no resource",
		`{"resources": [{"kind": "secret", "pattern": "/a"}]}`:                                                                   "the kind is one of",
		`{"resources": [{"kind": "metadata", "pattern": "/a/.."}]}`:                                                              "no path has a dot segment",
		`{"resources": [{"kind": "metadata", "pattern": "/a", "write": ["GET"]}]}`:                                               "a method that writes",
		`{"resources": [{"kind": "metadata", "pattern": "/a", "write_only": true}]}`:                                             "neither be read nor written",
		`{"resources": [{"kind": "metadata", "pattern": "/a", "format": "xml"}]}`:                                                "it is text, json, listing or tree",
		`{"resources": [{"kind": "metadata", "pattern": "/a"}, {"kind": "health", "pattern": "/a"}]}`:                            "it is there twice",
		`{"resources": [{"kind": "password", "pattern": "/a"}]}`:                                                                 "needs a block `passwords`",
		`{"resources": [{"kind": "password", "pattern": "/a"}], "passwords": {"cache": 1}}`:                                      "max_size",
		`{"resources": [{"kind": "password", "pattern": "/a"}], "passwords": {"max_size": 1, "cache": -1}}`:                      "cache is negative",
		`{"resources": [{"kind": "password", "pattern": "/a", "write": ["PUT"]}], "passwords": {"max_size": 1, "issued": true}}`: "makes them itself",
	} {
		g := new(Generic)
		if err := json.Unmarshal([]byte(text), g); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
		err := g.Provision(ctx)
		if err == nil {
			err = g.Validate()
		}
		cancel()
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

// Whatever patterns an operator writes, a path has one meaning, and what is no
// write has no body.
func FuzzGenericPattern(f *testing.F) {
	f.Add("/{version}/a/*", "/v1/a/b", "PUT")
	f.Add("/a/**", "/a/b/c", "GET")
	f.Add("/#/x", "/7/x", "POST")
	f.Fuzz(func(t *testing.T, pattern, path, method string) {
		g := &Generic{Resources: []GenericResource{{Kind: decision.KindUserdata, Pattern: pattern, Write: []string{http.MethodPut}}}}
		if g.Provision(caddy.Context{}) != nil {
			return
		}
		for _, sample := range Samples(g)[:2] {
			if sample.Resource.Kind != decision.KindUserdata {
				t.Errorf("%q: the sample %q is %s", pattern, sample.Request.Path, sample.Resource.Kind)
			}
		}
		match := g.Classify(Request{Method: method, Segments: splitPattern(path)})
		if match.Body != (match.Resource.Action == decision.Write) || (match.Body && method != http.MethodPut) {
			t.Errorf("%q %q %q: %+v", pattern, method, path, match)
		}
	})
}
