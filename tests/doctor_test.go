// SPDX-License-Identifier: Apache-2.0

package tests

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/metaguard/metaguard/tests/harness"
)

// doctorReport is what `doctor --json` prints.
type doctorReport struct {
	LookedAt []string `json:"looked_at"`
	Findings []struct {
		ID, Severity, What, Where, Why, Do string
	}
	NotChecked []struct {
		ID, Where, Why string
		Chosen         bool
	} `json:"not_checked"`
	AdvisoriesAsOf string `json:"advisories_as_of"`
}

// found lists findings as "id where".
func (r doctorReport) found() []string {
	found := []string{}
	for _, f := range r.Findings {
		found = append(found, f.ID+" "+f.Where)
	}
	slices.Sort(found)
	return found
}

// has tells whether there is a finding, whose text holds this.
func (r doctorReport) has(id, text string) bool {
	for _, f := range r.Findings {
		if f.ID == id && strings.Contains(f.Where+" "+f.What, text) {
			return true
		}
	}
	return false
}

// hostChecks depend on the machine that the tests run on.
const hostChecks = "tcp_migrate_req,clock_unsynchronised"

// policyChecks try policies.
const policyChecks = "policy_allows,policy_accepts"

// doctor runs the command in a process's directory. The output is given as it
// was printed, too.
func doctor(t *testing.T, p *harness.Process, args ...string) (report doctorReport, code int, output string) {
	t.Helper()
	output, err := p.Command(append([]string{"doctor", "--json", "--skip", hostChecks}, args...)...)
	code = exitCode(err)
	start := strings.Index(output, "{\n")
	if start < 0 {
		return report, code, output
	}
	if err := json.Unmarshal([]byte(output[start:]), &report); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	return report, code, output
}

// exitCode is the exit code of a command that ended with err; -1 if it did not
// end by itself.
func exitCode(err error) int {
	var ended *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &ended):
		return ended.ExitCode()
	}
	return -1
}

// loggingSnippet is the shipped snippet.
func loggingSnippet(t *testing.T) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(caddyfiles, "logging.caddy"))
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// The lines of the global options and of the guarded site, which the cases
// below change one by one. The numbers of the lines are part of the test.
const (
	cleanOptions = `{
	admin unix//run/metaguard/admin.sock|0600
	persist_config off
	grace_period 30s
	servers {
		timeouts {
			read_header 5s
		}
	}
	log {
		import logging.caddy
	}
}
`
	cleanSite = `http://:8775 {
	metaguard {
		upstream 127.0.0.1:8774
		dialect openstack
		identify remote_ip inventory.json
		deny_status 404
	}
}
`
)

