// SPDX-License-Identifier: Apache-2.0

package module

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/metaguard/metaguard/module/canonical"
	"github.com/metaguard/metaguard/module/decision"
	"github.com/metaguard/metaguard/module/dialect"
	"github.com/metaguard/metaguard/module/policy"
	"github.com/metaguard/metaguard/module/response"
)

// partsSite is a handler with what judges parts, and a team's rules.
func partsSite(t testing.TB, d dialect.Dialect, timeout time.Duration, rules string) *Handler {
	t.Helper()
	file := filepath.Join(t.TempDir(), "team.rego")
	if err := os.WriteFile(file, []byte("package metaguard.team\n\n"+rules), 0o600); err != nil {
		t.Fatal(err)
	}
	engine, key, err := acquireEngine(policy.Config{Paths: []string{file}, Timeout: timeout}, nil)
	if err != nil {
		t.Fatalf("%v\n%s", err, rules)
	}
	t.Cleanup(func() { _ = releaseEngine(key) })
	canonicalizer, err := canonical.Rules{}.Compile()
	if err != nil {
		t.Fatal(err)
	}
	return &Handler{dialect: d, traits: d.Traits(), engine: engine, canonicalizer: canonicalizer}
}

// patience is a timeout for policies that no test should meet.
const patience = time.Minute

// partsExchange is a GET of an instance that went as far as the verdict.
func partsExchange(t testing.TB, h *Handler, path string) (*exchange, *decision.Refusal) {
	t.Helper()
	address := netip.MustParseAddr("192.0.2.7")
	x := &exchange{
		h: h, r: httptest.NewRequest(http.MethodGet, path, nil).WithContext(t.Context()), id: "test", verdict: decision.Deny,
		caller: &decision.Caller{Source: "remote_ip", ID: "instance:i-1", InstanceID: "i-1", ProjectID: "p-1", Address: address},
	}
	if refusal := x.canonicalize(); refusal != nil {
		return x, refusal
	}
	if refusal := x.classify(); refusal != nil {
		return x, refusal
	}
	return x, x.decide()
}

// partsShown is what is left of the server's answer for a path.
func partsShown(t testing.TB, h *Handler, path, body string) (string, *decision.Refusal) {
	t.Helper()
	x, refusal := partsExchange(t, h, path)
	if refusal != nil {
		t.Fatalf("%s is refused: %v", path, refusal)
	}
	x.reply = &response.Answer{Status: http.StatusOK, Header: http.Header{"Content-Type": {"text/plain"}}, Body: []byte(body)}
	if refusal := x.redact(); refusal != nil {
		return "", refusal
	}
	return string(x.reply.Body), nil
}

// partsListings are all listings of Nova, each with what it can name and some
// that no Nova has. A listing that is not there is refused.
func partsListings() map[string][]string {
	const strange = "future PASSWORD password/ .. ../password password/x openstack/latest/password a%20b 1=key _"
	listings := map[string][]string{}
	openstack := strings.Fields("meta_data.json user_data password vendor_data.json vendor_data2.json network_data.json version " + strange)
	var versions []string
	for _, version := range strings.Fields("2012-08-10 2013-04-04 2013-10-17 2015-10-15 2016-06-30 2016-10-06 2017-02-22 2018-08-27 2020-10-14 latest") {
		versions = append(versions, version, version+"/")
		listings["/openstack/"+version] = openstack
		listings["/openstack/"+version+"/"] = openstack
		listings["/openstack/"+version+"/version"] = openstack
	}
	listings["/openstack"] = append(versions, "content", "2099-01-01")
	ec2 := strings.Fields("1.0 2007-01-19 2007-03-01 2007-08-29 2007-10-10 2007-12-15 2008-02-01 2008-09-01 2009-04-04 latest")
	listings["/"] = append([]string{"openstack", "ec2", "healthcheck", "1999-01-01"}, ec2...)
	listings["/ec2/"] = ec2
	for _, version := range ec2 {
		for _, root := range []string{"/", "/ec2/"} {
			listings[root+version] = strings.Fields("meta-data/ user-data password " + strange)
			below := root + version + "/meta-data/"
			listings[below] = strings.Fields("ami-id block-device-mapping/ hostname placement/ public-keys/ iam/ security-groups " + strange)
			listings[below+"public-keys/"] = strings.Fields("0=mine 1=yours x=z")
			listings[below+"public-keys/0"] = strings.Fields("openssh-key other")
			listings[below+"block-device-mapping"] = strings.Fields("ami ebs0 root")
		}
	}
	return listings
}

