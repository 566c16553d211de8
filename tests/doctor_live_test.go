// SPDX-License-Identifier: Apache-2.0

package tests

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/metaguard/metaguard/tests/harness"
)

// unseen is what an upstream says that must be in no output.
const unseen = "uns33n-passw0rd"

// dated is a whole answer with a date of now.
func dated(status int, body string) string {
	return fmt.Sprintf("HTTP/1.1 %d X\r\nDate: %s\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s",
		status, time.Now().UTC().Format(http.TimeFormat), len(body), body)
}

// careful answers as Nova does behind its agent: who does not sign is refused.
func careful(string) string { return dated(403, "Invalid proxy request signature.") }

// examined is a guarded site whose configuration has nothing to find, with a
// private admin API.
type examined struct {
	*site
	admin *harness.Admin
}

// examine starts one in front of a scripted server.
func examine(t *testing.T, script func(string) string, more string, files map[string]string) *examined {
	t.Helper()
	e := prepareExamined(t, script, more, files)
	e.Run(e.address)
	e.admin.Get(t, "/config/") // which waits until it is loaded
	return e
}

func prepareExamined(t *testing.T, script func(string) string, more string, files map[string]string) *examined {
	t.Helper()
	upstream := harness.NewUpstream(t, script)
	address := fmt.Sprintf("127.0.0.1:%d", harness.FreePort(t))
	admin := harness.NewAdmin(t)
	text := strings.NewReplacer("unix//run/metaguard/admin.sock|0600", admin.Listen).Replace(cleanOptions) + strings.NewReplacer(
		"http://:8775", "http://"+strings.TrimPrefix(address, "127.0.0.1")+" {\n\tbind 127.0.0.1", " {\n\tmetaguard", "\n\tmetaguard",
		"127.0.0.1:8774", upstream.Address, "deny_status 404", "deny_status 404\n"+more).Replace(cleanSite)
	all := map[string]string{"Caddyfile": text, "logging.caddy": loggingSnippet(t), "inventory.json": inventory, "policy/data.json": "{}"}
	for name, content := range files {
		all[name] = content
	}
	e := &examined{&site{Process: harness.New(t, all), address: address, upstream: upstream}, admin}
	for _, directory := range []string{e.Dir, e.Data} {
		if err := os.Chmod(directory, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return e
}

// doctor examines what runs.
func (e *examined) doctor(t *testing.T, args ...string) (doctorReport, int, string) {
	t.Helper()
	report, code, output := doctor(t, e.Process, append([]string{"--address", e.admin.Address}, args...)...)
	if strings.Contains(output, unseen) || strings.Contains(output, secret) {
		t.Errorf("the output holds what it must not:\n%s", output)
	}
	return report, code, output
}

// A site as it should be has nothing to find, and all of it is looked at.
func TestDoctorHealthy(t *testing.T) {
	t.Parallel()
	e := examine(t, careful, "\t\tpolicy policy\n", nil)
	for _, args := range [][]string{nil, {"--config", "Caddyfile"}} {
		report, code, output := e.doctor(t, args...)
		if code != 0 || len(report.Findings) > 0 {
			t.Errorf("%q: %d %q\n%s", args, code, report.found(), output)
		}
		if runtime.GOOS == "linux" && !strings.Contains(strings.Join(report.LookedAt, "\n"), fmt.Sprintf("the running process %d: Caddy v2.", e.Pid())) {
			t.Errorf("the process is not looked at: %q", report.LookedAt)
		}
		if !strings.Contains(output, "the clock of this host against the Date of 1 server(s)") {
			t.Errorf("the clock is not compared: %q", report.LookedAt)
		}
	}
	for _, request := range e.upstream.Requests() {
		if !strings.HasPrefix(request, "GET ") {
			t.Errorf("the server was sent %q", request)
		}
	}
	if len(e.upstream.Requests()) == 0 {
		t.Error("the server was asked nothing")
	}
}

// A server that answers anybody, and believes anybody, is found out.
func TestDoctorCareless(t *testing.T) {
	t.Parallel()
	has := func(request, header string) bool {
		return strings.Contains(strings.ToLower(request), strings.ToLower(header))
	}
	for name, test := range map[string]struct {
		script func(string) string
		want   []string
		not    []string
	}{
		"answers anybody": {
			func(string) string { return dated(200, unseen) },
			[]string{"upstream_anyone"},
			[]string{"upstream_unsigned", "upstream_forwarded", "guard_believes"},
		},
		"believes unsigned headers": {
			func(request string) string {
				if has(request, "X-Instance-ID: "+instance2) && !has(request, "X-Instance-ID-Signature") {
					return dated(200, unseen)
				}
				return careful(request)
			},
			[]string{"upstream_unsigned"},
			[]string{"upstream_anyone", "guard_believes"},
		},
		"believes any signature": {
			func(request string) string {
				if has(request, "X-Instance-ID-Signature") {
					return dated(200, unseen)
				}
				return careful(request)
			},
			[]string{"upstream_unsigned"},
			[]string{"upstream_anyone", "guard_believes"},
		},
		"believes X-Forwarded-For": {
			func(request string) string {
				if has(request, "X-Forwarded-For: 127.0.0.2") {
					return dated(200, unseen)
				}
				return careful(request)
			},
			[]string{"upstream_forwarded"},
			[]string{"upstream_anyone", "upstream_unsigned", "guard_believes"},
		},
		"gives nothing": {
			func(string) string { return dated(200, "") }, nil, []string{"upstream_anyone", "upstream_unsigned", "upstream_forwarded"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			report, _, output := examine(t, test.script, "", nil).doctor(t, "--skip", policyChecks)
			for _, id := range test.want {
				if !report.has(id, "") {
					t.Errorf("%s is not found\n%s", id, output)
				}
			}
			for _, id := range test.not {
				if report.has(id, "") {
					t.Errorf("%s is found\n%s", id, output)
				}
			}
		})
	}
}

// Whatever a server does, the doctor ends, says what it could not look at, and
// shows nothing of it. Redirects are not followed.
func TestDoctorEvilServers(t *testing.T) {
	t.Parallel()
	var trapped harness.Step = func(*net.TCPConn) bool { t.Error("a redirect was followed"); return false }
	trap := harness.NewScripted(t, func(string) []harness.Step { return []harness.Step{trapped} })
	for name, steps := range map[string][]harness.Step{
		"silence":          {harness.Silence()},
		"garbage":          {harness.Send(unseen + "\r\n\r\n" + unseen)},
		"a reset":          {harness.ResetConn()},
		"an endless body":  {harness.Send("HTTP/1.1 200 OK\r\n\r\n"), harness.Flood(strings.Repeat(unseen, 1000), 0)},
		"an endless head":  {harness.Send("HTTP/1.1 200 OK\r\n"), harness.Flood("X-A: "+unseen+"\r\n", 0)},
		"endless 1xx":      {harness.Flood("HTTP/1.1 103 Early\r\nX: "+unseen+"\r\n\r\n", 0)},
		"one byte a time":  {harness.Dribble("HTTP/1.1 200 OK\r\nX: "+strings.Repeat("y", 10_000), 50*time.Millisecond)},
		"a body that ends": {harness.Send("HTTP/1.1 200 OK\r\nContent-Length: 999999\r\n\r\n" + unseen)},
		"a redirect":       {harness.Send("HTTP/1.1 302 Found\r\nLocation: http://" + trap.Address + "/" + unseen + "\r\nContent-Length: 0\r\n\r\n")},
		"escapes":          {harness.Send("HTTP/1.1 200 \x1b[31m" + unseen + "\r\nDate: \x1b[31m" + unseen + "\r\nContent-Length: 2\r\n\r\n\x1b[")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := harness.NewScripted(t, func(string) []harness.Step { return steps })
			e := prepareExamined(t, careful, "", nil)
			e.edit(t, "Caddyfile", e.upstream.Address, server.Address)
			e.Run(e.address)
			report, code, output := e.doctor(t, "--timeout", "500ms", "--skip", policyChecks)
			if code < 0 || len(report.LookedAt) == 0 {
				t.Errorf("it did not end by itself: %d\n%s", code, output)
			}
			text, err := e.Command("doctor", "--address", e.admin.Address, "--timeout", "500ms", "--skip", policyChecks, "--around", server.Address)
			if strings.Contains(text, unseen) || strings.Contains(text, "\x1b") {
				t.Errorf("%v: it shows what the server said:\n%s", err, text)
			}
			if !strings.Contains(text, "PROBLEM upstream_around") {
				t.Errorf("the server is reached around the guard, and that is not said:\n%s", text)
			}
		})
	}
}

// From a client's place, with nothing but an address, it is told whether
// something answers there without the guard.
func TestDoctorAround(t *testing.T) {
	t.Parallel()
	e := examine(t, careful, "", nil)
	open := harness.NewUpstream(t, func(string) string { return dated(200, unseen) })
	// As Neutron's agent does, it hands on no header.
	behind := func(address string) string {
		agent := httptest.NewServer(&httputil.ReverseProxy{
			Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(&url.URL{Scheme: "http", Host: address}) },
			ModifyResponse: func(r *http.Response) error {
				r.Header.Del("X-Metaguard-Decision")
				return nil
			},
		})
		t.Cleanup(agent.Close)
		return agent.Listener.Addr().String()
	}
	for name, test := range map[string]struct {
		address string
		code    int
		text    string
	}{
		"the guard":       {e.address, 0, ""},
		"an agent":        {behind(e.address), 0, ""},
		"another agent":   {behind(open.Address), 1, "a password (/openstack/latest/password) to whoever asks"},
		"nothing":         {fmt.Sprintf("127.0.0.1:%d", harness.FreePort(t)), 0, ""},
		"the server":      {e.upstream.Address, 1, "answers without the guard, with status 403"},
		"an open server":  {open.Address, 1, "a password (/openstack/latest/password) to whoever asks"},
		"no name of ours": {"metaguard.invalid:80", 2, ""},
	} {
		report, code, output := doctor(t, e.Process, "--around", test.address)
		if code != test.code || test.text != "" && !report.has("upstream_around", test.text) || strings.Contains(output, unseen) {
			t.Errorf("%s: %d\n%s", name, code, output)
		}
	}
}

