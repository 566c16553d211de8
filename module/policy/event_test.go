// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/metaguard/metaguard/module/decision"
)

// logSink takes what OPA's decision log uploads.
type logSink struct {
	*httptest.Server
	mu     sync.Mutex
	down   bool
	events []map[string]any
}

func newLogSink(t testing.TB) *logSink {
	t.Helper()
	s := &logSink{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.down {
			http.Error(w, "down", http.StatusServiceUnavailable)
			return
		}
		var events []map[string]any
		unzipped, err := gzip.NewReader(r.Body)
		if err == nil {
			err = json.NewDecoder(unzipped).Decode(&events)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		s.events = append(s.events, events...)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *logSink) received() []map[string]any {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]map[string]any(nil), s.events...)
}

func logConfig(t testing.TB, url, decisionLogs string) string {
	t.Helper()
	path := t.TempDir() + "/opa.yaml"
	write(t, path, "services:\n  s:\n    url: "+url+"\nlabels:\n  region: east\ndecision_logs:\n  service: s\n"+decisionLogs)
	return path
}

// An event holds all that it takes to decide again, exactly.
func TestEventDecidesAgain(t *testing.T) {
	root := dir(t, files{"team.rego": `package metaguard.team

allow contains sprintf("%d_%s_%d", [time.now_ns(), uuid.rfc4122("x"), rand.intn("y", 1000000)]) if input.resource.kind == "unknown"
`})
	e := engine(t, Config{Paths: []string{root}})
	first := e.Decide(t.Context(), instance(decision.KindUnknown, decision.Read))
	if first.Reason != decision.PolicyAllow || len(first.Answers) == 0 {
		t.Fatalf("%+v", first)
	}
	event, err := e.Record(t.Context(), &first, About{ID: "id-1", RequestedBy: "10.0.0.5", Verdict: "allow", Mode: "enforce"})
	if err != nil {
		t.Fatal(err)
	}
	line, err := json.Marshal(event)
	if err != nil {
		t.Fatal(err)
	}
	var read struct {
		ID        string          `json:"decision_id"`
		Revision  string          `json:"revision"`
		Path      string          `json:"path"`
		Input     json.RawMessage `json:"input"`
		Answers   json.RawMessage `json:"nd_builtin_cache"`
		Timestamp time.Time       `json:"timestamp"`
		Custom    map[string]map[string]any
	}
	if err := json.Unmarshal(line, &read); err != nil {
		t.Fatalf("%v in %s", err, line)
	}
	input, err := ast.ValueFromReader(strings.NewReader(string(read.Input)))
	if err != nil {
		t.Fatal(err)
	}
	if input.Compare(first.Input()) != 0 {
		t.Errorf("input %v, was %v", input, first.Input())
	}
	recorded, err := ast.ValueFromReader(bytes.NewReader(read.Answers))
	if err != nil {
		t.Fatal(err)
	}
	answers, err := AnswersOf(recorded)
	if err != nil {
		t.Fatal(err)
	}
	again := e.Policy().Judge(t.Context(), Query{Input: input, Time: read.Timestamp, Answers: answers})
	if !reflect.DeepEqual(again.Decision, first.Decision) || again.Reason != first.Reason {
		t.Errorf("%v %v, was %v", again.Reason, again.Decision, first.Decision)
	}
	custom := read.Custom["metaguard"]
	if read.ID != "id-1" || read.Revision != first.Revision || read.Path != DefaultEntrypoint || custom["verdict"] != "allow" || custom["reason"] != "policy_allow" ||
		!reflect.DeepEqual(custom["rules"], []any{root + "/team.rego:3"}) {
		t.Errorf("%s", line)
	}
}