// partsRules makes a team's rules that tell entries apart in every way.
func partsRules(random *rand.Rand) string {
	pick := func(from ...string) string { return from[random.IntN(len(from))] }
	names := []string{"user_data", "password", "meta_data.json", "latest", "2016-10-06", "meta-data", "user-data", "hostname", "public-keys", "future", "0", "ebs0"}
	conditions := []func() string{
		func() string {
			return fmt.Sprintf("input.resource.kind == %q", pick("listing", "metadata", "password", "userdata", "vendordata", "network", "health", "unknown"))
		},
		func() string {
			return fmt.Sprintf("input.resource.key == %q", pick("", "password", "user_data", "meta-data/hostname", "meta-data/public-keys/0", "vendor_data.json"))
		},
		func() string {
			return fmt.Sprintf("input.request.path == %q", pick("/openstack/latest/password", "/openstack/latest/user_data", "/latest/meta-data/", "/latest/meta-data", "/openstack/2012-08-10", "/1.0/user-data"))
		},
		func() string { return fmt.Sprintf("%q in input.request.segments", pick(names...)) },
		func() string {
			return fmt.Sprintf("input.request.segments[%d] == %q", random.IntN(4), pick(names...))
		},
		func() string { return fmt.Sprintf("endswith(input.request.path, %q)", pick("/", "data", "json")) },
		func() string {
			return fmt.Sprintf("input.resource.version %s %q", pick("==", "<", ">="), pick("latest", "2013-10-17", "2008-02-01", ""))
		},
		func() string { return pick("", "not ") + "input.resource.sensitive" },
	}
	var rules strings.Builder
	for range 1 + random.IntN(4) {
		fmt.Fprintf(&rules, "%s contains \"code_%d\" if {\n", pick("allow", "deny", "deny"), random.IntN(3))
		fmt.Fprintln(&rules, "\tinput.resource.kind != \"listing\"") // or there is nothing to see
		for range 1 + random.IntN(2) {
			fmt.Fprintf(&rules, "\t%s\n", conditions[random.IntN(len(conditions))]())
		}
		fmt.Fprint(&rules, "}\n\n")
	}
	return rules.String()
}

// An index page never advertises what a GET would refuse, and hides nothing else:
// whatever a team's rules ask of a request, and in every listing there is.
func TestPartsOfListings(t *testing.T) {
	const policies = 12
	listings := partsListings()
	seen := map[bool]int{}
	for seed := range uint64(policies) {
		rules := partsRules(rand.New(rand.NewPCG(seed, 6)))
		h := partsSite(t, dialect.OpenStack{}, patience, rules)
		for path, entries := range listings {
			body, refusal := partsShown(t, h, path, strings.Join(entries, "\n")+"\n")
			if refusal != nil {
				t.Fatalf("%s: %v\n%s", path, refusal, rules)
			}
			visible := map[string]bool{}
			for entry := range strings.Lines(body) {
				visible[strings.TrimSuffix(entry, "\n")] = true
			}
			parent := strings.TrimSuffix(strings.TrimSuffix(path, "/"), "/version")
			for _, entry := range entries {
				name, _, _ := strings.Cut(entry, "=")
				_, refusal := partsExchange(t, h, parent+"/"+name)
				// "a" is hidden with "a/": the server means one thing by both.
				twin := strings.TrimSuffix(name, "/")
				if twin == name {
					twin += "/"
				}
				if refusal == nil && strings.Contains("\n"+strings.Join(entries, "\n")+"\n", "\n"+twin+"\n") {
					_, refusal = partsExchange(t, h, parent+"/"+twin)
				}
				allowed := refusal == nil
				if seen[allowed]++; visible[entry] != allowed {
					t.Errorf("%s: %q is shown is %v, a GET of it is allowed is %v: %v\n%s", path, entry, visible[entry], allowed, refusal, rules)
				}
			}
		}
	}
	t.Logf("%d listings, %d policies; entries by allowed: %v", len(listings), policies, seen)
	if seen[true] < 1000 || seen[false] < 1000 {
		t.Error("hardly anything was tried")
	}
}

