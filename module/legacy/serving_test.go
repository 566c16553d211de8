// SPDX-License-Identifier: Apache-2.0

package legacy

import (
	"bufio"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
)

func TestOptionsIsForAnybody(t *testing.T) {
	t.Setenv("LEGACY_TEST_SECRET", "s3cret")
	both(t, func(t *testing.T, kind string) {
		for _, s := range []*server{start(t, &Handler{Server: kind}), start(t, &Handler{Server: kind, Secret: "{env.LEGACY_TEST_SECRET}"})} {
			for _, target := range []string{passwordPath, "/nowhere", "/openstack/2012-08-10/password"} {
				got := s.do("OPTIONS", target, "", "")
				if _, typed := got.header["Content-Type"]; got.status != 200 || got.body != "" || typed {
					t.Errorf("OPTIONS %s: %+v", target, got)
				}
			}
			if got := s.do("OPTIONS", "/", "", ""); got.status != 200 || !strings.HasPrefix(got.body, "1.0\n") {
				t.Errorf("OPTIONS /: %+v", got)
			}
		}
	})
}

func TestListings(t *testing.T) {
	s := start(t, &Handler{})
	for _, tt := range []struct{ target, want string }{
		{"/openstack", "2012-08-10 2013-04-04 2013-10-17 2015-10-15 2016-06-30 2016-10-06 2017-02-22 2018-08-27 2020-10-14 latest"},
		{"/openstack/", "2012-08-10 2013-04-04 2013-10-17 2015-10-15 2016-06-30 2016-10-06 2017-02-22 2018-08-27 2020-10-14 latest"},
		{"/openstack/2012-08-10/", "meta_data.json user_data"},
		{"/openstack/2013-04-04/", "meta_data.json user_data password"},
		{"/openstack/2013-10-17", "meta_data.json user_data password vendor_data.json"},
		{"/openstack/2015-10-15/", "meta_data.json user_data password vendor_data.json network_data.json"},
		{"/openstack/2016-06-30/version", "meta_data.json user_data password vendor_data.json network_data.json"},
		{"/openstack/2016-10-06/", "meta_data.json user_data password vendor_data.json network_data.json vendor_data2.json"},
		{"/openstack/latest/version", "meta_data.json user_data password vendor_data.json network_data.json vendor_data2.json"},
		{"/ec2", "1.0 2007-01-19 2007-03-01 2007-08-29 2007-10-10 2007-12-15 2008-02-01 2008-09-01 2009-04-04 latest"},
		{"/latest/", "meta-data/ user-data"},
		{"/ec2/latest/", "meta-data/ user-data"},
		{"/latest/meta-data/", "ami-id ami-launch-index ami-manifest-path block-device-mapping/ hostname instance-action instance-id instance-type local-hostname local-ipv4 placement/ public-hostname public-ipv4 public-keys/ reservation-id security-groups"},
		{"/1.0/meta-data/", "ami-id ami-launch-index ami-manifest-path hostname instance-id local-ipv4 public-keys/ reservation-id security-groups"},
		{"/latest/meta-data/public-keys/", "0=k1"},
		{"/latest/meta-data/public-keys/0", "openssh-key"},
		{"/latest/meta-data/placement/availability-zone", "nova"},
		{"/latest/meta-data/security-groups", "default"},
	} {
		for _, id := range []string{noPassword, withOne} { // whether a password is set does not show
			got := s.do("GET", tt.target, id, "")
			if got.status != 200 || got.body != strings.ReplaceAll(tt.want, " ", "\n") || got.header.Get("Content-Type") != plainText {
				t.Errorf("%s: %+v", tt.target, got)
			}
		}
	}
	for target, want := range map[string]int{
		"/openstack/latest/content": 0, "/openstack/content": 404, "/openstack/2099-01-01": 404, "/latest/nothing": 404,
		"/latest/meta-data/hostname/x": 0, "/latest/meta-data/hostname/x/y": 404,
		"/latest/meta-data/security-groups/default": 0, "/latest/meta-data/security-groups/x": 404,
		"/openstack/2012-08-10/network_data.json": 200, "/openstack/2012-08-10/vendor_data.json": 404,
		"/openstack/2016-06-30/vendor_data2.json": 404, "/openstack/latest/vendor_data2.json": 200,
	} {
		if got := s.do("GET", target, withOne, ""); got.status != want {
			t.Errorf("%s: %+v, want %d", target, got, want)
		}
	}
}