// Passwords that reading uses up, or of which nobody has said what reading does,
// are not asked for; servers get nothing but GETs.
func TestDoctorAsksNothingThatCounts(t *testing.T) {
	t.Parallel()
	for _, dialect := range []string{"openstack", "ec2", "gce", "azure", "cloudstack"} {
		server := harness.NewUpstream(t, func(string) string { return dated(200, unseen) })
		_, _, output := doctor(t, harness.New(t, nil), "--around", server.Address, "--dialect", dialect)
		asked := strings.Join(server.Requests(), "\n")
		if !strings.HasPrefix(asked, "GET /") || strings.Contains(output, unseen) {
			t.Errorf("%s: %q\n%s", dialect, asked, output)
		}
		for _, word := range []string{"POST ", "PUT ", "DomU", "token", "send_my_password", "saved_password", "wait_for_change", "attested"} {
			if strings.Contains(asked, word) {
				t.Errorf("%s: the server was asked %q", dialect, asked)
			}
		}
		if strings.Contains(asked, "password") != (dialect == "openstack") {
			t.Errorf("%s: a password: %q", dialect, asked)
		}
	}
}

// What only shows while it runs.
func TestDoctorRunning(t *testing.T) {
	t.Parallel()
	t.Run("a server for all machines", func(t *testing.T) {
		t.Parallel()
		if runtime.GOOS != "linux" {
			t.Skip("it can be looked at on Linux only")
		}
		server := harness.NewUpstreamAt(t, "0.0.0.0:0", careful)
		e := prepareExamined(t, careful, "", nil)
		port := server.Address[strings.LastIndex(server.Address, ":"):]
		e.edit(t, "Caddyfile", e.upstream.Address, "127.0.0.1"+port)
		e.Run(e.address)
		report, _, output := e.doctor(t, "--skip", policyChecks)
		if !report.has("upstream_listens_widely", port) {
			t.Errorf("not found\n%s", output)
		}
	})
	t.Run("an open socket", func(t *testing.T) {
		t.Parallel()
		e := examine(t, careful, "", nil)
		socket := strings.TrimPrefix(e.admin.Address, "unix/")
		if err := os.Chmod(socket, 0o666); err != nil {
			t.Fatal(err)
		}
		report, _, output := e.doctor(t, "--skip", policyChecks)
		if !report.has("admin_socket", "mode 0666") {
			t.Errorf("not found\n%s", output)
		}
	})
	t.Run("another configuration", func(t *testing.T) {
		t.Parallel()
		e := examine(t, careful, "", nil)
		e.edit(t, "Caddyfile", "grace_period 30s", "grace_period 31s")
		report, _, output := e.doctor(t, "--config", "Caddyfile", "--skip", policyChecks)
		if !report.has("config_differs", "another configuration") {
			t.Errorf("not found\n%s", output)
		}
	})
	t.Run("something else at the site", func(t *testing.T) {
		t.Parallel()
		e := prepareExamined(t, careful, "", nil)
		e.edit(t, "Caddyfile", "http://:", "http://metadata.internal:")
		e.Run(e.address)
		report, _, output := e.doctor(t, "--skip", policyChecks)
		if !report.has("guard_absent", e.address) || !report.has("site_host", "") {
			t.Errorf("not found\n%s", output)
		}
	})
	t.Run("another time", func(t *testing.T) {
		t.Parallel()
		e := examine(t, func(string) string {
			return "HTTP/1.1 403 X\r\nDate: Mon, 02 Jan 2006 15:04:05 GMT\r\nContent-Length: 0\r\n\r\n"
		}, "", nil)
		report, _, output := e.doctor(t, "--skip", policyChecks)
		if !report.has("clock_off", "behind this host's") {
			t.Errorf("not found\n%s", output)
		}
	})
	t.Run("a proxy's word", func(t *testing.T) {
		t.Parallel()
		// A header that a site sets before the guard: the guard sees another address.
		e := prepareExamined(t, func(request string) string {
			if strings.Contains(request, "127.0.0.2") {
				return dated(200, unseen)
			}
			return careful(request)
		}, "", nil)
		e.edit(t, "Caddyfile", "inventory.json", "inventory.json {\n\t\t\taddress client_ip\n\t\t}")
		e.edit(t, "Caddyfile", "servers {", "servers {\n\t\ttrusted_proxies static 127.0.0.0/8\n\t\ttrusted_proxies_strict")
		e.Run(e.address)
		report, _, output := e.doctor(t, "--skip", policyChecks)
		if report.has("guard_believes", "") || !report.has("client_ip_address", "") || !strings.Contains(output, "X-Forwarded-For is meant to count here") {
			t.Errorf("%q\n%s", report.found(), output)
		}
	})
	t.Run("a policy that broke", func(t *testing.T) {
		t.Parallel()
		e := examine(t, careful, "\t\tpolicy policy\n", nil)
		e.Write("policy/team.rego", "package metaguard.team\n\nallow contains")
		e.Eventually("the broken policy is noticed", func() bool {
			return strings.Contains(e.admin.Get(t, "/metaguard/policies"), `"last_error"`)
		})
		report, _, output := e.doctor(t)
		if !report.has("policy_stale", "cannot be loaded") {
			t.Errorf("not found\n%s", output)
		}
	})
	t.Run("a policy that accepts", func(t *testing.T) {
		t.Parallel()
		e := examine(t, careful, "\t\tpolicy policy\n", map[string]string{
			"policy/team.rego": "package metaguard.team\n\nallow contains \"own\" if {\n\tinput.resource.kind == \"password\"\n\tdata.metaguard.own\n}\n",
			"policy/data.json": `{"metaguard": {"settings": {"accept": ["password:read by own"]}}}`,
		})
		report, _, output := e.doctor(t)
		if !report.has("policy_accepts", "the running policy") || !report.has("policy_accepts", "password:read by own") {
			t.Errorf("not found\n%s", output)
		}
	})
	t.Run("a candidate", func(t *testing.T) {
		t.Parallel()
		e := examine(t, careful, "\t\tpolicy {\n\t\t\tcandidate policy\n\t\t}\n", nil)
		report, _, output := e.doctor(t)
		if !report.has("policy_candidate", "as it is since 20") {
			t.Errorf("not found\n%s", output)
		}
	})
	t.Run("admin off", func(t *testing.T) {
		t.Parallel()
		e := prepareExamined(t, careful, "", nil)
		e.edit(t, "Caddyfile", "admin "+e.admin.Listen, "admin off")
		e.Run(e.address)
		report, code, output := doctor(t, e.Process, "--live", "--config", "Caddyfile", "--skip", policyChecks)
		if code != 2 || len(report.Findings) > 0 || !strings.Contains(output, "its admin API is off") {
			t.Errorf("%d\n%s", code, output)
		}
	})
}