// A policy that cannot tell for one part has not allowed the answer without it.
func TestPartsThatCannotBeJudged(t *testing.T) {
	for name, test := range map[string]struct {
		rule, condition string
		timeout         time.Duration
		want            decision.Reason
	}{
		"error":     {`deny contains "no"`, `to_number(input.resource.key) == 1`, patience, decision.PolicyError},
		"timeout":   {`deny contains "no"`, `count([1 | some a in numbers.range(1, 100000); some b in numbers.range(1, 100000); a == b]) == 1`, 2 * time.Second, decision.PolicyTimeout},
		"malformed": {`redact_json contains concat("", ["no", " pointer"])`, "true", patience, decision.PolicyMalformed},
	} {
		rules := test.rule + " if {\n\tinput.resource.key == \"user_data\"\n\t" + test.condition + "\n}\n"
		h := partsSite(t, dialect.OpenStack{}, test.timeout, rules)
		body, refusal := partsShown(t, h, "/openstack/latest/", "meta_data.json\nuser_data\nvendor_data.json\n")
		if refusal == nil || refusal.Reason != test.want || refusal.Code != "part" {
			t.Errorf("%s: %q, %v, want %s/part", name, body, refusal, test.want)
		}
		if _, refusal := partsShown(t, h, "/openstack/latest/", "meta_data.json\n"); refusal != nil {
			t.Errorf("%s: without that part: %v", name, refusal)
		}
	}
}

// counting is a dialect that counts what it is asked.
type counting struct {
	dialect.OpenStack
	asked map[string]int
}

func (c counting) Classify(r dialect.Request) dialect.Match {
	c.asked["/"+strings.Join(r.Segments, "/")]++
	return c.OpenStack.Classify(r)
}

func TestPartsAreBounded(t *testing.T) {
	c := counting{asked: map[string]int{}}
	h := partsSite(t, c, patience, "")
	many := func(n int) string {
		var body strings.Builder
		for i := range n {
			fmt.Fprintf(&body, "%d=key\n", i)
		}
		return body.String()
	}
	const path = "/latest/meta-data/public-keys/"
	for n, code := range map[int]string{maxParts: "", maxParts + 1: "entries_over_limit"} {
		body, refusal := partsShown(t, h, path, many(n))
		switch {
		case code == "" && (refusal != nil || body != many(n)):
			t.Errorf("%d entries: %d bytes, %v", n, len(body), refusal)
		case code != "" && (refusal == nil || refusal.Code != code || refusal.Reason != decision.ResponseTooLarge):
			t.Errorf("%d entries: %v", n, refusal)
		}
	}

	clear(c.asked)
	repeated := strings.Repeat("user_data\n\nmeta_data.json\n \n", 2*maxParts)
	if body, refusal := partsShown(t, h, "/openstack/latest", repeated); refusal != nil || body != repeated {
		t.Errorf("the same entry again and again: %d bytes of %d, %v", len(body), len(repeated), refusal)
	}
	if c.asked["/openstack/latest/user_data"] != 1 || len(c.asked) != 3 {
		t.Errorf("asked %v", c.asked)
	}
}

