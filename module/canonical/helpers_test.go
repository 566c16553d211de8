// SPDX-License-Identifier: Apache-2.0

package canonical

import (
	"bufio"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"testing"
)

// nova are the rules of a site in front of Nova behind Neutron's agent.
var nova = Rules{
	Identity: []string{
		"X-Instance-ID", "X-Tenant-ID", "X-Instance-ID-Signature",
		"X-Metadata-Provider", "X-Metadata-Provider-Signature", "X-Forwarded-For",
	},
}

func compile(t testing.TB, rules Rules) *Canonicalizer {
	t.Helper()
	c, err := rules.Compile()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// request is a GET for a raw target as Go's server hands it over, or, where
// that would refuse the target, as it could if it did not.
func request(target string) *http.Request {
	parsed, err := url.ParseRequestURI(target)
	if err != nil {
		path, query, _ := strings.Cut(target, "?")
		if decoded, err := url.PathUnescape(path); err == nil {
			path = decoded
		}
		parsed = &url.URL{Path: path, RawQuery: query}
	}
	return &http.Request{
		Method: http.MethodGet, RequestURI: target, URL: parsed,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Host: "169.254.169.254", Header: http.Header{},
	}
}

// read parses a raw request as Go's server does.
func read(t testing.TB, raw string) *http.Request {
	t.Helper()
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(raw)))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// code is the code of the refusal, or "" if there is none.
func code(c *Canonicalizer, r *http.Request) string {
	if _, refusal := c.Canonicalize(r); refusal != nil {
		return refusal.Code
	}
	return ""
}

// target is what goes upstream.
func target(q *Request) string {
	if q.RawQuery == "" {
		return q.Path
	}
	return q.Path + "?" + q.RawQuery
}

// tableRow is a raw target, what three set-ups of the real Nova made of it, and
// what Metaguard makes of it.
type tableRow struct{ target, uwsgi, eventlet, agent, canonical, first string }

func tableA(t testing.TB) []tableRow {
	t.Helper()
	file, err := os.Open("testdata/table_a.tsv")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var rows []tableRow
	header := true
	for scanner := bufio.NewScanner(file); scanner.Scan(); {
		if strings.HasPrefix(scanner.Text(), "# ") {
			continue
		}
		if header {
			header = false
			continue
		}
		fields := strings.Split(scanner.Text(), "\t")
		if len(fields) != 6 {
			t.Fatalf("%q has %d columns", scanner.Text(), len(fields))
		}
		raw, err := strconv.Unquote(`"` + fields[0] + `"`)
		if err != nil {
			t.Fatalf("%q: %v", scanner.Text(), err)
		}
		rows = append(rows, tableRow{raw, fields[1], fields[2], fields[3], fields[4], fields[5]})
	}
	if len(rows) != 143 {
		t.Fatalf("table A has %d rows, want 143", len(rows))
	}
	return rows
}