func TestMetaData(t *testing.T) {
	s := start(t, &Handler{})
	for version, added := range map[string][]string{
		"2012-08-10": nil,
		"2013-04-04": {"random_seed"},
		"2015-10-15": {"random_seed", "project_id"},
		"2016-06-30": {"random_seed", "project_id", "devices"},
		"2020-10-14": {"random_seed", "project_id", "devices", "dedicated_cpus"},
		"latest":     {"random_seed", "project_id", "devices", "dedicated_cpus"},
	} {
		got := s.do("GET", "/openstack/"+version+"/meta_data.json", evilKeys, "")
		var document map[string]any
		if err := json.Unmarshal([]byte(got.body), &document); err != nil {
			t.Fatalf("%s: %v", got.body, err)
		}
		want := append([]string{"availability_zone", "hostname", "keys", "launch_index", "meta", "name", "public_keys", "uuid"}, added...)
		slices.Sort(want)
		if keys := slices.Sorted(maps.Keys(document)); !slices.Equal(keys, want) {
			t.Errorf("%s: %v, want %v", version, keys, want)
		}
		if strings.Contains(got.body, "[evil]") || document["uuid"] != evilKeys {
			t.Errorf("%s: %s", version, got.body)
		}
	}
	first, second := s.do("GET", "/openstack/latest/meta_data.json", withOne, ""), s.do("GET", "/openstack/latest/meta_data.json", withOne, "")
	if first.body == second.body {
		t.Error("random_seed is the same twice")
	}
	if want := `{"uuid": "` + withOne + `", "meta": {"role": "test"}, "public_keys": {"k1": "`; !strings.HasPrefix(first.body, want) {
		t.Errorf("%.120s does not begin with %s", first.body, want)
	}
}

func TestQuote(t *testing.T) {
	for text, want := range map[string]string{
		"a\"\\/":            `"a\"\\/"`,
		"\n\r\t\b\f\x00":    `"\n\r\t\b\f\u0000"`,
		"é\u2028\U0001f600": `"\u00e9\u2028\ud83d\ude00"`,
		"\x7f<&>":           `"\u007f<&>"`,
	} {
		if got := quote(text); got != want {
			t.Errorf("quote(%q) = %s, want %s", text, got, want)
		}
	}
}

func TestUWSGIFraming(t *testing.T) {
	s := start(t, &Handler{Server: UWSGI})
	const get = "GET /openstack/2012-08-10/ HTTP/1.%d\r\nHost: x\r\nX-Forwarded-For: 10.0.0.22\r\n\r\n"
	want := " 200 OK\r\nContent-Type: text/plain; charset=UTF-8\r\n\r\nmeta_data.json\nuser_data"
	for minor := range 2 {
		if got := s.raw(fmt.Sprintf(get, minor)); got != fmt.Sprintf("HTTP/1.%d", minor)+want {
			t.Errorf("HTTP/1.%d: %q", minor, got)
		}
	}
	if got := s.raw(fmt.Sprintf(get, 1) + fmt.Sprintf(get, 1)); strings.Count(got, "200 OK") != 1 {
		t.Errorf("a pipelined request is answered: %q", got)
	}
	if got := s.raw("HEAD /openstack HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 10.0.0.22\r\n\r\n"); got != "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=UTF-8\r\n\r\n" {
		t.Errorf("HEAD: %q", got)
	}
	if got := s.raw("OPTIONS " + passwordPath + " HTTP/1.1\r\nHost: x\r\n\r\n"); got != "HTTP/1.1 200 OK\r\n\r\n" {
		t.Errorf("OPTIONS: %q", got)
	}
	if got := s.raw("GET /openstack/latest/content HTTP/1.1\r\nHost: x\r\n\r\n"); got != "" {
		t.Errorf("exception: %q", got)
	}
	// A request that is far too large is still answered.
	if got := s.do("POST", passwordPath, noPassword, strings.Repeat("x", 60_000)); got.status != 400 {
		t.Errorf("60000 bytes: %+v", got)
	}
}