// In audit mode a request for a part would be forwarded, so that all are there.
func TestPartsInAuditMode(t *testing.T) {
	h := partsSite(t, dialect.OpenStack{}, patience, "")
	const body = "meta_data.json\npassword\nfuture\n"
	if got, refusal := partsShown(t, h, "/openstack/latest/", body); refusal != nil || got != "meta_data.json\n" {
		t.Errorf("%q, %v", got, refusal)
	}
	h.Mode = modeAudit
	if got, refusal := partsShown(t, h, "/openstack/latest/", body); refusal != nil || got != body {
		t.Errorf("%q, %v", got, refusal)
	}
}

// Whoever reads a listing cuts blanks off; what then is a name that would be
// refused is not shown.
func TestPartsWithBlanks(t *testing.T) {
	h := partsSite(t, dialect.OpenStack{}, patience, "")
	got, refusal := partsShown(t, h, "/openstack/latest/", "password \n password\n\tpassword/\npassword =x\nuser_data\n")
	if refusal != nil || got != "user_data\n" {
		t.Errorf("%q, %v", got, refusal)
	}
}

// A policy is asked about an entry by the path that a request for it would have.
func TestPartsWithSlashes(t *testing.T) {
	h := partsSite(t, dialect.OpenStack{}, patience, "deny contains \"directory\" if {\n\tendswith(input.request.path, \"/\")\n\tinput.resource.key != \"\"\n}\n")
	got, refusal := partsShown(t, h, "/latest", "meta-data/\nuser-data\n")
	if refusal != nil || got != "user-data\n" {
		t.Errorf("%q, %v", got, refusal)
	}
	if got, refusal = partsShown(t, h, "/latest", "meta-data\nuser-data\n"); refusal != nil || got != "meta-data\nuser-data\n" {
		t.Errorf("%q, %v", got, refusal)
	}
}

// An answer that is no success is no listing.
func TestPartsOfErrors(t *testing.T) {
	h := partsSite(t, dialect.OpenStack{}, patience, "")
	x, _ := partsExchange(t, h, "/openstack/latest/")
	x.reply = &response.Answer{Status: http.StatusNotFound, Header: http.Header{"Content-Type": {"text/plain"}}, Body: []byte("password\n")}
	if refusal := x.redact(); refusal != nil || string(x.reply.Body) != "password\n" {
		t.Errorf("%q, %v", x.reply.Body, refusal)
	}
}

// partsTree is a dialect whose only document holds all there is, by the names
// of its members.
type partsTree struct{ dialect.OpenStack }

func (partsTree) Classify(r dialect.Request) dialect.Match {
	match := dialect.Match{Methods: []string{http.MethodGet}, Format: dialect.JSON}
	match.Resource = decision.Resource{Dialect: "tree", Kind: decision.KindUnknown, Action: decision.Read, Key: strings.Join(r.Segments, "/")}
	name := "tree"
	for _, segment := range r.Segments {
		if strings.Trim(segment, "0123456789") != "" {
			name = segment
		}
	}
	switch name {
	case "tree", "inner", "list":
		match.Resource.Kind, match.Tree = decision.KindMetadata, true
	case "value", "opaque":
		match.Resource.Kind = decision.KindMetadata
	case "token":
		match.Resource.Kind, match.Resource.Sensitive = decision.KindCredentials, true
	}
	return match
}

func (partsTree) Below(r dialect.Request, members []string) dialect.Request {
	r.Segments = append(r.Segments[:len(r.Segments):len(r.Segments)], members...)
	return r
}

