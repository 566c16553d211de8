// SPDX-License-Identifier: Apache-2.0

package tests

import (
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/metaguard/metaguard/tests/harness"
)

// What is counted is what has happened.
func TestMetricsCount(t *testing.T) {
	t.Parallel()
	m := newManaged(t, byAddress+"\nresponse {\nmax_total 4MiB\n}\npassword {\nwrite_timeout 2s\n}", map[string]string{"policy/data.json": "{}"})
	asked, answer := make(chan struct{}, 1), make(chan struct{})
	m.upstream.Script(func(request string) string {
		switch {
		case strings.Contains(request, "/user_data "):
			asked <- struct{}{}
			<-answer
		case strings.Contains(request, "/meta_data.json "):
			return harness.OK(`{"admin_pass": "x", "meta": {"admin_pass": "y"}}`)
		case strings.HasPrefix(request, "POST ") && strings.Contains(request, "unknown"):
			return harness.Reset
		}
		return harness.OK("")
	})
	done := make(chan struct{})
	go func() {
		defer close(done)
		m.get(t, userdataPath)
	}()
	<-asked
	if now := m.admin.Total(t, "caddy_metaguard_requests_in_flight"); now != 1 {
		t.Errorf("%v requests in flight", now)
	}
	close(answer)
	<-done
	m.get(t, "/openstack/latest/meta_data.json")
	m.get(t, "/openstack/../latest")
	m.post(t, "127.0.0.1", "first")
	m.post(t, "127.0.0.1", "second")
	m.post(t, "127.0.0.2", "unknown")
	harness.RawFrom(t, "127.0.0.9", m.address, "GET / HTTP/1.1\r\nHost: m\r\nConnection: close\r\n\r\n")
	m.decisions(t, 7) // a request is counted before it is logged
	site := `site="` + m.address + `"`
	for name, want := range map[string]map[string]float64{
		"requests_in_flight":             {"{" + site + "}": 0},
		"redacted_answers_total":         {"{" + site + "}": 1},
		"buffer_used_bytes":              {"{" + site + "}": 0},
		"buffer_limit_bytes":             {"{" + site + "}": 4 << 20},
		"audit_mode_sites":               {"": 0},
		"request_duration_seconds_count": {`{dialect="openstack",` + site + "}": 7},
		"added_duration_seconds_count":   {`{dialect="openstack",` + site + "}": 7},
		// The second write of the first instance was refused before it was sent.
		"upstream_duration_seconds_count": {`{dialect="openstack",` + site + "}": 4},
		"decision_duration_seconds_count": {`{dialect="openstack",` + site + "}": 5},
		"removed_total": {
			`{` + site + `,what="json_member"}`: 2, `{` + site + `,what="listing_entry"}`: 0, `{` + site + `,what="password_key"}`: 0,
		},
		"identifications_total": {
			`{result="identified",` + site + `,source="remote_ip"}`: 5, `{result="identity_missing",` + site + `,source="none"}`: 1,
		},
		"password_writes_total": {
			`{outcome="accepted",` + site + `}`: 1, `{outcome="unknown",` + site + `}`: 1, `{outcome="already_set",` + site + `}`: 0,
			`{outcome="refused",` + site + `}`: 0, `{outcome="unsent",` + site + `}`: 0,
		},
	} {
		if got := m.admin.Metrics(t, "caddy_metaguard_"+name); !maps.Equal(got, want) {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
	if calls := m.admin.Metrics(t, "caddy_metaguard_latch_operations_total")[`{operation="swap",result="ok",`+site+`}`]; calls < 4 {
		t.Errorf("two writes, and the latch was written %v times", calls)
	}
}

// Keystone's answers, and what was remembered, are counted, and go on over a reload.
func TestLookupsAreCounted(t *testing.T) {
	t.Parallel()
	down := make(chan struct{})
	keystone := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		select {
		case <-down:
			w.WriteHeader(http.StatusInternalServerError)
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	t.Cleanup(keystone.Close)
	m := newManaged(t, "identify keystone {\nurl "+keystone.URL+"/v3\n}", nil)
	ask := func(token string) {
		m.Eventually("it is answered", func() bool { // the old listener may reset a connection in a reload
			answer := harness.Raw(t, m.address, "GET /openstack HTTP/1.1\r\nHost: m\r\nConnection: close\r\nX-Auth-Token: "+token+"\r\n\r\n")
			return answer.Err == nil
		})
	}
	wants := func(cached, answered, failed int) {
		t.Helper()
		var got []string
		m.Eventually(fmt.Sprintf("%d cached, %d answered, %d failed", cached, answered, failed), func() bool {
			got = nil
			samples := m.admin.Metrics(t, "caddy_metaguard_identity_lookups_total")
			for _, labels := range slices.Sorted(maps.Keys(samples)) {
				got = append(got, fmt.Sprint(samples[labels]))
			}
			return strings.Join(got, " ") == fmt.Sprint(answered, " ", cached, " ", failed)
		})
	}
	wants(0, 0, 0)
	ask("a")
	ask("a")
	wants(1, 1, 0)
	if output, err := m.reload(t, "--force"); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	close(down)
	ask("b")
	wants(1, 1, 1)
}