func TestEventletFraming(t *testing.T) {
	s := start(t, &Handler{Server: Eventlet})
	const get = "GET /openstack/2012-08-10/ HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 10.0.0.22\r\n"
	got := s.raw(get + "\r\n" + get + "Connection: close\r\n\r\n")
	if strings.Count(got, "200 OK") != 2 || strings.Count(got, "Content-Length: 24\r\n") != 2 || strings.Contains(got, "Server:") {
		t.Errorf("two on one connection: %q", got)
	}
	crash := s.do("GET", "/openstack/latest/content", withOne, "")
	if crash.status != 500 || crash.body != "" || crash.header.Get("Content-Length") != "0" || crash.header.Get("Content-Type") != "text/plain" {
		t.Errorf("exception: %+v", crash)
	}
	raw := s.raw("GET /openstack/latest/content HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 10.0.0.22\r\n\r\n")
	if !strings.Contains(raw, "Connection: close\r\n") {
		t.Errorf("exception: %q", raw)
	}
	if head := s.raw("HEAD /openstack/2012-08-10/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Forwarded-For: 10.0.0.22\r\n\r\n"); !strings.Contains(head, "Content-Length: 24\r\n") || !strings.HasSuffix(head, "\r\n\r\n") {
		t.Errorf("HEAD: %q", head)
	}
}

func TestErrorBodies(t *testing.T) {
	s := start(t, &Handler{})
	for accept, want := range map[string]reply{
		"": {404, http.Header{"Content-Type": {plainText}}, "404 Not Found\n\nThe resource could not be found.\n\n   "},
		"*/*": {404, http.Header{"Content-Type": {htmlText}}, "<html>\n <head>\n  <title>404 Not Found</title>\n </head>\n <body>\n  <h1>404 Not Found</h1>\n" +
			"  The resource could not be found.<br /><br />\n\n\n\n </body>\n</html>"},
		"application/json": {404, http.Header{"Content-Type": {jsonText}}, `{"message": "The resource could not be found.<br /><br />\n\n\n", "code": "404 Not Found", "title": "Not Found"}`},
	} {
		var headers []string
		if accept != "" {
			headers = []string{"Accept: " + accept}
		}
		got := s.do("GET", "/openstack/latest/<script>", withOne, "", headers...)
		if got.status != want.status || got.header.Get("Content-Type") != want.header.Get("Content-Type") || got.body != want.body {
			t.Errorf("Accept %q: %+v, want %+v", accept, got, want)
		}
	}
}

// TestTargetsThroughGo asks a running server for the rows of table A that Go's
// own server lets pass.
func TestTargetsThroughGo(t *testing.T) {
	both(t, func(t *testing.T, kind string) {
		s := start(t, &Handler{Server: kind})
		passed := 0
		for _, row := range tableA(t) {
			want := row.uwsgi
			if kind == Eventlet {
				want = row.eventlet
			}
			r, err := http.ReadRequest(bufio.NewReader(strings.NewReader("GET " + row.target + " HTTP/1.1\r\nHost: x\r\n\r\n")))
			if err != nil || want == "-" || r.RequestURI != row.target {
				continue
			}
			got := s.do("GET", row.target, withOne, "")
			isPassword := got.status == 200 && strings.Contains(got.body, demo()[1].SystemMetadata["password_1"])
			if isPassword != (want == "PASSWORD") {
				t.Errorf("%q: %+v, want %s", row.target, got, want)
			}
			passed++
		}
		if passed < 100 {
			t.Errorf("only %d rows pass Go's server", passed)
		}
	})
}

// TestWithoutConnection is a writer that cannot be taken over, as in HTTP/2.
func TestWithoutConnection(t *testing.T) {
	h := &Handler{}
	if err := h.prepare(); err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest("GET", "/openstack", nil)
	r.Header.Set("X-Forwarded-For", "10.0.0.22")
	w := httptest.NewRecorder()
	if err := h.ServeHTTP(w, r, nil); err != nil || w.Code != 200 || w.Header().Get("Content-Length") != strconv.Itoa(w.Body.Len()) {
		t.Errorf("%v %+v", err, w)
	}
	defer func() {
		if got := recover(); got != http.ErrAbortHandler { //nolint:errorlint // a panic value, compared as net/http does
			t.Errorf("an exception ends in %v", got)
		}
	}()
	r.RequestURI = "*"
	_ = h.ServeHTTP(httptest.NewRecorder(), r, nil)
}
