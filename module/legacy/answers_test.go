// SPDX-License-Identifier: Apache-2.0

package legacy

import (
	"bufio"
	"encoding/json"
	"net/http"
	"os"
	"regexp"
	"testing"
)

// TestAnswers holds the application against Nova 26's own code. Each line of
// the file is a request and what came back when Debian's nova.api.metadata
// (handler, base, password), oslo.middleware, WebOb and Paste were called in one
// process over the demonstration instances, with [api]use_forwarded_for and
// without a cache; only the database was a stand-in. Status 0 is an exception.
func TestAnswers(t *testing.T) {
	file, err := os.Open("testdata/answers.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	h := &Handler{}
	if err := h.prepare(); err != nil {
		t.Fatal(err)
	}
	seed := regexp.MustCompile(`"random_seed": "[^"]{684}"`)
	lines := 0
	for scanner := bufio.NewScanner(file); scanner.Scan(); lines++ {
		var row struct {
			Method, Path, Claimed, Accept, Type, Body string
			Status                                    int
		}
		if err := json.Unmarshal(scanner.Bytes(), &row); err != nil {
			t.Fatal(err)
		}
		r := &http.Request{Method: row.Method, Header: http.Header{}, RemoteAddr: "127.0.0.1:1"}
		if row.Claimed != "-" {
			r.Header.Set("X-Forwarded-For", row.Claimed)
		}
		h.store.cache = map[string]*view{}
		got := render(h.nova(&call{Request: r, pathInfo: row.Path, joint: ","}), row.Method, row.Accept)
		if row.Method == http.MethodHead { // the servers drop it
			got.body = ""
		}
		got.body = seed.ReplaceAllString(got.body, `"random_seed": "RANDOM"`)
		if got.crash {
			got = answer{}
		}
		if got.status != row.Status || got.contentType != row.Type || got.body != row.Body {
			t.Errorf("%s %s (for %s, Accept %q)\n got %d %q %q\nwant %d %q %q", row.Method, row.Path, row.Claimed, row.Accept,
				got.status, got.contentType, got.body, row.Status, row.Type, row.Body)
		}
	}
	if lines != 825 {
		t.Errorf("%d rows, want 825", lines)
	}
}