// A configuration gives exactly these findings, where they stand.
func TestDoctorConfig(t *testing.T) {
	t.Parallel()
	with := func(old, instead string) string {
		text := strings.Replace(cleanOptions+cleanSite, old, instead, 1)
		if text == cleanOptions+cleanSite {
			t.Fatalf("%q is not in the clean configuration", old)
		}
		return text
	}
	beside := func(site string) string { return cleanOptions + cleanSite + site }
	for name, test := range map[string]struct {
		text  string
		files map[string]string
		env   []string
		want  []string
	}{
		"clean": {text: cleanOptions + cleanSite},
		"no guard": {
			text: cleanOptions + "http://:80 {\n\tmetrics\n\tbind 127.0.0.1\n}\n", want: []string{"no_guard Caddyfile"},
		},

		"another site to the same address": {
			text: beside("http://:81 {\n\treverse_proxy 127.0.0.1:8774\n}\n"), want: []string{"upstream_elsewhere Caddyfile:23"},
		},
		"localhost": {
			text: beside("http://:81 {\n\treverse_proxy localhost:8774\n}\n"), want: []string{"upstream_elsewhere Caddyfile:23"},
		},
		"IPv6": {
			text: beside("http://:81 {\n\treverse_proxy [::1]:8774\n}\n"), want: []string{"upstream_elsewhere Caddyfile:23"},
		},
		"IPv4 in IPv6": {
			text: beside("http://:81 {\n\treverse_proxy [::ffff:127.0.0.1]:8774\n}\n"), want: []string{"upstream_elsewhere Caddyfile:23"},
		},
		"no host": {
			text: beside("http://:81 {\n\treverse_proxy :8774\n}\n"), want: []string{"upstream_elsewhere Caddyfile:23"},
		},
		"a number": {
			text: beside("http://:81 {\n\treverse_proxy 127.1:8774\n}\n"), want: []string{"upstream_elsewhere Caddyfile:23"},
		},
		"a scheme": {
			text: beside("http://:81 {\n\treverse_proxy http://127.0.0.1:8774\n}\n"), want: []string{"upstream_elsewhere Caddyfile:23"},
		},
		"the default port": {
			text: strings.ReplaceAll(beside("http://:81 {\n\treverse_proxy 10.0.0.9\n}\n"), "upstream 127.0.0.1:8774", "upstream 10.0.0.9:80"),
			want: []string{"upstream_elsewhere Caddyfile:23"},
		},
		"a range": {
			text: beside("http://:81 {\n\treverse_proxy 127.0.0.1:8770-8780\n}\n"), want: []string{"guard_proxied Caddyfile:23", "upstream_elsewhere Caddyfile:23"},
		},
		"a variable of the Caddyfile": {
			text: beside("http://:81 {\n\treverse_proxy {$METAGUARD_TEST_UPSTREAM:127.0.0.1:8774}\n}\n"), want: []string{"upstream_elsewhere Caddyfile:23"},
		},
		"a variable at run time": {
			text: beside("http://:81 {\n\treverse_proxy {env.METAGUARD_TEST_UPSTREAM}\n}\n"), env: []string{"METAGUARD_TEST_UPSTREAM=127.0.0.1:8774"},
			want: []string{"upstream_elsewhere Caddyfile:23"},
		},
		"a variable that is not set": {
			text: beside("http://:81 {\n\treverse_proxy {env.METAGUARD_TEST_UPSTREAM}\n}\n"), want: []string{"destination_unknown Caddyfile:23"},
		},
		"a request chooses": {
			text: beside("http://:81 {\n\treverse_proxy {http.request.host}:80\n}\n"), want: []string{"destination_unknown Caddyfile:23"},
		},
		"PHP": {
			text: beside("http://:81 {\n\tphp_fastcgi 127.0.0.1:8774\n}\n"), want: []string{"upstream_elsewhere Caddyfile:23"},
		},
		"forward_auth": {
			text: beside("http://:81 {\n\tforward_auth 127.0.0.1:8774 {\n\t\turi /\n\t}\n}\n"), want: []string{"upstream_elsewhere Caddyfile:23"},
		},
		"to": {
			text: beside("http://:81 {\n\treverse_proxy {\n\t\tto 127.0.0.1:1 127.0.0.1:8774\n\t}\n}\n"), want: []string{"upstream_elsewhere Caddyfile:24"},
		},
		"an error's route": {
			text: with("\tmetaguard {", "\thandle_errors {\n\t\treverse_proxy 127.0.0.1:8774\n\t}\n\tmetaguard {"), want: []string{"upstream_elsewhere Caddyfile:16"},
		},
		"a named route": {
			text: cleanOptions + "&(around) {\n\treverse_proxy 127.0.0.1:8774\n}\n" + cleanSite + "http://:81 {\n\tinvoke around\n}\n",
			want: []string{"upstream_elsewhere Caddyfile:15"},
		},
		"two ways": {
			text: beside("http://:81 {\n\treverse_proxy 127.0.0.1:8774\n}\nhttp://:82 {\n\thandle /x {\n\t\treverse_proxy localhost:8774\n\t}\n}\n"),
			want: []string{"upstream_elsewhere Caddyfile:23", "upstream_elsewhere Caddyfile:27"},
		},
		"an imported file": {
			text: beside("import more.caddy\n"), files: map[string]string{"more.caddy": "http://:81 {\n\treverse_proxy 127.0.0.1:8774\n}\n"},
			want: []string{"upstream_elsewhere more.caddy:2"},
		},
		"a Unix socket": {
			text: strings.ReplaceAll(beside("http://:81 {\n\treverse_proxy unix//run/./nova.sock\n}\n"), "127.0.0.1:8774", "unix//run/nova.sock"),
			want: []string{"upstream_elsewhere Caddyfile:23"},
		},
		"a name that may be it": {
			text: beside("http://:81 {\n\treverse_proxy nova.internal:8774\n}\n"), want: []string{"upstream_alias Caddyfile:23"},
		},
		"dynamic upstreams": {
			text: beside("http://:81 {\n\treverse_proxy {\n\t\tdynamic a nova.internal 8774\n\t}\n}\n"), want: []string{"destination_unknown Caddyfile:24"},
		},
		"an upstream that is the site itself": {
			text: with("upstream 127.0.0.1:8774", "upstream localhost:8775"), want: []string{"upstream_loop Caddyfile:16"},
		},
		"an upstream that is the site itself, by another address": {
			text: with("http://:8775 {", "http://:8775 {\n\tbind 127.0.0.1 192.0.2.1") + "http://:8776 {\n\tmetaguard {\n\t\tupstream 192.0.2.1:8775\n\t\tdialect openstack\n\t\tidentify remote_ip inventory.json\n\t\tdeny_status 404\n\t}\n}\n",
			want: []string{"upstream_loop Caddyfile:25"},
		},
		"the same port at another address": {
			text: strings.Replace(with("http://:8775 {", "http://:8775 {\n\tbind 192.0.2.1"), "127.0.0.1:8774", "127.0.0.1:8775", 1),
		},
		"the same port at another address of the loopback": {
			text: strings.Replace(with("http://:8775 {", "http://:8775 {\n\tbind 127.0.0.2"), "127.0.0.1:8774", "127.0.0.1:8775", 1),
		},
		"a proxy before the guard": {
			text: beside("http://:81 {\n\treverse_proxy http://127.0.0.1:8775\n}\n"), want: []string{"guard_proxied Caddyfile:23"},
		},
		"a proxy before a guard on a Unix socket": {
			text: with("http://:8775 {", "http:// {\n\tbind unix//run/guard.sock|0600") + "http://:81 {\n\treverse_proxy unix//run/guard.sock\n}\n", want: []string{"guard_proxied Caddyfile:24"},
		},
		"another server": {
			text: beside("http://:81 {\n\treverse_proxy 127.0.0.1:8773\n}\n"),
		},

		"a host": {
			text: with("http://:8775", "http://metadata.internal:8775"), want: []string{"site_host Caddyfile:14"},
		},
		"a host among addresses": {
			text: with("http://:8775", "http://:8775, http://metadata.internal:8776"), want: []string{"site_host Caddyfile:14"},
		},
		"a matcher": {
			text: with("\tmetaguard {", "\thandle /openstack/* {\n\tmetaguard {") + "}\n", want: []string{"guard_matched Caddyfile:16"},
		},
		"a named guard behind a matcher": {
			text: cleanOptions + strings.Replace(cleanSite, "http://:8775", "&(guard)", 1) + "http://:8775 {\n\tinvoke /x guard\n}\n",
			want: []string{"guard_matched Caddyfile:15"},
		},
		"a route beside": {
			text: with("\tmetaguard {", "\trespond /ready 200\n\tmetaguard {"), want: []string{"route_beside Caddyfile:15"},
		},
		"files": {
			text: beside("http://:81 {\n\troot /srv\n\tfile_server\n}\n"), want: []string{"files_served Caddyfile:24"},
		},
		"public metrics": {
			text: beside("http://:81 {\n\tmetrics /metrics\n}\n"), want: []string{"metrics_public Caddyfile:23"},
		},
		"private metrics": {
			text: beside("http://:81 {\n\tbind 127.0.0.1\n\tmetrics /metrics\n}\n"),
		},
		"the faulty server for all": {
			text: beside("http://:81 {\n\tmetaguard_legacy\n}\n"), want: []string{"legacy_public Caddyfile:23"},
		},

		"an upstream that is a public site": {
			text: beside("http://:8774 {\n\treverse_proxy nova.internal:80\n}\n"), want: []string{"upstream_served Caddyfile:22"},
		},
		"an upstream that is a private site": {
			text: beside("http://:8774 {\n\tbind 127.0.0.1\n\treverse_proxy nova.internal:80\n}\n"),
		},
		"a URL with a password": {
			text: beside("http://:81 {\n\treverse_proxy 127.0.0.1:1 {\n\t\theader_up X redis://u:s3cret-of-redis@127.0.0.1:8774/0?password=s3cret-of-redis\n\t}\n}\n"),
			want: []string{"upstream_elsewhere Caddyfile:24"},
		},

		"admin on TCP": {
			text: with("admin unix//run/metaguard/admin.sock|0600", "admin localhost:2019"), want: []string{"admin_tcp Caddyfile:2"},
		},
		"admin by default": {
			text: with("\tadmin unix//run/metaguard/admin.sock|0600\n", ""), want: []string{"admin_tcp Caddyfile"},
		},
		"admin for all": {
			text: with("admin unix//run/metaguard/admin.sock|0600", "admin :2019"), want: []string{"admin_public Caddyfile:2"},
		},
		"admin on an abstract socket": {
			text: with("admin unix//run/metaguard/admin.sock|0600", "admin unix/@metaguard"), want: []string{"admin_public Caddyfile:2"},
		},
		"admin on an open socket": {
			text: with("|0600", "|0666"), want: []string{"admin_public Caddyfile:2"},
		},
		"admin off": {text: with("admin unix//run/metaguard/admin.sock|0600", "admin off")},
		"the configuration is kept": {
			text: with("\tpersist_config off\n", ""), want: []string{"config_persisted Caddyfile"},
		},

		"no log": {
			text: with("\tlog {\n\t\timport logging.caddy\n\t}\n", ""), want: []string{"log_unfiltered Caddyfile"},
		},
		"another format": {
			text: with("import logging.caddy", "format json"), want: []string{"log_unfiltered Caddyfile:10"},
		},
		"half a filter": {
			text: with("import logging.caddy", "format filter {\n\t\t\twrap json\n\t\t\tfields {\n\t\t\t\trequest>headers delete\n\t\t\t}\n\t\t}"), want: []string{"log_unfiltered Caddyfile:10"},
		},
		"an access log": {
			text: with("\tmetaguard {", "\tlog {\n\t\toutput stderr\n\t}\n\tmetaguard {"), want: []string{"log_unfiltered Caddyfile:15"},
		},
		"a filtered access log": {
			text: with("\tmetaguard {", "\tlog {\n\t\timport logging.caddy\n\t}\n\tmetaguard {"),
		},
		"a log of our own lines": {
			text: with("\tlog {", "\tlog events {\n\t\tinclude http.handlers.metaguard.event\n\t}\n\tlog {"),
		},
		"debug": {
			text: with("\tgrace_period", "\tdebug\n\tgrace_period"), want: []string{"log_debug Caddyfile:4"},
		},

		"underscores": {
			text: with("\tservers {", "\tservers {\n\t\texpected_underscore_headers X_Instance_ID"), want: []string{"underscore_headers Caddyfile:6"},
		},
		"no timeout": {
			text: with("\t\t\tread_header 5s\n", "\t\t\tidle 5s\n"), want: []string{"header_timeout Caddyfile"},
		},
		"no grace": {
			text: with("\tgrace_period 30s\n", ""), want: []string{"grace_period Caddyfile"},
		},
		"everybody is a trusted proxy": {
			text: with("\tservers {", "\tservers {\n\t\ttrusted_proxies static 10.2.0.0/0"), want: []string{"trusted_proxies_wide Caddyfile:6"},
		},
		"a network of trusted proxies": {
			text: with("\tservers {", "\tservers {\n\t\ttrusted_proxies static 10.0.0.0/8"),
		},
		"everybody is an agent": {
			text: with("identify remote_ip inventory.json", "identify neutron {\n\t\t\tsecret {env.METAGUARD_TEST_SECRET}\n\t\t\ttrust 0.0.0.0/1 128.0.0.0/1\n\t\t}"),
			env:  []string{"METAGUARD_TEST_SECRET=0123456789abcdef0123456789ABCDEF"},
			want: []string{"neutron_trust_wide Caddyfile:20", "secret_environment Caddyfile"},
		},
		"a proxy's word": {
			text: with("inventory.json", "inventory.json {\n\t\t\taddress client_ip\n\t\t}"), want: []string{"client_ip_address Caddyfile:19"},
		},
		"nobody looks at the certificate": {
			text: with("upstream 127.0.0.1:8774", "upstream https://127.0.0.1:8774 {\n\t\t\ttransport http {\n\t\t\t\ttls_insecure_skip_verify\n\t\t\t}\n\t\t}"),
			want: []string{"upstream_unverified Caddyfile:18"},
		},
		"audit": {
			text: with("\t\tdeny_status 404\n", "\t\tdeny_status 404\n\t\tmode audit\n"), want: []string{"mode_audit Caddyfile:20"},
		},
		"a candidate": {
			text:  with("\t\tdeny_status 404\n", "\t\tdeny_status 404\n\t\tpolicy {\n\t\t\tcandidate candidate\n\t\t}\n"),
			files: map[string]string{"candidate/data.json": "{}"}, want: []string{"policy_candidate Caddyfile:21"},
		},
		"a policy that allows by default": {
			text:  with("\t\tdeny_status 404\n", "\t\tdeny_status 404\n\t\tpolicy policy\n"),
			files: map[string]string{"policy/team.rego": "package metaguard.team\n\nallow contains \"all\" if input.resource.kind == \"password\"\n"}, want: []string{"policy_allows Caddyfile:20"},
		},
		"a policy that accepts what it allows": {
			text: with("\t\tdeny_status 404\n", "\t\tdeny_status 404\n\t\tpolicy policy\n"),
			files: map[string]string{
				"policy/team.rego": "package metaguard.team\n\nallow contains \"own\" if {\n\tinput.resource.kind == \"password\"\n\tdata.metaguard.own\n}\n",
				"policy/data.json": `{"metaguard": {"settings": {"accept": ["password:read by own"]}}}`,
			}, want: []string{"policy_accepts Caddyfile:20"},
		},
		"EC2's clients and 403": {
			text: strings.ReplaceAll(with("deny_status 404", "deny_status 403"), "dialect openstack", "dialect ec2"), want: []string{"deny_status Caddyfile:19"},
		},
		"Azure's clients and 404": {
			text: strings.ReplaceAll(cleanOptions+cleanSite, "dialect openstack", "dialect azure"), want: []string{"deny_status Caddyfile:19"},
		},
		"cloudbase-init and 403": {
			text: with("\t\tdeny_status 404\n", ""), want: []string{"deny_status_cloudbase Caddyfile:15"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			files := map[string]string{"Caddyfile": test.text, "logging.caddy": loggingSnippet(t), "inventory.json": inventory}
			for name, content := range test.files {
				files[name] = content
			}
			p := harness.New(t, files, test.env...)
			args := []string{"--config", "Caddyfile"}
			if !strings.HasPrefix(name, "a policy") { // trying policies takes most of the time
				args = append(args, "--skip", policyChecks)
			}
			report, code, output := doctor(t, p, args...)
			want := append([]string{}, test.want...)
			slices.Sort(want)
			if found := report.found(); !slices.Equal(found, want) {
				t.Errorf("found\n\t%s\nwant\n\t%s\n%s", strings.Join(found, "\n\t"), strings.Join(want, "\n\t"), output)
			}
			if strings.Contains(output, "s3cret-of-redis") {
				t.Errorf("a password is shown:\n%s", output)
			}
			worse := slices.ContainsFunc(report.Findings, func(f struct{ ID, Severity, What, Where, Why, Do string }) bool { return f.Severity != "note" })
			if expected := map[bool]int{true: 1, false: 0}[worse]; code != expected {
				t.Errorf("the exit code is %d, want %d\n%s", code, expected, output)
			}
		})
	}
}

