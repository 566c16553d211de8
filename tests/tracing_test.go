// SPDX-License-Identifier: Apache-2.0

package tests

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	tracev1 "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/metaguard/metaguard/tests/harness"
)

// collector takes traces by OTLP over HTTP.
type collector struct {
	*httptest.Server
	mu    sync.Mutex
	raw   []byte // all that was sent, byte for byte
	spans []*tracev1.Span
}

func newCollector(t *testing.T) *collector {
	t.Helper()
	c := new(collector)
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var data tracev1.TracesData // the same on the wire as an export request
		if err == nil {
			err = proto.Unmarshal(body, &data)
		}
		if err != nil || r.URL.Path != "/v1/traces" {
			http.Error(w, fmt.Sprint(r.URL, err), http.StatusBadRequest)
			return
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.raw = append(c.raw, body...)
		for _, resource := range data.ResourceSpans {
			for _, scope := range resource.ScopeSpans {
				c.spans = append(c.spans, scope.Spans...)
			}
		}
	}))
	t.Cleanup(c.Close)
	return c
}

// trace is Caddy's span of one request and the steps below it.
type trace struct {
	request *tracev1.Span
	steps   []*tracev1.Span
}

// of gives the trace of a decision.
func (c *collector) of(id string) (found trace, complete bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, span := range c.spans {
		if texts(span)["metaguard.decision_id"] == id && !strings.HasPrefix(span.Name, "metaguard.") {
			found.request = span
		}
	}
	if found.request == nil { // it ends last, and so comes last
		return found, false
	}
	for _, span := range c.spans {
		if bytes.Equal(span.ParentSpanId, found.request.SpanId) && bytes.Equal(span.TraceId, found.request.TraceId) {
			found.steps = append(found.steps, span)
		}
	}
	slices.SortStableFunc(found.steps, func(a, b *tracev1.Span) int { return int(a.StartTimeUnixNano) - int(b.StartTimeUnixNano) })
	return found, true
}

func texts(span *tracev1.Span) map[string]string {
	all := make(map[string]string)
	for _, attribute := range span.Attributes {
		all[attribute.Key] = attribute.Value.GetStringValue()
	}
	return all
}

func (t trace) names() string {
	var names []string
	for _, step := range t.steps {
		names = append(names, strings.TrimPrefix(step.Name, "metaguard."))
	}
	return strings.Join(names, " ")
}

// traced is a site under Caddy's tracing.
func traced(t *testing.T, settings string, files map[string]string, more ...string) (*site, *collector) {
	t.Helper()
	c := newCollector(t)
	s := prepareSite(t, settings, files)
	s.edit(t, "Caddyfile", "bind 127.0.0.1", "bind 127.0.0.1\n\ttracing {\n\t\tspan metadata\n\t\tspan_attributes {\n\t\t\tmetaguard.caller {http.vars.metaguard.caller}\n\t\t}\n\t}")
	s.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", c.URL)
	s.Setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
	for _, variable := range more {
		name, value, _ := strings.Cut(variable, "=")
		s.Setenv(name, value)
	}
	s.Run(s.address)
	return s, c
}

func (c *collector) eventually(s *site, answer harness.Answer) (found trace) {
	s.Eventually("the trace is exported", func() (complete bool) {
		found, complete = c.of(answer.Header.Get("X-Metaguard-Decision"))
		return complete
	})
	return found
}

// stepAttributes is all that a step tells.
var stepAttributes = []string{"decision_id", "site", "dialect", "source", "resource", "action", "revision", "reason", "code"}

