// SPDX-License-Identifier: Apache-2.0

package nova_test

import (
	"encoding/hex"
	"encoding/json"
	"strconv"
	"strings"
	"testing"

	"github.com/metaguard/metaguard/module/legacy"
)

// These tests look at the servers alone. They hold what Metaguard is built on:
// how the servers read a path, and the faults that it is there for.

// TestTableA holds table A against the real servers: for GET and POST, through
// Neutron's agent and without. A POST reaches the password handler where it is
// told that there is a password already.
func TestTableA(t *testing.T) {
	ask := func(t *testing.T, target, want string, request func(method string, body []byte) reply) {
		t.Helper()
		if want == "-" {
			return
		}
		if got := request("GET", nil); got.what() != want {
			t.Errorf("GET %q: %v, want %s", target, got, want)
		}
		got := request("POST", []byte("x")).what()
		if want == "PASSWORD" {
			want = "409"
		}
		if reached := got == "409"; reached != (want == "409") {
			t.Errorf("POST %q: %s, want %s", target, got, want)
		}
	}
	for _, kind := range webServers {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			nova := novaUnder(t, kind)
			for _, row := range tableA(t) {
				ask(t, row.target, row.under(kind), func(method string, body []byte) reply {
					return send(t, "", nova.address, request(method, row.target, signed(withPassword), body))
				})
			}
		})
	}
	t.Run("agent", func(t *testing.T) {
		t.Parallel()
		agent := agentBefore(t, novaUnder(t, uwsgi).address)
		for _, row := range tableA(t) {
			ask(t, row.target, row.agent, func(method string, body []byte) reply {
				return send(t, address(withPassword), agent.address, request(method, row.target, nil, body))
			})
		}
	})
}

// TestPathModels holds the models of module/legacy against the web servers: the
// PATH_INFO that they make of a raw target.
func TestPathModels(t *testing.T) {
	for _, kind := range webServers {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			echo := echoUnder(t, kind)
			left := patience(50)
			for _, target := range spellings(t, 2000) {
				left.check(t)
				want, ok := model(kind, target)
				got := send(t, "", echo.address, request("GET", target, nil, nil))
				if !ok {
					if got.status == 200 {
						t.Errorf("%q: the model says that it is refused, the server: %v", target, got)
					}
					continue
				}
				pathInfo, err := hex.DecodeString(got.body)
				if got.status != 200 || err != nil || string(pathInfo) != want {
					t.Errorf("%q: %v, PATH_INFO %q; the model says %q", target, got, pathInfo, want)
				}
			}
		})
	}
}

func model(kind, target string) (pathInfo string, ok bool) {
	if kind == uwsgi {
		return legacy.UWSGIPath(target)
	}
	return legacy.EventletPath(target)
}

// TestResourceModel holds the model of Nova against Nova: a target is answered
// as the resource that the models say it is.
func TestResourceModel(t *testing.T) {
	for _, kind := range webServers {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			nova := novaUnder(t, kind)
			plain := map[string]string{}
			left := patience(50)
			for _, target := range spellings(t, 2000) {
				left.check(t)
				got := stable(get(t, nova.address, target, withPassword))
				pathInfo, ok := model(kind, target)
				if !ok {
					if !strings.HasPrefix(got, "4") {
						t.Errorf("%q: %s, though it is malformed", target, got)
					}
					continue
				}
				resource := legacy.NovaResource(pathInfo)
				if resource == "" {
					if got != "closed" && got != "500 " {
						t.Errorf("%q: %s, though nothing can be looked up", target, got)
					}
					continue
				}
				want, asked := plain[resource]
				if !asked {
					want = stable(get(t, nova.address, escaped(resource), withPassword))
					plain[resource] = want
				}
				if got != want {
					t.Errorf("%q is not answered as %q:\n%s\n%s", target, resource, got, want)
				}
				if isPassword := strings.Contains(got, passwordOf2); isPassword != legacy.PasswordResource(resource) {
					t.Errorf("%q is %q: %s", target, resource, got)
				}
			}
		})
	}
}

// escaped writes a path so that everyone decodes it to the same bytes.
func escaped(path string) string {
	var b strings.Builder
	for _, c := range []byte(path) {
		if c == '/' {
			b.WriteByte(c)
		} else {
			b.WriteString("%" + hex.EncodeToString([]byte{c}))
		}
	}
	return b.String()
}

// stable is an answer without what is new in each: random_seed.
func stable(r reply) string {
	if r.closed() {
		return "closed"
	}
	body := r.body
	var document map[string]any
	if json.Unmarshal([]byte(body), &document) == nil {
		delete(document, "random_seed")
		text, _ := json.Marshal(document)
		body = string(text)
	}
	return strconv.Itoa(r.status) + " " + body
}

// TestNovaOverwrites shows the fault that the latch is for: within its cache
// time Nova takes a second password for the first and says 200 to both.
func TestNovaOverwrites(t *testing.T) {
	t.Parallel()
	nova := novaUnder(t, uwsgi)
	const path = "/openstack/latest/password"
	writing.Lock()
	defer writing.Unlock()
	for _, password := range []string{"the first", "the second"} {
		if got := post(t, nova.address, path, overwritten, password); got.status != 200 {
			t.Fatalf("%v", got)
		}
	}
	if got := get(t, nova.address, path, overwritten); got.status != 200 || got.body != "" {
		t.Errorf("the writer reads %v, want nothing yet", got)
	}
	if got, _ := nova.stored(t, overwritten); got != "the second" {
		t.Errorf("stored is %q", got)
	}
}

// TestAgentLosesChunked shows the fault for which an empty password is refused:
// Neutron's agent sends a chunked body on as an empty one, Nova stores it, and
// the machine is told 200.
func TestAgentLosesChunked(t *testing.T) {
	t.Parallel()
	nova := novaUnder(t, uwsgi)
	agent := agentBefore(t, nova.address)
	writing.Lock()
	defer writing.Unlock()
	got := send(t, address(lostByAgent), agent.address, request("POST", "/openstack/latest/password",
		[]string{"Transfer-Encoding: chunked"}, nil), chunks("lost")...)
	if got.status != 200 {
		t.Fatalf("%v", got)
	}
	if text, rows := nova.stored(t, lostByAgent); text != "" || len(rows) != 4 {
		t.Errorf("stored is %q", rows)
	}
}
