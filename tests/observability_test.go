// SPDX-License-Identifier: Apache-2.0

package tests

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"go.yaml.in/yaml/v3"

	"github.com/metaguard/metaguard/tests/harness"
)

// observability is the folder with the dashboard and the rules.
const observability = caddyfiles + "/observability"

// What is scraped after traffic of every kind is well named and documented, and has
// all that the dashboard and the rules ask for.
func TestObservability(t *testing.T) {
	t.Parallel()
	page := scrapeOfEverything(t)
	scraped := parsePage(t, page)

	t.Run("names", func(t *testing.T) {
		problems, err := promlint.New(strings.NewReader(ours(page))).Lint()
		if err != nil {
			t.Fatal(err)
		}
		for _, problem := range problems {
			t.Errorf("%s: %s", problem.Metric, problem.Text)
		}
	})
	t.Run("promtool", func(t *testing.T) {
		promtool := needPromtool(t)
		command := exec.Command(promtool, "check", "metrics")
		command.Stdin = strings.NewReader(page)
		if output, err := command.CombinedOutput(); err != nil {
			t.Errorf("promtool check metrics: %v\n%s", err, output)
		}
	})
	t.Run("README", func(t *testing.T) { checkMetricsTable(t, scraped) })
	t.Run("dashboard", func(t *testing.T) {
		for _, query := range readDashboard(t).queries() {
			scraped.check(t, query)
		}
	})
	t.Run("rules", func(t *testing.T) {
		rules := readRules(t)
		for _, rule := range rules {
			if rule.Record != "" {
				scraped.record(t, rule)
			}
		}
		for _, rule := range rules {
			scraped.check(t, rule.Expr)
		}
	})
	t.Run("queries", func(t *testing.T) {
		queries := readmeQueries(t)
		if len(queries) < 15 {
			t.Fatalf("%d queries in the README", len(queries))
		}
		for _, query := range queries {
			scraped.check(t, query)
		}
	})
}

// The rules are right for Prometheus, and each alert fires when it should and not
// otherwise.
func TestAlertRules(t *testing.T) {
	t.Parallel()
	t.Run("texts and tests", func(t *testing.T) {
		tests := readRuleTests(t)
		for _, rule := range readRules(t) {
			if rule.Record != "" {
				continue
			}
			if !slices.Contains([]string{"critical", "warning", "info"}, rule.Labels["severity"]) {
				t.Errorf("%s: severity %q", rule.Alert, rule.Labels["severity"])
			}
			for _, text := range []string{"summary", "description", "action"} {
				if len(rule.Annotations[text]) < 20 {
					t.Errorf("%s: %s %q", rule.Alert, text, rule.Annotations[text])
				}
			}
			for _, kind := range []string{" fires", " stays silent"} {
				if !slices.ContainsFunc(tests, func(name string) bool { return strings.HasPrefix(name, rule.Alert+kind) }) {
					t.Errorf("no test in which %s%s", rule.Alert, kind)
				}
			}
		}
	})
	t.Run("every query", func(t *testing.T) {
		promtool := needPromtool(t)
		type recorded struct {
			Record string `yaml:"record"`
			Expr   string `yaml:"expr"`
		}
		var rules []recorded
		for i, query := range append(readDashboard(t).queries(), readmeQueries(t)...) {
			if !strings.HasPrefix(query, "label_values(") {
				rules = append(rules, recorded{fmt.Sprint("query:", i), query})
			}
		}
		text, err := yaml.Marshal(map[string]any{"groups": []any{map[string]any{"name": "queries", "rules": rules}}})
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), "queries.yaml")
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
		if output, err := exec.Command(promtool, "check", "rules", file).CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, output)
		}
	})
	for _, arguments := range [][]string{
		{"check", "rules", observability + "/alerts.yaml"},
		{"check", "config", observability + "/prometheus.yaml"},
		{"test", "rules", "observability/alerts_test.yaml"},
	} {
		t.Run("promtool "+strings.Join(arguments[:2], " "), func(t *testing.T) {
			if output, err := exec.Command(needPromtool(t), arguments...).CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, output)
			}
		})
	}
}

// needPromtool is the path of promtool. Where there is none the test is skipped,
// unless METAGUARD_PROMTOOL is "required".
func needPromtool(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("promtool")
	if err == nil {
		return path
	}
	const what = "left out: what promtool says of metrics and rules: there is no promtool; Debian has it in prometheus"
	if os.Getenv("METAGUARD_PROMTOOL") == "required" {
		t.Fatal(what)
	}
	t.Skip(what)
	return ""
}