// Every step of a request is a span below Caddy's, with the decision's id and reason.
// What failed has the status Error, what was refused has not, and nothing of what a
// client or the server sent in headers and bodies is in any.
func TestTracing(t *testing.T) {
	t.Parallel()
	s, c := traced(t, neutronFrom("127.0.0.0/8")+"\nidentify remote_ip inventory.json\npolicy policy", map[string]string{
		"policy/data.json": grant(instance1, "password:read"),
	})
	markers := []string{secret, sign(instance1), sign("another")}
	marker := func(name string) string {
		text := "planted-" + name + "-marker"
		markers = append(markers, text)
		return text
	}
	s.upstream.Script(func(request string) string {
		switch {
		case strings.Contains(request, "/network_data.json "):
			return harness.Reset
		case strings.HasPrefix(request, "POST "):
			return harness.OK("")
		case strings.Contains(request, "/password "):
			return harness.OK("planted-stored-marker")
		}
		return harness.OK(`{"admin_pass": "planted-answer-marker"}`)
	})
	marker("stored")
	marker("answer")
	headers := "Cookie: " + marker("cookie") + "\r\nX-Auth-Token: " + marker("keystone") + "\r\nX-Aws-Ec2-Metadata-Token: " + marker("session") +
		"\r\nAuthorization: Bearer " + marker("bearer") + "\r\nBaggage: secret=" + marker("baggage") + "\r\nTracestate: a=" + marker("tracestate") +
		"\r\nX-Api-Key: " + marker("key") + "\r\nReferer: http://x/" + marker("referer") + "\r\nAccept: text/" + marker("accept") + "\r\n"
	written := marker("written")
	const password = "/openstack/latest/password"
	agent := agentHeaders(instance1, sign(instance1))
	known := map[string]string{"source": "neutron", "dialect": "openstack", "site": s.address}
	for _, test := range []struct {
		name, request string
		steps         string
		want          map[string]string
		fails         string // the step that does
	}{
		{
			"allowed", "GET /openstack/latest/meta_data.json HTTP/1.1\r\n" + agent, "identify decide upstream normalise redact",
			map[string]string{"verdict": "allow", "reason": "policy_allow", "outcome": "forwarded", "resource": "metadata", "action": "read", "mode": "enforce", "caller": "instance:" + instance1},
			"",
		},
		{
			"denied", "GET /unknown HTTP/1.1\r\n" + agent, "identify decide",
			map[string]string{"verdict": "deny", "reason": "policy_deny", "outcome": "refused", "resource": "unknown"},
			"",
		},
		{
			"ambiguous", "GET /openstack/../latest?token=" + marker("query") + " HTTP/1.1\r\n" + agent, "",
			map[string]string{"verdict": "deny", "reason": "request_ambiguous", "source": "", "resource": "", "revision": ""},
			"",
		},
		{
			"wrong signature", "GET /openstack HTTP/1.1\r\n" + agentHeaders(instance1, sign("another")), "identify",
			map[string]string{"reason": "identity_invalid", "code": "neutron_signature_wrong", "source": "neutron"},
			"",
		},
		{
			"broken by the server", "GET /openstack/latest/network_data.json HTTP/1.1\r\n" + agent, "identify decide upstream",
			map[string]string{"verdict": "allow", "reason": "response_incomplete", "code": "reset", "outcome": "failed"},
			"upstream",
		},
		{
			"written", "POST " + password + " HTTP/1.1\r\n" + agent, "identify decide latch latch upstream normalise redact latch",
			map[string]string{"verdict": "allow", "outcome": "forwarded", "resource": "password", "action": "write"},
			"",
		},
		{
			"not what was written", "GET " + password + " HTTP/1.1\r\n" + agent, "identify decide upstream normalise latch",
			map[string]string{"verdict": "allow", "reason": "password_mismatch", "outcome": "failed"},
			"normalise",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			request := test.request + "Host: m\r\nConnection: close\r\n" + headers
			if strings.HasPrefix(request, "POST") {
				request += fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(written), written)
			} else {
				request += "\r\n"
			}
			found := c.eventually(s, harness.Raw(t, s.address, request))
			if found.request.Name != "metadata" || found.names() != test.steps {
				t.Errorf("%s: %q, want %q", found.request.Name, found.names(), test.steps)
			}
			want, got := maps.Clone(known), texts(found.request)
			maps.Copy(want, test.want)
			for key, value := range want {
				if got["metaguard."+key] != value {
					t.Errorf("%s: %q, want %q", key, got["metaguard."+key], value)
				}
			}
			if failed := found.request.Status.GetCode() == tracev1.Status_STATUS_CODE_ERROR; failed != (test.fails != "") {
				t.Errorf("status of the request: %v", found.request.Status)
			}
			for _, step := range found.steps {
				attributes := texts(step)
				name := strings.TrimPrefix(step.Name, "metaguard.")
				if failed := step.Status.GetCode() == tracev1.Status_STATUS_CODE_ERROR; failed != (test.fails == name) {
					t.Errorf("status of %s: %v", name, step.Status)
				}
				if len(step.Events) > 0 {
					t.Errorf("%s: events %v", name, step.Events)
				}
				if name == "latch" {
					if attributes["metaguard.latch.result"] != "ok" {
						t.Errorf("latch: %v", attributes)
					}
					continue
				}
				if attributes["metaguard.decision_id"] != got["metaguard.decision_id"] {
					t.Errorf("%s has another decision: %v", name, attributes)
				}
				if name == "decide" && (attributes["metaguard.reason"] == "" || attributes["metaguard.revision"] == "") {
					t.Errorf("decide: %v", attributes)
				}
				for key := range attributes {
					if !slices.Contains(stepAttributes, strings.TrimPrefix(key, "metaguard.")) {
						t.Errorf("%s tells %s", name, key)
					}
				}
			}
		})
	}
	for _, request := range s.upstream.Requests() {
		for _, header := range []string{"traceparent", "tracestate", "baggage"} {
			if strings.Contains(strings.ToLower(request), header) {
				t.Errorf("the server got %s: %s", header, request)
			}
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, marker := range markers {
		if bytes.Contains(c.raw, []byte(marker)) {
			t.Errorf("%s is in what was exported", marker)
		}
	}
	if !bytes.Contains(c.raw, []byte("policy_allow")) {
		t.Error("nothing can be found in what was exported")
	}
}

// Caddy continues a client's trace, unless it is told to begin its own.
func TestTraceOfAClient(t *testing.T) {
	t.Parallel()
	const clients = "0123456789abcdef0123456789abcdef"
	for propagators, continued := range map[string]bool{"": true, "none": false} {
		s, c := traced(t, byAddress+"\nforward_headers traceparent", nil, "OTEL_PROPAGATORS="+propagators)
		answer := harness.Raw(t, s.address, "GET "+userdataPath+" HTTP/1.1\r\nHost: m\r\nConnection: close\r\nTraceparent: 00-"+clients+"-0123456789abcdef-01\r\n\r\n")
		found := c.eventually(s, answer)
		if id := hex.EncodeToString(found.request.TraceId); (id == clients) != continued {
			t.Errorf("propagators %q: trace %s", propagators, id)
		}
		// Not sampled by the client: nothing is exported where it has a say.
		harness.Raw(t, s.address, "GET /unknown HTTP/1.1\r\nHost: m\r\nConnection: close\r\nTraceparent: 00-"+clients+"-0123456789abcdef-00\r\n\r\n")
		c.eventually(s, s.get(t, userdataPath)) // a last one, so that it has had its time
		c.mu.Lock()
		denied := slices.ContainsFunc(c.spans, func(span *tracev1.Span) bool { return texts(span)["metaguard.reason"] == "policy_deny" })
		c.mu.Unlock()
		if denied == continued {
			t.Errorf("propagators %q: exported what the client did not sample: %v", propagators, denied)
		}
		requests := s.upstream.Requests()
		if len(requests) == 0 || !strings.Contains(requests[0], "Traceparent: 00-") {
			t.Errorf("forward_headers: the server got %q", requests)
		}
		if own := strings.Contains(requests[0], "-0123456789abcdef-"); own == continued {
			t.Errorf("propagators %q: the server got %q", propagators, requests[0])
		}
	}
}
