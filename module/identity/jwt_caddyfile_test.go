// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

const jwtStart = "identify jwt {\n issuer https://i.example\n audience a\n "

func TestJWTCaddyfileGood(t *testing.T) {
	const start = `{"issuer":"https://i.example","audience":["a"]`
	for text, want := range map[string]string{
		"":                                `}`,
		"jwks https://i.example/keys":     `,"jwks":{"url":"https://i.example/keys"}}`,
		"jwks http://127.0.0.1:8080/keys": `,"jwks":{"url":"http://127.0.0.1:8080/keys"}}`,
		"jwks /no/such.json":              `,"jwks":{"file":"/no/such.json"}}`,
		"jwks {\n ca /ca.pem\n}":          `,"jwks":{"ca":"/ca.pem"}}`,
		"jwks https://k/keys {\n ca /ca.pem\n token {file./t}\n refresh 1m\n max_stale 2h\n}": `,"jwks":{"url":"https://k/keys","ca":"/ca.pem","token":"{file./t}","refresh":60000000000,"max_stale":7200000000000}}`,
		"algorithms ES256 EdDSA": `,"algorithms":["ES256","EdDSA"]}`,
		"clock_skew 0s":          `,"clock_skew":0}`,
		"clock_skew 1m":          `,"clock_skew":60000000000}`,
		"header X-Token\n claims sub kubernetes.io\n project p\n roles r": `,"header":"X-Token","claims":["sub","kubernetes.io"],"project":"p","roles":"r"}`,
		"target claim vm.id": `,"target":{"by":"claim","claim":"vm.id"}}`,
	} {
		got, err := adapt(t, caddyfile.NewTestDispenser(jwtStart+text+"\n}"))
		if err != nil || got != start+want {
			t.Errorf("%s\ngave %s, %v\nwant %s", text, got, err, start+want)
		}
	}
}

func TestJWTCaddyfileBad(t *testing.T) {
	for text, want := range map[string]string{
		"identify jwt":                                     "needs an issuer: issuer https://…, at Testfile:1",
		"identify jwt " + planted:                          "takes a block, not an argument",
		"identify jwt {\n audience a\n}":                   "needs an issuer",
		"identify jwt {\n issuer https://i\n}":             "needs an audience",
		"identify jwt {\n issuer a b\n}":                   "issuer needs one argument",
		"identify jwt {\n issuer https://i#x\n}":           "without #",
		"identify jwt {\n issuer \"https://i j\"\n}":       "without blanks",
		jwtStart + "issuer https://j\n}":                   "issuer of identify jwt is given twice; it may stand once, at Testfile:4",
		jwtStart + "audience b\n}":                         "audience of identify jwt is given twice",
		jwtStart + "audiences b\n}":                        `unknown setting "audiences" of identify jwt: it has issuer, audience, jwks, `,
		jwtStart + "jwks\n}":                               "jwks needs a URL, a file or a block",
		jwtStart + "jwks a b\n}":                           "jwks takes one URL or file",
		jwtStart + "jwks http://i.example/k\n}":            "jwks http://i.example/k: it is not https, so whoever stands between could bring keys of his own: write https://…, at Testfile:4",
		jwtStart + "jwks ftp://i.example/k\n}":             "no https URL",
		jwtStart + "jwks https://u:" + planted + "@i/k\n}": "has a user or a password",
		jwtStart + "jwks https://i/k#x\n}":                 "has a fragment",
		jwtStart + "jwks /keys.json {\n refresh 1m\n}\n}":  "refresh of jwks is for a server, and /keys.json is a file",
		jwtStart + "jwks {\n token " + planted + "\n}\n}":  "token of jwks: a secret is given as {env.NAME} or {file.PATH}; a literal",
		jwtStart + "jwks {\n token {env.T} x\n}\n}":        "takes one placeholder",
		jwtStart + "jwks {\n token\n}\n}":                  "needs one placeholder",
		jwtStart + "jwks {\n ca a\n ca b\n}\n}":            "ca of jwks is given twice",
		jwtStart + "jwks {\n cert a\n}\n}":                 `unknown setting "cert" of jwks: it has ca, token, refresh and max_stale`,
		jwtStart + "jwks {\n refresh 0s\n}\n}":             "refresh of jwks cannot be 0",
		jwtStart + "jwks {\n refresh soon\n}\n}":           `refresh "soon": it is a time`,
		jwtStart + "algorithms RS256 none\n}":              "algorithm none: whoever likes could write a token",
		jwtStart + "algorithms NONE\n}":                    "algorithm none",
		jwtStart + "algorithms HS256\n}":                   "algorithm HS256: whoever can verify with a shared key can also sign",
		jwtStart + "algorithms rs256\n}":                   `unknown algorithm "rs256": there are RS256`,
		jwtStart + "algorithms RS256 RS256\n}":             "RS256 is given twice",
		jwtStart + "clock_skew\n}":                         "clock_skew needs one argument",
		jwtStart + "clock_skew -1s\n}":                     "it is a time",
		jwtStart + "claims\n}":                             "claims needs an argument",
		jwtStart + "claims \"\"\n}":                        "an argument is empty",
		jwtStart + "project a b\n}":                        "project needs one argument",
		jwtStart + "roles a {\n x\n}\n}":                   "roles takes no block",
		jwtStart + "target nobody x\n}":                    "it is `target remote_ip",
	} {
		_, err := adapt(t, caddyfile.NewTestDispenser(text))
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "Testfile:") {
			t.Errorf("%s\ngave %v\nwant %s", text, err, want)
		}
		noSecret(t, err)
	}
}