// The secrets of the running server are looked at where it has them, in its own
// environment, and are not shown.
func TestDoctorRunningSecrets(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("it can be looked at on Linux only")
	}
	const short = "fourteen-bytes"
	e := prepareExamined(t, careful, "", nil)
	e.edit(t, "Caddyfile", "identify remote_ip", "identify neutron {\n\t\t\tsecret {env.METAGUARD_TEST_SECRET}\n\t\t}\n\t\tidentify remote_ip")
	e.Setenv("METAGUARD_TEST_SECRET", short)
	e.Run(e.address)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	command := exec.CommandContext(ctx, harness.Binary(t), "doctor", "--json", "--address", e.admin.Address, "--skip", hostChecks+","+policyChecks)
	command.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + e.Dir}
	output, err := command.Output()
	var report doctorReport
	if json.Unmarshal(output, &report) != nil || exitCode(err) != 1 || !report.has("secret_weak", "shorter than 16 bytes") || !report.has("secret_environment", "METAGUARD_TEST_SECRET") {
		t.Errorf("%v\n%s", err, output)
	}
	if strings.Contains(string(output), short) {
		t.Errorf("the secret is shown:\n%s", output)
	}
	// The state lies where the server's environment says.
	if err := os.Chmod(filepath.Join(e.Data, "caddy"), 0o777); err != nil {
		t.Fatal(err)
	}
	command = exec.CommandContext(ctx, harness.Binary(t), "doctor", "--json", "--address", e.admin.Address, "--skip", hostChecks+","+policyChecks)
	command.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + e.Dir}
	output, _ = command.Output()
	if json.Unmarshal(output, &report) != nil || !slices.Contains(report.found(), "state_writable "+filepath.Join(e.Data, "caddy")) {
		t.Errorf("%s", output)
	}
}
