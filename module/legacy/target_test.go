// SPDX-License-Identifier: Apache-2.0

package legacy

import (
	"bufio"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// tableRow is one raw target and what the real servers made of it.
type tableRow struct{ target, uwsgi, eventlet string }

func tableA(t testing.TB) []tableRow {
	t.Helper()
	var rows []tableRow
	for _, fields := range testdata(t, "testdata/table_a.tsv", 4) {
		rows = append(rows, tableRow{fields[0], fields[1], fields[2]})
	}
	if len(rows) != 143 {
		t.Fatalf("table A has %d rows, want 143", len(rows))
	}
	return rows
}

// testdata reads a table whose first column is Go-quoted, without the quotes.
func testdata(t testing.TB, name string, columns int) [][]string {
	t.Helper()
	file, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var rows [][]string
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
		if len(fields) != columns {
			t.Fatalf("%s: %q has %d columns", name, scanner.Text(), len(fields))
		}
		for n := range fields {
			if fields[n], err = strconv.Unquote(`"` + fields[n] + `"`); err != nil {
				t.Fatalf("%s: %q: %v", name, scanner.Text(), err)
			}
		}
		rows = append(rows, fields)
	}
	return rows
}

// outcome is what the handler would do with a raw target, in the words of
// table A, asked for the instance that has a password.
func outcome(t testing.TB, server, target string) string {
	t.Helper()
	h := &Handler{Server: server}
	if err := h.prepare(); err != nil {
		t.Fatal(err)
	}
	read, failed, malformed := UWSGIPath, "closed", "closed"
	if server == Eventlet {
		read, failed, malformed = EventletPath, "500", "400"
	}
	pathInfo, ok := read(target)
	if !ok {
		return malformed
	}
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.Header.Set("X-Forwarded-For", "10.0.0.22")
	a := h.nova(&call{Request: r, pathInfo: pathInfo, joint: ","})
	switch {
	case a.crash:
		return failed
	case a.status != http.StatusOK:
		return strconv.Itoa(a.status)
	case strings.Contains(a.body, demo()[1].SystemMetadata["password_1"]):
		return "PASSWORD"
	case a.body == "OK":
		return "health"
	case strings.HasPrefix(a.body, "1.0\n"):
		return "versions"
	case strings.HasPrefix(a.body, "{"):
		return "meta_data"
	}
	return "list"
}

func TestTableA(t *testing.T) {
	for _, row := range tableA(t) {
		if row.uwsgi == "-" {
			continue // only asked through Neutron's agent
		}
		if got := outcome(t, UWSGI, row.target); got != row.uwsgi {
			t.Errorf("uwsgi %q: %s, want %s", row.target, got, row.uwsgi)
		}
		if got := outcome(t, Eventlet, row.target); got != row.eventlet {
			t.Errorf("eventlet %q: %s, want %s", row.target, got, row.eventlet)
		}
	}
}

// TestCleaningIsNotEnough keeps the spellings for which this project refuses
// instead of cleaning: each is something else for a filter than for the server.
func TestCleaningIsNotEnough(t *testing.T) {
	for _, tt := range []struct{ target, filter, server string }{
		{"/openstack//../latest/password", "/latest/password", "/openstack/latest/password"},
		{"/openstack/latest////../password", "/openstack/password", "/openstack/latest/password"},
		{"/openstack/latest/password//..", "/openstack/latest", "/openstack/latest/password"},
		{"/openstack/latest/x//../password", "/openstack/latest/password", "/openstack/latest/x/password"},
	} {
		if got := path.Clean(tt.target); got != tt.filter {
			t.Errorf("path.Clean(%q) = %q, want %q", tt.target, got, tt.filter)
		}
		pathInfo, ok := UWSGIPath(tt.target)
		if got := NovaResource(pathInfo); !ok || got != tt.server {
			t.Errorf("uWSGI and Nova read %q as %q, want %q", tt.target, got, tt.server)
		}
		pathInfo, ok = EventletPath(tt.target)
		if got := NovaResource(pathInfo); !ok || got != NovaResource(tt.filter) {
			t.Errorf("eventlet and Nova read %q as %q, want %q", tt.target, got, NovaResource(tt.filter))
		}
	}
}

// TestPathInfo holds the models against what the real servers gave an
// application as PATH_INFO.
func TestPathInfo(t *testing.T) {
	rows := testdata(t, "testdata/path_info.tsv", 3)
	if len(rows) < 1000 {
		t.Fatalf("only %d rows", len(rows))
	}
	for _, row := range rows {
		for _, server := range []struct {
			name string
			read func(string) (string, bool)
			want string
		}{{UWSGI, UWSGIPath, row[1]}, {Eventlet, EventletPath, row[2]}} {
			got, ok := server.read(row[0])
			if server.want == "-" {
				if ok {
					t.Errorf("%s %q: %q, want it refused", server.name, row[0], got)
				}
			} else if !ok || "="+got != server.want {
				t.Errorf("%s %q: %q %t, want %q", server.name, row[0], got, ok, server.want)
			}
		}
	}
}

