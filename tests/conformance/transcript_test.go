// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"
	"testing"
	"testing/fstest"
)

const head = "client: c\nversion: \"1\"\nsource: s\ndialect: d\n"

func TestTranscriptErrors(t *testing.T) {
	for name, tt := range map[string]struct{ text, want string }{
		"unknown setting":          {head + "stepz: []\n", "line 5: field stepz not found"},
		"unknown setting in steps": {head + "steps:\n  - name: a\n    path: /\n    expectt: {}\n", "line 8: field expectt not found"},
		"unknown expectation":      {head + "steps:\n  - name: a\n    path: /\n    expect: {code: 200}\n", "line 8: field code not found"},
		"repeated setting":         {head + "client: d\n", "line 5: mapping key \"client\" already defined"},
		"second document":          {head + "steps: [{name: a, path: /}]\n---\n{}\n", "more than one document"},
		"no source":                {strings.Replace(head, "source: s\n", "", 1) + "steps: [{name: a, path: /}]\n", "d/c.yaml:1: client, version, source and dialect"},
		"in another folder":        {strings.Replace(head, "dialect: d", "dialect: e", 1) + "steps: [{name: a, path: /}]\n", "lies elsewhere"},
		"no steps":                 {head, "no steps"},
		"no name":                  {head + "steps:\n  - path: /\n", "d/c.yaml:6: a step needs a name"},
		"same name":                {head + "steps:\n  - {name: a, path: /}\n  - {name: a, path: /}\n", "d/c.yaml:7: a second step"},
		"path and crawl":           {head + "steps:\n  - {name: a, path: /, crawl: /}\n", "either a path or a crawl"},
		"no slash":                 {head + "steps:\n  - {name: a, path: x}\n", "does not begin with a slash"},
		"line end in path":         {head + "steps:\n  - {name: a, path: \"/\\r\\nX: y\"}\n", "no client sends"},
		"method":                   {head + "steps:\n  - {name: a, path: /, method: get}\n", "is no method"},
		"silent write":             {head + "steps:\n  - {name: a, path: /, method: POST}\n", "writes: true"},
		"silent write by PUT":      {head + "steps:\n  - {name: a, path: /x, method: PUT}\n", "writes: true"},
		"crawl that expects":       {head + "steps:\n  - {name: a, crawl: /, expect: {status: 404}}\n", "a crawl has no"},
		"header":                   {head + "headers: [\"no colon\"]\nsteps: [{name: a, path: /}]\n", "line 5: a header is"},
		"line end in header":       {head + "headers: [\"A: b\\r\\nC: d\"]\nsteps: [{name: a, path: /}]\n", "line 5: a header is"},
		"pattern":                  {head + "steps:\n  - {name: a, path: /, expect: {pattern: \"(\"}}\n", "line 6: \"(\" is no pattern"},
		"status":                   {head + "steps:\n  - {name: a, path: /, expect: {status: fine}}\n", "line 6"},
		"unknown variable":         {head + "steps:\n  - {name: a, path: \"/${x}\"}\n", "d/c.yaml:6: nothing gives ${x}"},
		"variable in a header":     {head + "steps:\n  - {name: a, path: /, headers: [\"A: ${x}\"]}\n", "${x}"},
		"variable of a later step": {head + "steps:\n  - {name: a, path: \"/${x}\"}\n  - {name: b, path: /, save: {x: {body: true}}}\n", "d/c.yaml:6: nothing gives ${x}"},
		"each of nothing":          {head + "steps:\n  - {name: a, path: /, each: x}\n", "nothing is saved as \"x\""},
		"unless of nothing":        {head + "steps:\n  - {name: a, path: /, unless: {x: y}}\n", "nothing is saved as \"x\""},
		"save nothing":             {head + "steps:\n  - {name: a, path: /, save: {x: {}}}\n", "give one of"},
		"save two":                 {head + "steps:\n  - {name: a, path: /, save: {x: {body: true, header: A}}}\n", "give one of"},
		"entries without a group":  {head + "steps:\n  - {name: a, path: /, save: {x: {entries: a}}}\n", "one group"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parseTranscript("d/c.yaml", []byte(tt.text))
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.HasPrefix(err.Error(), "d/c.yaml:") {
				t.Errorf("%v, want %q with the file", err, tt.want)
			}
		})
	}
}