// Events reach OPA's log service, dropped and masked by its own rules.
func TestEventsReachTheService(t *testing.T) {
	sink := newLogSink(t)
	root := dir(t, files{
		"team.rego": "package metaguard.team\n\ndeny contains \"x\" if input.resource.kind == \"token\"\n",
		"log.rego":  "package system.log\n\nmask contains \"/input/request/headers/user-agent\"\n\ndrop if input.input.resource.kind == \"health\"\n",
	})
	e := remoteEngine(t, Config{Paths: []string{root}, OPA: logConfig(t, sink.URL, "  reporting:\n    min_delay_seconds: 0\n    max_delay_seconds: 0\n")})
	for i, kind := range []decision.Kind{decision.KindMetadata, decision.KindHealth, decision.KindUserdata} {
		result := e.Decide(t.Context(), instance(kind, decision.Read))
		event, err := e.Record(t.Context(), &result, About{ID: string(rune('a' + i))})
		if err != nil {
			t.Fatal(err)
		}
		if dropped := kind == decision.KindHealth; (event == nil) != dropped {
			t.Errorf("%s: %v", kind, event)
		}
		if event == nil {
			continue
		}
		line, err := json.Marshal(event)
		if err != nil || strings.Contains(string(line), "Cloud-Init") || !strings.Contains(string(line), `"region":"east"`) {
			t.Errorf("%v %s", err, line)
		}
	}
	eventually(t, "the events arrive", func() bool { return len(sink.received()) == 2 })
	for _, event := range sink.received() {
		line, err := json.Marshal(event)
		if err != nil || strings.Contains(string(line), "Cloud-Init") || !strings.Contains(string(line), `"erased":["/input/request/headers/user-agent"]`) {
			t.Errorf("%v %s", err, line)
		}
	}
	// Rules for OPA itself follow their file.
	write(t, root+"/log.rego", "package system.log\n\nmask contains \"/input/request/host\"\n")
	eventually(t, "the edited mask is in force", func() bool {
		e.reload(t.Context())
		result := e.Decide(t.Context(), instance(decision.KindMetadata, decision.Read))
		event, err := e.Record(t.Context(), &result, About{ID: "later"})
		return err == nil && reflect.DeepEqual(event.Erased, []string{"/input/request/host"})
	})
}

// While the service is away the buffer is bounded: the oldest events are
// dropped and counted, or, where that is chosen, nothing more is decided.
func TestLogFull(t *testing.T) {
	const room = 20
	for _, refuse := range []bool{false, true} {
		sink := newLogSink(t)
		sink.down = true
		e := remoteEngine(t, Config{RefuseUnlogged: refuse, OPA: logConfig(t, sink.URL,
			"  reporting:\n    buffer_size_limit_events: 20\n    min_delay_seconds: 3600\n    max_delay_seconds: 3600\n")})
		result := e.Decide(t.Context(), instance(decision.KindMetadata, decision.Read))
		var (
			all    sync.WaitGroup
			mu     sync.Mutex
			full   int
			passed int
		)
		for range 8 {
			all.Go(func() {
				mine := result // whose input is made when it is asked for
				for range room {
					_, err := e.Record(t.Context(), &mine, About{ID: "x"})
					mu.Lock()
					switch {
					case errors.Is(err, ErrLogFull):
						full++
					case err != nil:
						t.Error(err)
					default:
						passed++
					}
					mu.Unlock()
				}
			})
		}
		all.Wait()
		// The first upload may have taken what was there, once or twice.
		dropped := e.DroppedEvents()["buffer_full"]
		if refuse && (full == 0 || dropped != 0 || passed > 3*room) {
			t.Errorf("refuse: %d passed, %d refused, %d dropped", passed, full, dropped)
		}
		if !refuse && (full != 0 || dropped < 5*room) {
			t.Errorf("drop: %d passed, %d refused, %d dropped", passed, full, dropped)
		}
	}
}