func TestNovaResource(t *testing.T) {
	for pathInfo, want := range map[string]string{
		"":                                       "/ec2",
		"/":                                      "/",
		"//":                                     "/",
		"//..//":                                 "/",
		"/..":                                    "/",
		"/.":                                     "/",
		"http://host":                            "/ec2",
		"http://host/":                           "/",
		"https://host//latest":                   "/ec2/latest",
		"http://host//openstack":                 "/openstack",
		"http:///ec2":                            "/ec2",
		"ftp://host/openstack":                   "",
		"Http://host/openstack":                  "",
		"openstack":                              "",
		"*":                                      "",
		"/openstack/\xff":                        "",
		"/openstack/\xed\xa0\x80":                "",
		"/openstack/\xc0\xaf":                    "",
		"/openstack/\xc3\xa9":                    "/openstack/\xc3\xa9",
		"/healthcheck":                           "/healthcheck",
		"//healthcheck":                          "/healthcheck",
		"/healthcheck/":                          "/ec2/healthcheck",
		"/./healthcheck":                         "/ec2/healthcheck",
		"/healthcheck/.":                         "/ec2/healthcheck",
		"/openstack":                             "/openstack",
		"//openstack/":                           "/openstack",
		"/openstackx":                            "/ec2/openstackx",
		"/latest/meta-data/":                     "/ec2/latest/meta-data",
		"/ec2/latest/meta-data":                  "/ec2/latest/meta-data",
		"/openstack/latest/x/../password":        "/openstack/latest/password",
		"/openstack/latest/password\x00":         "/openstack/latest/password\x00",
		"/openstack/../../openstack/latest/./..": "/openstack",
	} {
		if got := NovaResource(pathInfo); got != want {
			t.Errorf("NovaResource(%q) = %q, want %q", pathInfo, got, want)
		}
	}
}

func TestPasswordResource(t *testing.T) {
	for resource, want := range map[string]bool{
		"/openstack/latest/password":     true,
		"/openstack/2013-04-04/password": true,
		"/openstack/2020-10-14/password": true,
		"/openstack/2012-08-10/password": false,
		"/openstack/2099-01-01/password": false,
		"/openstack/password":            false,
		"/openstack/latest/x/password":   false,
		"/ec2/latest/password":           false,
		"/openstack/latest/password/x":   false,
		"/openstack/latest/Password":     false,
		"":                               false,
	} {
		if got := PasswordResource(resource); got != want {
			t.Errorf("PasswordResource(%q) = %t", resource, got)
		}
	}
}

// TestPlainPaths is what a guard relies on: a target of plain segments means
// the same to everyone.
func TestPlainPaths(t *testing.T) {
	segment := rapid.StringMatching(`[A-Za-z0-9_~-][A-Za-z0-9._~-]{0,8}`)
	rapid.Check(t, func(t *rapid.T) {
		target := "/" + strings.Join(rapid.SliceOfN(segment, 0, 6).Draw(t, "segments"), "/")
		if rapid.Bool().Draw(t, "slash") && target != "/" {
			target += "/"
		}
		for _, read := range []func(string) (string, bool){UWSGIPath, EventletPath} {
			if got, ok := read(target); !ok || got != target {
				t.Fatalf("%q is read as %q (%t)", target, got, ok)
			}
		}
	})
}

func FuzzTarget(f *testing.F) {
	for _, row := range tableA(f) {
		f.Add(row.target)
	}
	for _, seed := range []string{"", "#", ".", "..", "/.", "/..", "%", "%%", "/%", "/.%", "/..%2e", "a/../..", "/a/..", "/a/.b/..c/...", " ", "\xa0/\x85", "/?#", "/#?"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, target string) {
		for _, read := range []func(string) (string, bool){UWSGIPath, EventletPath} {
			pathInfo, ok := read(target)
			if !ok {
				if pathInfo != "" {
					t.Fatalf("%q is refused and read as %q", target, pathInfo)
				}
				continue
			}
			if len(pathInfo) > len(target)+1 { // a first # becomes a slash
				t.Fatalf("%q grows to %q", target, pathInfo)
			}
			resource := NovaResource(pathInfo)
			if resource == "" {
				continue
			}
			if again := NovaResource(resource); again != resource {
				t.Fatalf("%q is %q, and that is %q", target, resource, again)
			}
			if strings.Contains(resource, "//") || strings.Contains(resource+"/", "/../") || strings.Contains(resource+"/", "/./") {
				t.Fatalf("%q is %q, which is not clean", target, resource)
			}
		}
	})
}

func BenchmarkUWSGIPath(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		pathInfo, _ := UWSGIPath("/openstack/latest/x/%2e%2e/../password")
		_ = NovaResource(pathInfo)
	}
}

func TestLongTargets(t *testing.T) {
	for _, tt := range []struct {
		read func(string) (string, bool)
		most int
	}{{UWSGIPath, 32758}, {EventletPath, 8176}} {
		longest := "/" + strings.Repeat("a", tt.most-1)
		if got, ok := tt.read(longest); !ok || got != longest {
			t.Errorf("%d bytes are refused", tt.most)
		}
		if _, ok := tt.read(longest + "a"); ok {
			t.Errorf("%d bytes are read", tt.most+1)
		}
	}
}