func TestJWTProvisionErrors(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		writeFile(t, path, text)
		return path
	}
	k := testKeys()
	good := file("good.json", allKeys())
	many := make([]doc, maxKeys+1)
	for i := range many {
		many[i] = jwkOf(k.ed, "")
	}
	skew := func(d time.Duration) *caddy.Duration { c := caddy.Duration(d); return &c }
	set := func(text string) func(*JWT) {
		path := file("set.json", text)
		return func(j *JWT) { writeFile(t, path, text); j.JWKS = &JWKS{File: path} }
	}
	for name, test := range map[string]struct {
		change func(*JWT)
		want   string
	}{
		"no issuer":        {func(j *JWT) { j.Issuer = "" }, "needs an issuer: issuer https://…"},
		"long issuer":      {func(j *JWT) { j.Issuer = strings.Repeat("i", 256) }, "longer than 255"},
		"no audience":      {func(j *JWT) { j.Audience = nil }, "needs an audience"},
		"empty audience":   {func(j *JWT) { j.Audience = []string{""} }, "an audience is empty"},
		"empty claim":      {func(j *JWT) { j.Claims = []string{"a", ""} }, "name is empty"},
		"http issuer":      {func(j *JWT) { j.Issuer, j.JWKS = "http://i.example", nil }, "cannot be asked for its keys: it is not https"},
		"issuer, password": {func(j *JWT) { j.Issuer, j.JWKS = "https://u:"+planted+"@i.example", nil }, "has a user or a password"},
		"issuer no URL":    {func(j *JWT) { j.Issuer, j.JWKS = "kubernetes/serviceaccount", nil }, "or say where they are: jwks <url|file>"},
		"issuer, query":    {func(j *JWT) { j.Issuer, j.JWKS = "https://i.example?x=y", nil }, "has a query"},
		"http jwks":        {func(j *JWT) { j.JWKS = &JWKS{URL: "http://192.0.2.1/keys"} }, "it is not https"},
		"URL and file":     {func(j *JWT) { j.JWKS.URL = "https://i/k" }, "has a URL and a file"},
		"file and ca":      {func(j *JWT) { j.JWKS.CA = "x" }, "are for a server"},
		"no such file":     {func(j *JWT) { j.JWKS.File = filepath.Join(dir, "none.json") }, "none.json"},
		"a directory":      {func(j *JWT) { j.JWKS.File = dir }, "not a regular file"},
		"no such ca":       {func(j *JWT) { j.JWKS = &JWKS{URL: "https://i/k", CA: filepath.Join(dir, "none.pem")} }, "none.pem"},
		"ca no PEM":        {func(j *JWT) { j.JWKS = &JWKS{URL: "https://i/k", CA: good} }, "has no certificate: it is a PEM file"},
		"literal token":    {func(j *JWT) { j.JWKS = &JWKS{URL: "https://i/k", Token: planted} }, "a literal"},
		"refresh short":    {func(j *JWT) { j.JWKS = &JWKS{URL: "https://i/k", Refresh: caddy.Duration(time.Second)} }, "refresh 1s: it is at least 10s"},
		"max_stale short":  {func(j *JWT) { j.JWKS = &JWKS{URL: "https://i/k", MaxStale: caddy.Duration(time.Minute)} }, "max_stale 1m0s is shorter than refresh 5m0s"},
		"algorithm none":   {func(j *JWT) { j.Algorithms = []string{"none"} }, "algorithm none"},
		"algorithm HS512":  {func(j *JWT) { j.Algorithms = []string{"HS512"} }, "shared key"},
		"skew":             {func(j *JWT) { j.ClockSkew = skew(6 * time.Minute) }, "clock_skew 6m0s: it is from 0s to 5m0s"},
		"skew negative":    {func(j *JWT) { j.ClockSkew = skew(-1) }, "clock_skew"},
		"header":           {func(j *JWT) { j.Header = "x token" }, "letters, digits and dashes"},
		"header underline": {func(j *JWT) { j.Header = "x_token" }, "letters, digits and dashes"},
		"header Host":      {func(j *JWT) { j.Header = "host" }, "header Host has another meaning"},
		"header of target": {func(j *JWT) { j.Header = HeaderTarget }, "another meaning"},
		"target":           {func(j *JWT) { j.Target = &TargetRule{By: "x"} }, "target"},
		"set no JSON":      {set("keys"), "not one well-formed JSON object"},
		"set empty":        {set(""), "not one well-formed JSON object"},
		"set doubled":      {set(`{"keys":[],"keys":[]}`), "doubled names"},
		"set a key":        {set(jwkOf(k.rsa, "x").String()), `no list "keys"`},
		"set too long":     {set(`{"keys":[],"x":"` + strings.Repeat("x", maxKeySet) + `"}`), "longer than"},
		"too many keys":    {set(keySetOf(many...)), "more than 100 keys"},
		"no usable key":    {set(keySetOf(jwkOf([]byte(planted), "s"))), "no key that can verify a signature, of 1"},
		"no key":           {set(`{"keys":[]}`), "no key that can verify a signature, of 0"},
	} {
		t.Run(name, func(t *testing.T) {
			j := &JWT{Issuer: testIssuer, Audience: []string{testAudience}, JWKS: &JWKS{File: good}}
			test.change(j)
			err := provisionError(t, j.Provision)
			if err == nil {
				err = j.Validate()
			}
			if err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), "jwt") {
				t.Errorf("error %v, want %q", err, test.want)
			}
			noSecret(t, err)
			if err := j.Cleanup(); err != nil { // Caddy cleans up after a failure too
				t.Error(err)
			}
		})
	}
}

// Paths are relative to the Caddyfile, and an edit of the file is noticed.
func TestJWTCaddyfileBesideIt(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "keys.json"), allKeys())
	tokens, err := caddyfile.Tokenize([]byte(jwtStart+"jwks keys.json\n}"), filepath.Join(dir, "Caddyfile"))
	if err != nil {
		t.Fatal(err)
	}
	document, err := adapt(t, caddyfile.NewDispenser(tokens))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
	defer cancel()
	loaded, err := ctx.LoadModuleByID("metaguard.identities.jwt", json.RawMessage(document))
	if err != nil {
		t.Fatal(err)
	}
	j := loaded.(*JWT)
	if status := j.Status(); status.Keys != 5 || status.Where != filepath.Join(dir, "keys.json") || j.JWKS.Digest == "" {
		t.Errorf("%+v of %s", status, document)
	}
	if err := os.Remove(filepath.Join(dir, "keys.json")); err != nil {
		t.Fatal(err)
	}
	if again, err := adapt(t, caddyfile.NewDispenser(tokens)); err != nil || again == document {
		t.Errorf("an edit leaves the configuration as it was: %v", err)
	}
}