// The shipped Caddyfiles have no problem and no warning; the quickstart has what
// it has on purpose.
func TestDoctorShipped(t *testing.T) {
	t.Parallel()
	for _, file := range shipped(t) {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			file, err := filepath.Abs(file)
			if err != nil {
				t.Fatal(err)
			}
			report, _, output := doctor(t, harness.New(t, nil), "--config", file, "--skip", "file_writable") // a checkout may have any modes
			var bad []string
			for _, f := range report.Findings {
				if f.Severity != "note" {
					bad = append(bad, f.ID)
				}
			}
			var want []string
			if filepath.Base(file) == "quickstart.Caddyfile" {
				want = []string{"admin_tcp"}
			}
			if !slices.Equal(bad, want) {
				t.Errorf("%q, want %q\n%s", bad, want, output)
			}
		})
	}
}

// What could not be looked at is said, and is not taken for clean.
func TestDoctorUnable(t *testing.T) {
	t.Parallel()
	p := harness.New(t, map[string]string{"Caddyfile": cleanOptions + cleanSite, "logging.caddy": loggingSnippet(t), "inventory.json": inventory})
	for name, test := range map[string]struct {
		args []string
		want string
	}{
		"no such file":    {[]string{"--config", "nothing"}, "no such file"},
		"no such check":   {[]string{"--config", "Caddyfile", "--skip", "admin_tc"}, "there is no such check"},
		"no such flag":    {[]string{"--nothing"}, "unknown flag"},
		"an argument":     {[]string{"Caddyfile"}, "unexpected argument"},
		"nothing runs":    {[]string{"--address", "unix//nowhere/admin.sock"}, "nothing to examine"},
		"no address":      {[]string{"--around", "x y"}, "it is no address"},
		"no such dialect": {[]string{"--around", "127.0.0.1:1", "--dialect", "none"}, "dialect none"},
	} {
		if output, err := p.Command(append([]string{"doctor"}, test.args...)...); exitCode(err) != 2 || !strings.Contains(output, test.want) {
			t.Errorf("%s: %v\n%s", name, err, output)
		}
	}
	p.Write("bad.json", "{")
	if output, err := p.Command("doctor", "--config", "bad.json"); exitCode(err) != 2 {
		t.Errorf("%v\n%s", err, output)
	}
	// What is skipped is said too.
	report, code, output := doctor(t, p, "--config", "Caddyfile", "--skip", "admin_tcp")
	if code != 0 || !slices.ContainsFunc(report.NotChecked, func(u struct {
		ID, Where, Why string
		Chosen         bool
	},
	) bool {
		return u.ID == "admin_tcp" && u.Chosen && u.Why == "--skip"
	}) {
		t.Errorf("%d\n%s", code, output)
	}
	// For people it is a line of its own.
	if output, err := p.Command("doctor", "--config", "Caddyfile", "--skip", "admin_tcp"); err != nil || !strings.Contains(output, "not checked: admin_tcp (--skip)\n") || !strings.Contains(output, "0 problems, 0 warnings") {
		t.Errorf("%v\n%s", err, output)
	}
}