func TestPartsOfDocuments(t *testing.T) {
	h := partsSite(t, partsTree{}, patience, `
deny contains "closed" if endswith(input.resource.key, "inner/value")

redact_json contains "/x" if endswith(input.resource.key, "opaque")

redact_keys contains "seed" if endswith(input.resource.key, "opaque")
`)
	for name, test := range map[string]struct{ document, want string }{
		"nothing hidden":       {`{"value": 1, "list": [1, 2]}`, `{"value": 1, "list": [1, 2]}`},
		"credentials":          {`{"value": 1, "token": {"value": "SECRET"}}`, `{"value": 1}`},
		"deeper":               {`{"inner": {"inner": {"token": "SECRET", "list": []}}}`, `{"inner": {"inner": {"list": []}}}`},
		"in a list":            {`{"list": [{"token": "SECRET"}, {"list": 2, "token": 3}]}`, `{"list": [{}, {"list": 2}]}`},
		"unknown":              {`{"future": {"value": 1}, "value": 2}`, `{"value": 2}`},
		"what the team denies": {`{"value": 1, "inner": {"value": 2}}`, `{"value": 1, "inner": {}}`},
		"not below a leaf":     {`{"opaque": {"token": 1}}`, `{"opaque": {"token": 1}}`},
		"a part's own pointer": {`{"opaque": {"x": 1, "y": 2}, "value": {"x": 3}}`, `{"opaque": {"y": 2}, "value": {"x": 3}}`},
		"a part's own key":     {`{"opaque": {"a": {"seed": 1, "y": 2}}}`, `{"opaque": {"a": {"y": 2}}}`},
		"twice":                {`{"token": 1, "value": 2, "token": 3}`, `{"value": 2}`},
		"no path":              {`{"": 1, ".": 2, "..": 2, "a/b": 3, "a~b": 4, "value": 5}`, `{"value": 5}`},
		"another spelling":     {`{"t\u006fken": 1, "value": 2}`, `{"value": 2}`},
		"no members":           {` 12 `, ` 12 `},
	} {
		if got, refusal := partsShown(t, h, "/tree", test.document); refusal != nil || strings.Join(strings.Fields(got), "") != strings.Join(strings.Fields(test.want), "") {
			t.Errorf("%s: %s, %v, want %s", name, got, refusal, test.want)
		}
	}
	for name, test := range map[string]struct{ document, code string }{
		"no document":       {`{"value": 1`, "json_cut"},
		"two documents":     {`{"value": 1}{}`, "json_invalid"},
		"more than goes":    {`{"list": [` + strings.Repeat("1,", maxParts) + `1]}`, "members_over_limit"},
		"one more":          {`[` + strings.Repeat("1,", maxParts) + `1]`, "members_over_limit"},
		"deeper than goes":  {strings.Repeat(`{"inner":`, 300) + "1" + strings.Repeat("}", 300), "json_too_deep"},
		"just as many pass": {`[` + strings.Repeat("1,", maxParts-1) + `1]`, ""},
	} {
		_, refusal := partsShown(t, h, "/tree", test.document)
		if (refusal == nil) != (test.code == "") || refusal != nil && refusal.Code != test.code {
			t.Errorf("%s: %v, want %q", name, refusal, test.code)
		}
	}
	failing := partsSite(t, partsTree{}, patience, "deny contains \"no\" if {\n\tendswith(input.resource.key, \"value\")\n\tto_number(\"x\") == 1\n}\n")
	if got, refusal := partsShown(t, failing, "/tree", `{"inner": {"value": 1}}`); refusal == nil || refusal.Reason != decision.PolicyError {
		t.Errorf("a part that cannot be judged: %s, %v", got, refusal)
	}
}

// partsAsked is a dialect that reads the query of a request, and that of a part.
type partsAsked struct{ partsTree }

func (d partsAsked) Classify(r dialect.Request) dialect.Match {
	match := d.partsTree.Classify(r)
	if last := len(r.Segments) - 1; last > 0 && r.Segments[last] == "value" {
		switch r.Query.Get("v") {
		case "":
			match.Resource.Kind = decision.KindUnknown
		case "2":
			match.Ambiguous = "v_is_2"
		}
	}
	return match
}

