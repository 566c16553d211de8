// SPDX-License-Identifier: Apache-2.0

package tests

import (
	"bufio"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/metaguard/metaguard/module/canonical"
	"github.com/metaguard/metaguard/module/decision"
	"github.com/metaguard/metaguard/module/dialect"
	"github.com/metaguard/metaguard/module/legacy"
)

// models are the ways in which servers in front of Nova read a raw target.
var models = map[string]func(string) (string, bool){
	"uwsgi":    legacy.UWSGIPath,
	"eventlet": legacy.EventletPath,
}

// TestModels holds what is judged against what a server makes of it, for
// random spellings.
func TestModels(t *testing.T) {
	check := modelChecker(t)
	accepted := 0
	rapid.Check(t, func(t *rapid.T) {
		if check(t, target.Draw(t, "target")) {
			accepted++
		}
	})
	if accepted == 0 {
		t.Error("every target was refused: nothing was compared")
	}
}

// FuzzModels does the same from what the real servers were asked.
func FuzzModels(f *testing.F) {
	for _, seed := range tableTargets(f) {
		f.Add(seed)
	}
	check := modelChecker(f)
	f.Fuzz(func(t *testing.T, target string) { check(t, target) })
}

// The check itself must see what it is for: with rules that would let more
// through it fails, and the spellings that get past a cleaned path are among
// those that both models call the password.
func TestModelsKnowTheBypass(t *testing.T) {
	for _, target := range []string{"/openstack//../latest/password", "/openstack/latest/password%2f", "/openstack%2flatest/password"} {
		pathInfo, ok := legacy.UWSGIPath(target)
		if !ok || !legacy.PasswordResource(legacy.NovaResource(pathInfo)) {
			t.Errorf("%s: the model says %q %t", target, pathInfo, ok)
		}
	}
}

type failer interface {
	Helper()
	Errorf(format string, args ...any)
}

// modelChecker gives the check of one raw target. It tells whether the target
// is forwarded.
func modelChecker(tb testing.TB) func(failer, string) bool {
	tb.Helper()
	var openstack dialect.OpenStack
	canonicalizer, err := canonical.Rules{ExtraPathBytes: openstack.Traits().ExtraPathBytes}.Compile()
	if err != nil {
		tb.Fatal(err)
	}
	return func(t failer, target string) bool {
		t.Helper()
		segments, forwarded, accepted := canonicalize(canonicalizer, target)
		judged := openstack.Classify(dialect.Request{Method: http.MethodGet, Segments: segments, TrailingSlash: strings.HasSuffix(forwarded, "/") && len(forwarded) > 1}).Resource.Kind
		for name, model := range models {
			if pathInfo, ok := model(target); ok && accepted && legacy.PasswordResource(legacy.NovaResource(pathInfo)) && judged != decision.KindPassword {
				t.Errorf("%q is a password for %s and judged as %s", target, name, judged)
			}
			if !accepted {
				continue
			}
			pathInfo, ok := model(forwarded)
			resource := legacy.NovaResource(pathInfo)
			if want := judgedResource(segments, forwarded); !ok || resource != want {
				t.Errorf("%q is forwarded as %q, which %s reads as %q, judged %q", target, forwarded, name, resource, want)
			}
			if legacy.PasswordResource(resource) != (judged == decision.KindPassword) {
				t.Errorf("%q is forwarded as %q, which is %s for %s, judged %s", target, forwarded, resource, name, judged)
			}
			if (resource == legacy.HealthPath) != (judged == decision.KindHealth) {
				t.Errorf("%q is forwarded as %q, which is %s for %s, judged %s", target, forwarded, resource, name, judged)
			}
		}
		return accepted
	}
}

// canonicalize reads a target as Go's server and the guard do.
func canonicalize(c *canonical.Canonicalizer, target string) (segments []string, forwarded string, accepted bool) {
	if strings.ContainsAny(target, "\r\n") { // another request
		return nil, "", false
	}
	request, err := http.ReadRequest(bufio.NewReader(strings.NewReader("GET " + target + " HTTP/1.1\r\nHost: m\r\n\r\n")))
	if err != nil || request.RequestURI != target {
		return nil, "", false
	}
	read, refusal := c.Canonicalize(request)
	if refusal != nil {
		return nil, "", false
	}
	return read.Segments, read.Path, true
}

// judgedResource is the segments as NovaResource would write them.
func judgedResource(segments []string, forwarded string) string {
	switch {
	case len(segments) == 0:
		return "/"
	case forwarded == legacy.HealthPath:
		return legacy.HealthPath
	case segments[0] == "openstack", segments[0] == "ec2":
		return "/" + strings.Join(segments, "/")
	}
	// Nova finds whatever is in neither tree in the EC2 one.
	return "/ec2/" + strings.Join(segments, "/")
}

// target draws spellings near those that matter.
var target = rapid.Custom(func(t *rapid.T) string {
	word := rapid.SampledFrom([]string{
		"openstack", "latest", "password", "2013-04-04", "2012-08-10", "ec2", "meta-data", "content", "healthcheck",
		"meta_data.json", "x", ".", "..", "%2e", "%2E%2e", "%70assword", "pass%77ord", "%252e", "%2f", "%", "%zz", "%00",
		"password%20", "PASSWORD", ";x", "\\", "#", "?", "?x=1", "\x85", "\xff", "%c0%af", ":", "@", "~",
	})
	slash := rapid.SampledFrom([]string{"/", "/", "/", "//", "///", "/./", "/../", "%2f", ""})
	text := rapid.SampledFrom([]string{"/", "/", "/", "//", "", "http://m/"}).Draw(t, "start")
	if rapid.Bool().Draw(t, "near") { // mostly the password, spelt in some way
		for _, segment := range []string{"openstack", "latest", "password"} {
			text += spelling(segment).Draw(t, "segment") + slash.Draw(t, "slash")
		}
		return strings.TrimSuffix(text, rapid.SampledFrom([]string{"/", ""}).Draw(t, "end"))
	}
	for range rapid.IntRange(0, 6).Draw(t, "words") {
		text += word.Draw(t, "word") + slash.Draw(t, "slash")
	}
	return text
})

// spelling draws a word with some of its letters escaped.
func spelling(word string) *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		var text strings.Builder
		for _, b := range []byte(word) {
			if rapid.IntRange(0, 9).Draw(t, "escape") == 0 {
				text.WriteString("%" + strconv.FormatInt(int64(b), 16))
			} else {
				text.WriteByte(b)
			}
		}
		return text.String()
	})
}

// tableTargets reads the targets that the real servers were asked.
func tableTargets(tb testing.TB) []string {
	tb.Helper()
	var targets []string
	for _, file := range []string{"../module/canonical/testdata/table_a.tsv", "../module/legacy/testdata/table_a.tsv", "../module/legacy/testdata/path_info.tsv"} {
		content, err := os.ReadFile(file)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			tb.Fatal(err)
		}
		for line := range strings.Lines(string(content)) {
			field, _, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
			if target, err := strconv.Unquote(`"` + field + `"`); err == nil && !strings.HasPrefix(field, "# ") && !slices.Contains(targets, target) {
				targets = append(targets, target)
			}
		}
	}
	if len(targets) < 100 {
		tb.Fatalf("%d targets", len(targets))
	}
	return targets
}
