// SPDX-License-Identifier: Apache-2.0

package legacy

import (
	"bufio"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// Caddy's packages start these when they are loaded.
		goleak.IgnoreCurrent(),
		// Its storage locks linger for some seconds after a stop.
		goleak.IgnoreAnyFunction("github.com/caddyserver/certmagic.keepLockfileFresh"),
	)
}

const (
	noPassword = "11111111-1111-4111-8111-111111111111"
	withOne    = "22222222-2222-4222-8222-222222222222"
	evilKeys   = "33333333-3333-4333-8333-333333333333"

	passwordPath = "/openstack/latest/password"
)

// addresses of the demonstration instances.
var addressOf = map[string]string{noPassword: "10.0.0.11", withOne: "10.0.0.22", evilKeys: "10.0.0.33"}

// clock is a time that only moves when told to.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(by time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(by)
}

// server is a running legacy server.
type server struct {
	*Handler
	clock   *clock
	address string
	t       testing.TB
}

func start(t testing.TB, h *Handler) *server {
	t.Helper()
	s := &server{Handler: h, clock: &clock{now: time.Unix(1e9, 0)}, t: t}
	h.now = s.clock.Now
	if err := h.prepare(); err != nil {
		t.Fatal(err)
	}
	running := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Server", "Caddy") // as Caddy does before any handler
		if err := h.ServeHTTP(w, r, nil); err != nil {
			t.Errorf("ServeHTTP: %v", err)
		}
	}))
	t.Cleanup(running.Close)
	s.address = running.Listener.Addr().String()
	return s
}

// both runs a test against each kind of server.
func both(t *testing.T, test func(t *testing.T, kind string)) {
	for _, kind := range []string{UWSGI, Eventlet} {
		t.Run(kind, func(t *testing.T) { test(t, kind) })
	}
}

// raw sends bytes and gives everything that comes back until the end.
func (s *server) raw(request string) string {
	s.t.Helper()
	conn, err := net.Dial("tcp", s.address)
	if err != nil {
		s.t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(conn, request); err != nil {
		s.t.Fatal(err)
	}
	all, err := io.ReadAll(conn)
	if err != nil {
		s.t.Fatalf("reading the answer to %.60q: %v", request, err)
	}
	return string(all)
}

// reply is a whole answer; status 0: there was none.
type reply struct {
	status int
	header http.Header
	body   string
}

// do makes one request for an instance, by address, on a connection of its own.
func (s *server) do(method, target, instance, body string, headers ...string) reply {
	s.t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: legacy\r\nConnection: close\r\n", method, target)
	if instance != "" {
		fmt.Fprintf(&b, "X-Forwarded-For: %s\r\n", addressOf[instance])
	}
	framed := false
	for _, header := range headers {
		b.WriteString(header + "\r\n")
		framed = framed || strings.HasPrefix(header, "Content-Length") || strings.HasPrefix(header, "Transfer-Encoding")
	}
	if method == http.MethodPost && !framed {
		fmt.Fprintf(&b, "Content-Length: %d\r\n", len(body))
	}
	return s.parse(method, s.raw(b.String()+"\r\n"+body))
}

func (s *server) parse(method, raw string) reply {
	s.t.Helper()
	if raw == "" {
		return reply{}
	}
	response, err := http.ReadResponse(bufio.NewReader(strings.NewReader(raw)), &http.Request{Method: method})
	if err != nil {
		s.t.Fatalf("%q: %v", raw, err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		s.t.Fatalf("%q: %v", raw, err)
	}
	return reply{response.StatusCode, response.Header, string(body)}
}

// failed is what an exception looks like to the client.
func failed(kind string) int {
	if kind == Eventlet {
		return http.StatusInternalServerError
	}
	return 0
}

// chunksOf gives what lies in password_0 to password_3, as sizes.
func (s *server) chunksOf(id string) string {
	stored := s.store.systemMetadata(id)
	if _, ok := stored["password_0"]; !ok {
		return "nothing"
	}
	var sizes []string
	for n := range chunks {
		sizes = append(sizes, strconv.Itoa(len([]rune(stored["password_"+strconv.Itoa(n)]))))
	}
	return strings.Join(sizes, "+")
}

func TestWithoutIdentity(t *testing.T) {
	t.Setenv("LEGACY_TEST_SECRET", "s3cret")
	both(t, func(t *testing.T, kind string) {
		s := start(t, &Handler{Server: kind, Secret: "{env.LEGACY_TEST_SECRET}"})
		const versions = "1.0\n2007-01-19\n2007-03-01\n2007-08-29\n2007-10-10\n2007-12-15\n2008-02-01\n2008-09-01\n2009-04-04\nlatest"
		for target, want := range map[string]string{"/": versions, "//": versions, "//..//": versions, "/healthcheck": "OK", "//healthcheck": "OK"} {
			for _, method := range []string{"GET", "POST", "DELETE"} {
				if got := s.do(method, target, "", ""); got.status != 200 || got.body != want || got.header.Get("Content-Type") != plainText {
					t.Errorf("%s %s: %+v", method, target, got)
				}
			}
		}
		if got := s.do("HEAD", "/healthcheck", "", ""); got.status != 204 {
			t.Errorf("HEAD /healthcheck: %+v", got)
		}
		if got := s.do("GET", "/openstack", "", ""); got.status != 400 || !strings.Contains(got.body, "X-Instance-ID header is missing from request.") {
			t.Errorf("/openstack: %+v", got)
		}
	})
}

// TestAnyoneMayClaim is use_forwarded_for.
func TestAnyoneMayClaim(t *testing.T) {
	s := start(t, &Handler{})
	for _, tt := range []struct {
		headers []string
		want    int
	}{
		{[]string{"X-Forwarded-For: 10.0.0.22"}, 200},
		{[]string{"X-Forwarded-For: 10.0.0.22, 10.0.0.1"}, 404},
		{[]string{"X-Forwarded-For: 10.0.0.22", "X-Forwarded-For: 10.0.0.22"}, 404},
		{[]string{"X-Forwarded-For: "}, 500},
		{[]string{"X-Forwarded-For: 10.9.9.9"}, 404},
		{[]string{"X-Instance-ID: " + withOne}, 200}, // ignored: 127.0.0.1 is the first instance
		{nil, 200},
	} {
		if got := s.do("GET", "/openstack/latest/meta_data.json", "", "", tt.headers...); got.status != tt.want {
			t.Errorf("%v: %d, want %d", tt.headers, got.status, tt.want)
		}
	}
	if got := s.do("GET", "/openstack/latest/meta_data.json", "", ""); !strings.Contains(got.body, noPassword) {
		t.Errorf("the connection's address: %s", got.body)
	}
	if got := s.do("GET", "/latest/meta-data/local-ipv4", withOne, ""); got.body != "10.0.0.22" {
		t.Errorf("local-ipv4: %q", got.body)
	}
}

func sign(secret, id string) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(id))
	return hex.EncodeToString(mac.Sum(nil))
}