// A part is judged as a GET of it with the query of the whole, however the whole was
// asked for, and what would be refused as ambiguous is not shown.
func TestPartsAsRequests(t *testing.T) {
	h := partsSite(t, partsAsked{}, patience, `
deny contains "written" if {
	input.request.method != "GET"
	endswith(input.resource.key, "/value")
}

deny contains "body" if {
	input.request.body.size > 0
	endswith(input.resource.key, "/value")
}
`)
	for query, want := range map[string]string{"1": `{"value": 1}`, "2": `{}`, "": `{}`} {
		x, refusal := partsExchange(t, h, "/tree")
		if refusal != nil {
			t.Fatal(refusal)
		}
		x.request.Method, x.match.Body, x.body = http.MethodPost, true, []byte("sent")
		if query != "" {
			x.request.Query = url.Values{"v": {query}}
		}
		x.reply = &response.Answer{Status: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}}, Body: []byte(`{"value": 1}`)}
		if refusal := x.redact(); refusal != nil || string(x.reply.Body) != want {
			t.Errorf("v=%s: %s, %v, want %s", query, x.reply.Body, refusal, want)
		}
	}
}

// partsPlain is a dialect whose parts are asked for without a query.
type partsPlain struct{ partsTree }

func (d partsPlain) Below(r dialect.Request, members []string) dialect.Request {
	r = d.partsTree.Below(r, members)
	r.Query = nil
	return r
}

// What a policy sees of a part's query is what a request for the part would have.
func TestPartsHaveTheirOwnQuery(t *testing.T) {
	h := partsSite(t, partsPlain{}, patience, "deny contains \"waits\" if {\n\tinput.request.query.v\n\tendswith(input.resource.key, \"/value\")\n}\n")
	x, refusal := partsExchange(t, h, "/tree")
	if refusal != nil {
		t.Fatal(refusal)
	}
	x.request.Query = url.Values{"v": {"1"}}
	x.reply = &response.Answer{Status: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}}, Body: []byte(`{"value": 1}`)}
	if refusal := x.redact(); refusal != nil || string(x.reply.Body) != `{"value": 1}` {
		t.Errorf("%s, %v", x.reply.Body, refusal)
	}
}

// A policy that says nothing of a part has not allowed it, and ends nothing.
func TestPartsThatAreUndefined(t *testing.T) {
	file := filepath.Join(t.TempDir(), "own.rego")
	rules := "package own\n\ndecision := {\"allow\": true, \"reasons\": [\"own\"]} if {\n\tinput.resource.key != \"user_data\"\n\tinput.caller.instance_id == \"i-1\"\n}\n"
	if err := os.WriteFile(file, []byte(rules), 0o600); err != nil {
		t.Fatal(err)
	}
	engine, key, err := acquireEngine(policy.Config{Paths: []string{file}, Entrypoint: "own/decision", Timeout: patience}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = releaseEngine(key) })
	h := partsSite(t, dialect.OpenStack{}, patience, "")
	h.engine = engine
	if got, refusal := partsShown(t, h, "/openstack/latest/", "meta_data.json\nuser_data\n"); refusal != nil || got != "meta_data.json\n" {
		t.Errorf("%q, %v", got, refusal)
	}
}

// A dialect that says that there are parts and does not say which is a defect.
func TestPartsWithoutTrees(t *testing.T) {
	h := partsSite(t, struct{ dialect.Dialect }{partsTree{}}, patience, "")
	if got, refusal := partsShown(t, h, "/tree", `{"value": 1}`); refusal == nil || refusal.Code != "tree" {
		t.Errorf("%s, %v", got, refusal)
	}
}

// A listing as long as EC2's longest: each entry is a decision.
func BenchmarkParts(b *testing.B) {
	var entries strings.Builder
	for i := range 30 {
		fmt.Fprintf(&entries, "ebs%d\n", i)
	}
	h := partsSite(b, dialect.OpenStack{}, patience, "")
	b.ReportAllocs()
	for b.Loop() {
		if got, refusal := partsShown(b, h, "/latest/meta-data/block-device-mapping/", entries.String()); refusal != nil || len(got) != entries.Len() {
			b.Fatal(got, refusal)
		}
	}
}
