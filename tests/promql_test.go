// SPDX-License-Identifier: Apache-2.0

package tests

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/metaguard/metaguard/module/decision"
)

// scrape is what one scrape has: the labels of every metric, and their values.
type scrape map[string]map[string][]string

var sampleLine = regexp.MustCompile(`^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? \S+$`)

func parsePage(t *testing.T, page string) scrape {
	t.Helper()
	found := make(scrape)
	for line := range strings.Lines(page) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		match := sampleLine.FindStringSubmatch(line)
		if match == nil {
			t.Fatalf("no sample: %q", line)
		}
		if found[match[1]] == nil {
			found[match[1]] = make(map[string][]string)
		}
		for _, label := range regexp.MustCompile(`(\w+)="((?:[^"\\]|\\.)*)"`).FindAllStringSubmatch(match[2], -1) {
			found[match[1]][label[1]] = append(found[match[1]][label[1]], label[2])
		}
	}
	return found
}

// closedLabels are the labels of which all values are known.
func closedLabels() map[string][]string {
	closed := map[string][]string{
		"verdict": {"allow", "deny", "would_deny"},
		"outcome": {
			"forwarded", "streamed", "answered", "empty", "refused", "failed", "aborted", "panic",
			"accepted", "already_set", "unsent", "unknown",
		},
		"resource": {"listing", "metadata", "password", "userdata", "vendordata", "network", "credentials", "token", "health", "unknown"},
		"result":   {"ok", "failed", "same", "different", "dropped", "conflict", "hit", "miss", "corrupt", "timeout", "identified", "cached", "answered"},
		"mode":     {"enforce", "audit"},
	}
	for _, reason := range decision.Reasons() {
		closed["reason"] = append(closed["reason"], string(reason))
		closed["result"] = append(closed["result"], string(reason))
	}
	return closed
}

var (
	quoted   = regexp.MustCompile(`"(?:[^"\\]|\\.)*"`)
	selector = regexp.MustCompile(`([a-zA-Z_:][\w:]*)\s*\{([^}]*)\}`)
	matcher  = regexp.MustCompile(`(\w+)\s*(=~|!~|!=|=)\s*"((?:[^"\\]|\\.)*)"`)
	grouping = regexp.MustCompile(`\b(by|on|without|ignoring|group_left|group_right)\s*\(([^)]*)\)`)
	ranges   = regexp.MustCompile(`\[[^\]]*\]`)
	duration = regexp.MustCompile(`\b\d+[smhdwy]\b`)
	word     = regexp.MustCompile(`[a-zA-Z_:][\w:]*\s*\(?`)
	literal  = regexp.MustCompile(`[a-z_]{2,}`)
	keywords = []string{"and", "or", "unless", "bool", "offset", "by", "on"}
)

// check tells of every metric and label in a query that the scrape does not have,
// and of every word that a label of a closed set never is.
func (s scrape) check(t *testing.T, query string) {
	t.Helper()
	if variable, found := strings.CutPrefix(query, "label_values("); found { // Grafana's own
		query, _, _ = strings.Cut(variable, ", ")
	}
	closed := closedLabels()
	for _, found := range selector.FindAllStringSubmatch(query, -1) {
		for _, condition := range matcher.FindAllStringSubmatch(found[2], -1) {
			label, value := condition[1], condition[3]
			if !s.has(found[1], label) {
				t.Errorf("%s has no label %s, in %s", found[1], label, query)
			}
			for _, part := range literal.FindAllString(value, -1) {
				known, is := closed[label]
				if is && !slices.ContainsFunc(known, func(word string) bool { return strings.Contains(word, part) }) {
					t.Errorf("%s is never %q, in %s", label, part, query)
				}
			}
		}
	}
	bare := quoted.ReplaceAllString(query, `""`)
	var names []string
	rest := selector.ReplaceAllString(bare, "$1 ")
	for _, group := range grouping.FindAllStringSubmatch(rest, -1) {
		names = append(names, regexp.MustCompile(`\w+`).FindAllString(group[2], -1)...)
	}
	rest = grouping.ReplaceAllString(rest, " ")
	rest = duration.ReplaceAllString(ranges.ReplaceAllString(rest, " "), " ")
	metrics := 0
	for _, name := range word.FindAllString(rest, -1) {
		name = strings.TrimSpace(name)
		if strings.HasSuffix(name, "(") || slices.Contains(keywords, name) {
			continue
		}
		metrics++
		if s[name] == nil {
			t.Errorf("there is no metric %s, in %s", name, query)
		}
	}
	if metrics == 0 {
		t.Errorf("no metric in %s", query)
	}
	for _, name := range names {
		if !s.anyHas(bare, name) {
			t.Errorf("no metric has the label %s, in %s", name, query)
		}
	}
}