func TestSignedIdentity(t *testing.T) {
	t.Setenv("LEGACY_TEST_SECRET", "s3cret")
	both(t, func(t *testing.T, kind string) {
		s := start(t, &Handler{Server: kind, Secret: "{env.LEGACY_TEST_SECRET}"})
		id, tenant, signature := "X-Instance-ID: "+withOne, "X-Tenant-ID: "+projectB, "X-Instance-ID-Signature: "+sign("s3cret", withOne)
		for _, tt := range []struct {
			name    string
			headers []string
			status  int
			text    string
		}{
			{"signed", []string{id, tenant, signature}, 200, ""},
			{"no id", []string{tenant, signature}, 400, "X-Instance-ID header is missing from request."},
			{"no signature", []string{id, tenant}, 400, "X-Instance-ID-Signature header is missing from request."},
			{"no tenant", []string{id, signature}, 400, "X-Tenant-ID header is missing from request."},
			{"wrong signature", []string{id, tenant, "X-Instance-ID-Signature: " + sign("other", withOne)}, 403, "Invalid proxy request signature."},
			{"empty signature", []string{id, tenant, "X-Instance-ID-Signature: "}, 403, "Invalid"},
			{"upper case", []string{id, tenant, "X-Instance-ID-Signature: " + strings.ToUpper(sign("s3cret", withOne))}, 403, "Invalid"},
			{"of another id", []string{id, tenant, "X-Instance-ID-Signature: " + sign("s3cret", noPassword)}, 403, "Invalid"},
			{"not ASCII", []string{id, tenant, "X-Instance-ID-Signature: \xc3\xa9"}, failed(kind), ""},
			{"another's project", []string{id, "X-Tenant-ID: " + projectA, signature}, 404, "The resource could not be found."},
			{"empty project", []string{id, "X-Tenant-ID: ", signature}, 404, ""},
			{"unknown instance", []string{"X-Instance-ID: x", tenant, "X-Instance-ID-Signature: " + sign("s3cret", "x")}, 404, ""},
			{"garbage address", []string{id, tenant, signature, "X-Forwarded-For: <b>evil</b>"}, 200, ""},
			{"id twice", []string{id, id, tenant, signature}, 403, "Invalid"},
			{"tenant twice", []string{id, tenant, tenant, signature}, 404, ""},
			{"provider without address", []string{id, tenant, signature, "X-Metadata-Provider: p"}, 400, "X-Forwarded-For is missing from request."},
			{"provider unsigned", []string{id, tenant, signature, "X-Metadata-Provider: p", "X-Forwarded-For: 10.0.0.22"}, 403, "Invalid"},
			{"an instance's signature for a provider", []string{"X-Metadata-Provider: " + withOne, "X-Metadata-Provider-Signature: " + sign("s3cret", withOne), "X-Forwarded-For: 10.0.0.22"}, 400, "Could not find any subnets for provider " + withOne},
		} {
			got := s.do("GET", passwordPath, "", "", tt.headers...)
			if got.status != tt.status || !strings.Contains(got.body, tt.text) {
				t.Errorf("%s: %d %q, want %d", tt.name, got.status, got.body, tt.status)
			}
			if got.status != 200 && strings.Contains(got.body, sign("s3cret", withOne)) {
				t.Errorf("%s: the answer holds the signature", tt.name)
			}
		}
		// The first caller's claim is kept, and repeated as it came.
		fresh := start(t, &Handler{Server: kind, Secret: "{env.LEGACY_TEST_SECRET}"})
		for _, claimed := range []string{"X-Forwarded-For: <b>evil</b>", "X-Forwarded-For: 10.0.0.22"} {
			if got := fresh.do("GET", "/latest/meta-data/local-ipv4", "", "", id, tenant, signature, claimed); got.body != "<b>evil</b>" {
				t.Errorf("local-ipv4: %q", got.body)
			}
		}
	})
}