// A configuration of OPA that cannot work is refused with its file and line, and
// what it holds is not shown.
func TestOPAConfigRefused(t *testing.T) {
	t.Setenv("METAGUARD_TEST_TOKEN", "planted-credential")
	for name, test := range map[string]struct{ text, want string }{
		"not YAML":         {"services: [\n", "not YAML or JSON"},
		"a list":           {"- a\n", "must be an object"},
		"misspelt":         {"services: {}\nbundels: {}\n", `opa.yaml:2: OPA's configuration has no bundels (did you mean "bundles"?)`},
		"a server":         {"services: {}\n\nserver: {}\n", "opa.yaml:3: server means nothing here"},
		"the old bundle":   {"bundle: {}\n", "write `bundles`"},
		"own plugins":      {"plugins: {x: {}}\n", "not part of this binary"},
		"no such service":  {"bundles: {team: {service: other, resource: x}}\n", "other"},
		"unknown option":   {"services: {s: {url: 'http://localhost'}}\nbundles: {team: {service: s, resouce: x}}\n", "bundles.team.resouce"},
		"no variable":      {"services:\n  s:\n    url: ${METAGUARD_TEST_NOT_SET}\n", "opa.yaml:3: the environment has no variable METAGUARD_TEST_NOT_SET"},
		"too large":        {"services: {s: {url: 'http://localhost'}}\nbundles: {team: {service: s, size_limit_bytes: 1000000000}}\n", "size_limit_bytes"},
		"no bound":         {"services: {s: {url: 'http://localhost'}}\ndecision_logs: {service: s, reporting: {buffer_type: size}}\n", "buffer_size_limit_bytes is missing"},
		"both":             {"services: {s: {url: 'http://localhost'}}\ndiscovery: {service: s, resource: d}\nbundles: {team: {service: s}}\n", "discovery"},
		"two credentials":  {"services: {s: {url: 'http://localhost', credentials: {bearer: {token: '${METAGUARD_TEST_TOKEN}'}, client_tls: {cert: a, private_key: b}}}}\n", "credentials"},
		"a broken service": {"services: {s: {url: '${METAGUARD_TEST_TOKEN}', credentials: 7}}\n", "services.s"},
		"a broken key":     {"keys: {k: {algorithm: '${METAGUARD_TEST_TOKEN}', key: '${METAGUARD_TEST_TOKEN}'}}\n", "key"},
	} {
		t.Run(name, func(t *testing.T) {
			path := t.TempDir() + "/opa.yaml"
			write(t, path, test.text)
			_, err := New(t.Context(), Config{OPA: path})
			if err == nil {
				t.Fatal("loaded")
			}
			if !strings.Contains(err.Error(), test.want) {
				t.Errorf("want %q in %v", test.want, err)
			}
			if strings.Contains(err.Error(), "planted-credential") {
				t.Errorf("the error shows a credential: %v", err)
			}
		})
	}
}

// A credential comes from the environment, goes to the service, and nowhere
// else.
func TestCredentialFromTheEnvironment(t *testing.T) {
	t.Setenv("METAGUARD_TEST_TOKEN", "planted-credential")
	s := newBundleServer(t)
	s.put("team.tar.gz", teamBundle(t, "r1", "userdata"))
	path := t.TempDir() + "/opa.yaml"
	write(t, path, "services:\n  s:\n    url: "+s.URL+"\n    credentials:\n      bearer:\n        token: ${METAGUARD_TEST_TOKEN}\nbundles:\n  team:\n    service: s\n    resource: team.tar.gz\n")
	var (
		mu    sync.Mutex
		lines []string
	)
	e := remoteEngine(t, Config{OPA: path}, WithLog(func(level, message string, fields map[string]any) {
		line, _ := json.Marshal([]any{level, message, fields})
		mu.Lock()
		defer mu.Unlock()
		lines = append(lines, string(line))
	}))
	if r := e.Decide(t.Context(), instance(decision.KindUserdata, decision.Read)); r.Reason != decision.PolicyDeny {
		t.Fatalf("%+v", r)
	}
	s.mu.Lock()
	token := s.tokens[0]
	s.mu.Unlock()
	if token != "Bearer planted-credential" {
		t.Errorf("%q was sent", token)
	}
	status, err := json.Marshal(e.Status())
	if err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	if shown := strings.Join(lines, "\n") + string(status) + e.Key(); strings.Contains(shown, "planted-credential") || len(lines) == 0 {
		t.Errorf("%s", shown)
	}
}