// has tells whether a metric has a label. Prometheus adds the one by which it tells
// targets apart.
func (s scrape) has(metric, label string) bool {
	return label == "instance" || s[metric][label] != nil
}

func (s scrape) anyHas(query, label string) bool {
	for metric := range s {
		if strings.Contains(query, metric) && s.has(metric, label) {
			return true
		}
	}
	return false
}

// record adds the metric that a recording rule makes, with the labels of what it is
// made of.
func (s scrape) record(t *testing.T, r rule) {
	t.Helper()
	for metric, labels := range s {
		if regexp.MustCompile(`\b` + metric + `\b`).MatchString(r.Expr) {
			s[r.Record] = maps.Clone(labels)
		}
	}
	if s[r.Record] == nil {
		t.Errorf("%s is made of nothing: %s", r.Record, r.Expr)
	}
}

// rule is an alert, or records a series.
type rule struct {
	Alert, Record, Expr string
	Labels, Annotations map[string]string
}

func readRules(t *testing.T) (all []rule) {
	t.Helper()
	var file struct{ Groups []struct{ Rules []rule } }
	if err := yaml.Unmarshal([]byte(shippedFile(t, "observability/alerts.yaml")), &file); err != nil {
		t.Fatal(err)
	}
	for _, group := range file.Groups {
		all = append(all, group.Rules...)
	}
	if len(all) < 15 {
		t.Fatalf("%d rules", len(all))
	}
	return all
}