// The site for Prometheus answers those who are named, with the metrics and nothing
// else.
func TestMetricsSite(t *testing.T) {
	t.Parallel()
	isFormatted(t, harness.New(t, nil), filepath.Join(harness.Root(t), "caddyfiles", "observability", "metrics.caddy"))
	s := prepareSite(t, byAddress, map[string]string{"metrics.caddy": shippedFile(t, "observability/metrics.caddy")})
	port := harness.FreePort(t)
	s.edit(t, "Caddyfile", "http://:", fmt.Sprintf("import metrics.caddy %d 127.0.0.1 127.0.0.1 192.0.2.1\nhttp://:", port))
	s.Run(s.address)
	metrics := fmt.Sprintf("127.0.0.1:%d", port)
	if answer := harness.Raw(t, metrics, "GET /metrics HTTP/1.1\r\nHost: any\r\nConnection: close\r\n\r\n"); answer.Status != 200 || !strings.Contains(answer.Body, "caddy_metaguard_site_info{") {
		t.Errorf("%d %.200q", answer.Status, answer.Body)
	}
	if answer := harness.RawFrom(t, "127.0.0.2", metrics, "GET /metrics HTTP/1.1\r\nHost: any\r\nConnection: close\r\n\r\n"); answer.Status != 403 || answer.Body != "" {
		t.Errorf("another address: %d %.200q", answer.Status, answer.Body)
	}
}

// A site is named by where it listens, and two of one server differ. A reload of the
// same file goes on counting under the same names; a site that it takes away leaves no
// series behind, and one that comes begins at zero.
func TestSitesInMetrics(t *testing.T) {
	t.Parallel()
	s := prepareManaged(t, byAddress, nil)
	port := strings.TrimPrefix(s.address, "127.0.0.1:")
	guard := fmt.Sprintf("\tbind 127.0.0.1\n\tmetaguard {\n\t\tupstream %s\n\t\tdialect openstack\n\t\tidentify remote_ip inventory.json\n\t}\n}\n", s.upstream.Address)
	head, _, _ := strings.Cut(s.read(t, "Caddyfile"), "http://:")
	other := harness.FreePort(t)
	two := head + "http://one.example:" + port + ", http://two.example:" + port + " {\n\tbind 127.0.0.1\n\t@one host one.example\n" +
		"\thandle @one {\n" + strings.Replace(strings.TrimSuffix(guard, "}\n"), "\tbind 127.0.0.1\n", "", 1) + "\t}\n" +
		"\thandle {\n" + strings.Replace(strings.TrimSuffix(guard, "}\n"), "\tbind 127.0.0.1\n", "", 1) + "\t}\n}\n"
	both := two + fmt.Sprintf("http://:%d {\n", other) + guard
	s.Write("Caddyfile", both)
	s.Run(s.address)
	third := fmt.Sprintf("127.0.0.1:%d", other)
	ask := func(address, host string, times int) {
		for range times {
			if answer := harness.Raw(t, address, "GET "+userdataPath+" HTTP/1.1\r\nHost: "+host+"\r\nConnection: close\r\n\r\n"); answer.Status != 200 && answer.Err == nil {
				t.Fatalf("%d %s", answer.Status, answer.Body)
			}
		}
	}
	ask(s.address, "one.example", 1)
	ask(s.address, "two.example", 2)
	ask(third, "m", 3)
	counted := func() map[string]float64 {
		sites := make(map[string]float64)
		for labels, value := range s.admin.Metrics(t, "caddy_metaguard_request_duration_seconds_count") {
			_, rest, _ := strings.Cut(labels, `site="`)
			site, _, _ := strings.Cut(rest, `"`)
			sites[site] = value
		}
		return sites
	}
	wants := func(what string, want map[string]float64) {
		t.Helper()
		s.Eventually(fmt.Sprintf("%s: %v, and not %v", what, want, counted()), func() bool { return fmt.Sprint(counted()) == fmt.Sprint(want) })
	}
	wants("three sites", map[string]float64{s.address: 1, s.address + "#2": 2, third: 3})
	for range 3 {
		if output, err := s.reload(t, "--force"); err != nil {
			t.Fatalf("%v\n%s", err, output)
		}
	}
	wants("after reloads", map[string]float64{s.address: 1, s.address + "#2": 2, third: 3})
	lines := strings.Count(s.admin.Get(t, "/metrics"), "caddy_metaguard_")

	s.Write("Caddyfile", two)
	if output, err := s.reload(t); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	if page := s.admin.Get(t, "/metrics"); strings.Contains(page, third) {
		t.Error("the site that is gone is in the metrics still")
	}
	s.Write("Caddyfile", both)
	if output, err := s.reload(t); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	wants("again", map[string]float64{s.address: 1, s.address + "#2": 2, third: 0})
	if now := strings.Count(s.admin.Get(t, "/metrics"), "caddy_metaguard_"); now > lines {
		t.Errorf("%d lines, and %d before the site had gone and come", now, lines)
	}
}