// An address that another module has, under whatever name, is found in JSON.
func TestDoctorUnknownHandler(t *testing.T) {
	t.Parallel()
	p := harness.New(t, map[string]string{"Caddyfile": cleanOptions + cleanSite, "logging.caddy": loggingSnippet(t), "inventory.json": inventory})
	adapted, err := p.Command("adapt", "--config", "Caddyfile")
	if err != nil {
		t.Fatal(err, adapted)
	}
	_, adapted, _ = strings.Cut(adapted, `{"admin"`) // after the log
	adapted = `{"admin"` + adapted
	for name, app := range map[string]string{
		"layer4":         `"layer4":{"servers":{"x":{"listen":[":81"],"routes":[{"handle":[{"handler":"proxy","upstreams":[{"dial":["tcp/localhost:8774"]}]}]}]}}},`,
		"another module": `"other":{"forward_to":"http://127.0.0.1:8774/"},`,
	} {
		p.Write("other.json", strings.Replace(adapted, `"apps":{`, `"apps":{`+app, 1))
		report, code, output := doctor(t, p, "--config", "other.json")
		if code != 1 || len(report.Findings) < 1 || report.Findings[0].ID != "upstream_elsewhere" || !strings.HasPrefix(report.Findings[0].Where, "apps.") {
			t.Errorf("%s: %d\n%s", name, code, output)
		}
	}
}