// readRuleTests lists the names of promtool's tests.
func readRuleTests(t *testing.T) (names []string) {
	t.Helper()
	text, err := os.ReadFile("observability/alerts_test.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ Tests []struct{ Name string } }
	if err := yaml.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	for _, test := range file.Tests {
		names = append(names, test.Name)
	}
	return names
}

// dashboard is what is looked at of Grafana's format.
type dashboard struct {
	Panels []struct {
		ID                       int
		Type, Title, Description string
		Datasource               struct{ UID string }
		GridPos                  struct{ X, Y, W, H int }
		Targets                  []struct{ Expr, RefID string }
	}
	Templating struct {
		List []struct{ Name, Type, Definition string }
	}
	UID           string
	SchemaVersion int
}

func readDashboard(t *testing.T) (d dashboard) {
	t.Helper()
	if err := json.Unmarshal([]byte(shippedFile(t, "observability/dashboard.json")), &d); err != nil {
		t.Fatal(err)
	}
	return d
}

// grafanaVariable stands in queries for what is chosen in the dashboard.
var grafanaVariable = regexp.MustCompile(`\[\$__rate_interval\]`)

func (d dashboard) queries() (all []string) {
	for _, panel := range d.Panels {
		for _, target := range panel.Targets {
			all = append(all, grafanaVariable.ReplaceAllString(target.Expr, "[5m]"))
		}
	}
	for _, variable := range d.Templating.List {
		if variable.Type == "query" {
			all = append(all, variable.Definition)
		}
	}
	return all
}

// The dashboard is well formed: every panel has an id, a place, a data source that
// the viewer chooses, and says what it shows.
func TestDashboard(t *testing.T) {
	t.Parallel()
	d := readDashboard(t)
	if len(d.Panels) < 40 || d.UID == "" || d.SchemaVersion < 39 {
		t.Fatalf("%d panels, uid %q, schema %d", len(d.Panels), d.UID, d.SchemaVersion)
	}
	ids, places := make(map[int]bool), make(map[[2]int]string)
	for _, panel := range d.Panels {
		if panel.ID == 0 || ids[panel.ID] || panel.Title == "" {
			t.Errorf("%q: id %d", panel.Title, panel.ID)
		}
		ids[panel.ID] = true
		at := panel.GridPos
		for x := at.X; x < at.X+at.W; x++ {
			for y := at.Y; y < at.Y+at.H; y++ {
				if other := places[[2]int{x, y}]; other != "" || x >= 24 {
					t.Fatalf("%q stands where %q does, or outside", panel.Title, other)
				}
				places[[2]int{x, y}] = panel.Title
			}
		}
		if panel.Type == "row" {
			continue
		}
		if panel.Datasource.UID != "${datasource}" || len(panel.Description) < 10 || len(panel.Targets) == 0 {
			t.Errorf("%q: data source %q, description %q, %d queries", panel.Title, panel.Datasource.UID, panel.Description, len(panel.Targets))
		}
		for _, target := range panel.Targets {
			if !strings.Contains(target.Expr, "$instance") {
				t.Errorf("%q does not heed the chosen instances: %s", panel.Title, target.Expr)
			}
		}
	}
	var variables []string
	for _, variable := range d.Templating.List {
		variables = append(variables, variable.Name)
	}
	if !slices.Equal(variables, []string{"datasource", "instance", "site"}) {
		t.Errorf("variables %q", variables)
	}
}

// readmeSection is a section of the README, up to the next heading.
func readmeSection(t *testing.T, heading string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(text), "\n"+heading+"\n")
	if !found {
		t.Fatalf("the README has no %s", heading)
	}
	section, _, _ = strings.Cut(section, "\n#")
	return section
}

var codeSpan = regexp.MustCompile("`([^`]+)`")

// readmeQueries are the queries in the README.
func readmeQueries(t *testing.T) (queries []string) {
	t.Helper()
	for _, span := range codeSpan.FindAllStringSubmatch(readmeSection(t, "### Questions and queries"), -1) {
		if strings.Contains(span[1], "caddy_metaguard_") {
			queries = append(queries, strings.ReplaceAll(span[1], `\|`, "|"))
		}
	}
	return queries
}

// checkMetricsTable holds the README's table of metrics against a scrape: all of
// them, with all of their labels.
func checkMetricsTable(t *testing.T, scraped scrape) {
	t.Helper()
	described := make(map[string]string)
	for line := range strings.Lines(readmeSection(t, "### Metrics")) {
		cells := strings.Split(line, "|")
		if len(cells) < 4 || !strings.Contains(cells[1], "`caddy_metaguard_") {
			continue
		}
		for _, name := range codeSpan.FindAllStringSubmatch(cells[1], -1) {
			labels := strings.Fields(strings.Trim(strings.TrimSpace(cells[2]), "`"))
			slices.Sort(labels)
			described[name[1]] = strings.Join(labels, " ")
		}
	}
	found := make(map[string]string)
	for name, labels := range scraped {
		if !strings.HasPrefix(name, "caddy_metaguard_") {
			continue
		}
		for _, suffix := range []string{"_bucket", "_sum", "_count"} {
			if base, cut := strings.CutSuffix(name, suffix); cut && scraped[base+"_bucket"] != nil {
				name = base
			}
		}
		names := slices.DeleteFunc(slices.Sorted(maps.Keys(labels)), func(label string) bool { return label == "le" })
		found[name] = strings.Join(names, " ")
	}
	for name, labels := range found {
		if got, ok := described[name]; !ok || got != labels {
			t.Errorf("%s has the labels %q, and in the README %q", name, labels, got)
		}
	}
	for name := range described {
		if _, ok := found[name]; !ok {
			t.Errorf("the README has %s, which nothing says", name)
		}
	}
}