// scrapeOfEverything runs sites of every kind, sends them what makes all metrics
// appear, and scrapes.
func scrapeOfEverything(t *testing.T) string {
	t.Helper()
	team, tokens := newControl(t), newIssuer(t)
	team.put(t, "r1", "network")
	s := prepareManaged(t, strings.Replace(byBundle, "opa opa.yaml", "opa opa.yaml\n\tcandidate next", 1)+"\nlimit {\nrequests 1000/s\n}", map[string]string{
		"opa.yaml":       team.opa("decision_logs:\n  service: team\n  reporting: {min_delay_seconds: 0, max_delay_seconds: 0}\n"),
		"next/team.rego": "package metaguard.team\n\ndeny contains \"closed\" if input.resource.kind == \"userdata\"\n",
		"keys.json":      tokens.keys,
	})
	identified, audited := harness.FreePort(t), harness.FreePort(t)
	another := func(port int, settings string) string {
		return strings.TrimPrefix(caddyfile(fmt.Sprintf("127.0.0.1:%d", port), s.upstream.Address, settings), caddyfileHead(t))
	}
	s.Write("Caddyfile", s.read(t, "Caddyfile")+
		another(identified, "identify keystone {\nurl "+tokens.keystone+"/v3\n}\nidentify jwt {\nissuer https://issuer.example\naudience metaguard\njwks keys.json\n}")+
		another(audited, "identify remote_ip inventory.json\nsession required\nmode audit"))
	s.Run(s.address)
	s.upstream.Script(func(request string) string {
		if strings.Contains(request, "/meta_data.json ") {
			return harness.OK(`{"admin_pass": "clear", "a": 1}`)
		}
		return harness.OK("")
	})
	s.settles(t, userdataPath, 200)
	s.get(t, "/openstack/latest/meta_data.json")
	s.get(t, "/openstack/latest/network_data.json")
	s.get(t, "/openstack/../latest")
	harness.RawFrom(t, "127.0.0.9", s.address, "GET / HTTP/1.1\r\nHost: m\r\nConnection: close\r\n\r\n")
	for range 2 {
		s.post(t, "", "a password")
	}
	for _, credential := range []string{"X-Auth-Token: " + keystoneToken, "X-Auth-Token: " + keystoneToken, "X-Auth-Token: nobodys", "Authorization: Bearer " + tokens.token} {
		harness.Raw(t, fmt.Sprintf("127.0.0.1:%d", identified), "GET /openstack HTTP/1.1\r\nHost: m\r\nConnection: close\r\n"+credential+"\r\n\r\n")
	}
	harness.Raw(t, fmt.Sprintf("127.0.0.1:%d", audited), "GET "+userdataPath+" HTTP/1.1\r\nHost: m\r\nConnection: close\r\n\r\n")
	s.Eventually("the candidate is compared", func() bool {
		return s.admin.Total(t, "caddy_metaguard_candidate_differences_total") > 0 && s.admin.Total(t, "caddy_metaguard_candidate_decisions_total") > 1
	})
	return s.admin.Get(t, "/metrics")
}

// caddyfileHead is what caddyfile puts before the site.
func caddyfileHead(t *testing.T) string {
	t.Helper()
	head, _, found := strings.Cut(caddyfile("127.0.0.1:1", "", ""), "http://")
	if !found {
		t.Fatal("caddyfile has no site")
	}
	return head
}

// ours is the part of a scrape that is Metaguard's.
func ours(page string) string {
	var b strings.Builder
	for line := range strings.Lines(page) {
		if strings.HasPrefix(strings.TrimPrefix(strings.TrimPrefix(line, "# HELP "), "# TYPE "), "caddy_metaguard_") {
			_, _ = io.WriteString(&b, line)
		}
	}
	return b.String()
}