// TestEmbedded: every transcript that is built in can be read, and each dialect
// has some.
func TestEmbedded(t *testing.T) {
	all, err := loadTranscripts(embedded)
	if err != nil {
		t.Fatal(err)
	}
	clients := make(map[string]int)
	for _, transcript := range all {
		clients[transcript.Dialect]++
	}
	for dialect, least := range map[string]int{"openstack": 4, "ec2": 6, "cloudstack": 3, "gce": 3, "azure": 2, "generic": 1} {
		if clients[dialect] < least {
			t.Errorf("%d clients of %s", clients[dialect], dialect)
		}
	}
}

func TestLoadTranscripts(t *testing.T) {
	files := fstest.MapFS{
		"d/c.yaml":    {Data: []byte(head + "steps: [{name: a, path: /}]\n")},
		"d/README.md": {Data: []byte("none")},
	}
	if all, err := loadTranscripts(files); err != nil || len(all) != 1 || all[0].name != "c" {
		t.Errorf("%v %v", all, err)
	}
	files["e/c.yaml"] = &fstest.MapFile{Data: []byte("x: y\n")}
	if _, err := loadTranscripts(files); err == nil {
		t.Error("a bad file among good ones is read")
	}
}

func TestExpandTarget(t *testing.T) {
	v := newVariables(map[string]string{"a": "x/y?z\r\n", "b": "1"}, map[string]string{"b": "c d&e"})
	got, err := v.expandTarget("/p/${a}?q=${b}")
	if want := "/p/x%2Fy%3Fz%0D%0A?q=c+d%26e"; err != nil || got != want {
		t.Errorf("%q %v, want %q", got, err, want)
	}
	if _, err := v.expandTarget("/${nothing}"); err == nil {
		t.Error("a name without a value is expanded")
	}
}

func TestParseTarget(t *testing.T) {
	for text, want := range map[string]string{
		"http://a":             "a:80",
		"https://a/":           "a:443",
		"http://127.0.0.1:8":   "127.0.0.1:8",
		"http://[fd00::1]:8":   "[fd00::1]:8",
		"http://[fd00::1]":     "[fd00::1]:80",
		"":                     "",
		"a:80":                 "",
		"ftp://a":              "",
		"http://a/latest":      "",
		"http://a?x=y":         "",
		"http://user:secret@a": "",
	} {
		got, err := parseTarget(text)
		if (err == nil) != (want != "") || (err == nil && got.address != want) {
			t.Errorf("%q: %+v %v, want %q", text, got, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: the error says %v", text, err)
		}
	}
}

func TestParseListing(t *testing.T) {
	directories, leaves := parseListing("ami-id\nblock-device-mapping/\n0=my=key\n 12 =x\niam/\nsecurity-credentials/\nsecurity-credentials\n\n/\nami-id\n")
	if got := fmt.Sprint(directories, leaves); got != "[block-device-mapping iam] [ami-id 0/openssh-key 12/openssh-key]" {
		t.Error(got)
	}
}

func FuzzParseListing(f *testing.F) {
	f.Add("ami-id\n0=k\niam/\n")
	f.Add("a b\x00/\n../x\n%2e\n")
	f.Fuzz(func(t *testing.T, body string) {
		directories, leaves := parseListing(body)
		for _, name := range append(directories, leaves...) {
			path := join("/latest/meta-data/", name)
			if strings.ContainsAny(path, " \r\n\x00?#") {
				t.Fatalf("%q becomes %q", name, path)
			}
			if strings.ContainsFunc(printable(path), func(r rune) bool { return r < ' ' || r > '~' }) {
				t.Fatalf("%q is printed", path)
			}
		}
	})
}

func FuzzRefusal(f *testing.F) {
	f.Add("id-1", "Forbidden: policy_deny (decision id-1)\n")
	f.Add("id-1", `{"status":403,"error":"Forbidden","reason":"policy_deny","decision":"id-1"}`)
	f.Fuzz(func(t *testing.T, id, body string) {
		got := &answer{status: 403, body: body, header: map[string][]string{"X-Metaguard-Decision": {id}}}
		if reason, decision := refusal(got); reason != "" && (!plainWord.MatchString(reason) || !plainWord.MatchString(decision)) {
			t.Fatalf("%q %q", reason, decision)
		}
	})
}
