// SPDX-License-Identifier: Apache-2.0

package tests

import (
	"fmt"
	"net/http"
	"strings"
	"syscall"
	"testing"

	"github.com/metaguard/metaguard/tests/harness"
)

const probe = "/metaguard/probe"

// The probe needs no identity, tells one status and nothing else, and is no
// decision. Any other spelling is a request like others.
func TestProbe(t *testing.T) {
	t.Parallel()
	m := newWatched(t, byAddress+"\nlimit {\n\trequests 1/h\n}", nil)
	const stranger = "127.0.0.9"
	for range 5 {
		for _, line := range []string{"GET " + probe + " HTTP/1.1\r\nHost: m\r\nConnection: close", "HEAD " + probe + " HTTP/1.1\r\nHost: m\r\nConnection: close", "GET " + probe + " HTTP/1.0"} {
			answer := harness.RawFrom(t, stranger, m.address, line+"\r\n\r\n")
			if answer.Status != 200 || answer.Body != "" || answer.Header.Get("X-Metaguard-Decision") != "" || answer.Header.Get("Content-Type") == "" || answer.Err != nil {
				t.Fatalf("%q: %+v", line, answer)
			}
		}
	}
	others := []string{"GET " + probe + "?x=1", "GET /" + probe, "GET /x/.." + probe, "GET " + probe + "/", "POST " + probe, "OPTIONS " + probe}
	for _, line := range others {
		if answer := harness.RawFrom(t, stranger, m.address, line+" HTTP/1.1\r\nHost: m\r\nConnection: close\r\n\r\n"); answer.Status < 400 || answer.Header.Get("X-Metaguard-Decision") == "" {
			t.Errorf("%q: %+v", line, answer)
		}
	}
	if lines := m.decisions(t, len(others)); len(lines) != len(others) {
		t.Errorf("%d decisions, %d requests that are no probe", len(lines), len(others))
	}
	if denied := m.status(t).Counters.Requests["deny"]; denied != uint64(len(others)) {
		t.Errorf("%d were counted", denied)
	}
	if requests := m.upstream.Requests(); len(requests) != 0 {
		t.Errorf("the server saw %q", requests)
	}
}

// Behind Neutron's agent a site that is not ready says what the agent passes on.
func TestProbeForAnAgent(t *testing.T) {
	t.Parallel()
	s := prepareSite(t, neutronFrom("127.0.0.2/32")+"\n"+byAddress, nil)
	s.edit(t, "Caddyfile", "upstream "+s.upstream.Address, fmt.Sprintf("upstream 127.0.0.1:%d", harness.FreePort(t)))
	s.Run(s.address)
	for from, want := range map[string]int{"127.0.0.1": 503, "127.0.0.2": 500} {
		if answer := harness.RawFrom(t, from, s.address, "GET "+probe+" HTTP/1.1\r\nHost: m\r\nConnection: close\r\n\r\n"); answer.Status != want || answer.Body != "" {
			t.Errorf("%s: %+v", from, answer)
		}
	}
}

// While a process waits for balancers to turn away, before it stops, the probe
// says so, and requests are served.
func TestProbeBeforeAStop(t *testing.T) {
	t.Parallel()
	s := prepareManaged(t, byAddress, nil)
	s.edit(t, "Caddyfile", "persist_config off", "persist_config off\n\tshutdown_delay 5m")
	s.watch(t)
	if answer := s.get(t, probe); answer.Status != 200 {
		t.Fatalf("%+v", answer)
	}
	s.Signal(syscall.SIGTERM)
	s.settles(t, probe, 503)
	if answer := s.get(t, userdataPath); answer.Status != 200 {
		t.Errorf("a request meanwhile: %+v", answer)
	}
	if code, text := s.admin.Ask(t, http.MethodGet, "/metaguard/health", ""); code != 503 || !strings.Contains(text, `"ready":false,"shutting_down":true`) {
		t.Errorf("health: %d %s", code, text)
	}
	s.Kill()
}

// A reload, under which the listener goes on, is no reason to turn away.
func TestProbeInAReload(t *testing.T) {
	t.Parallel()
	m := prepareManaged(t, byAddress, nil)
	m.edit(t, "Caddyfile", "persist_config off", "persist_config off\n\tshutdown_delay 5m")
	m.watch(t)
	client := harness.Dial(t, "", m.address)
	if err := m.admin.Load(strings.Replace(m.adapted(t), `"openstack"`, `"openstack" `, 1)); err != nil {
		t.Fatal(err)
	}
	client.Send("GET " + probe + " HTTP/1.1\r\nHost: m\r\n\r\n")
	if answer := client.Answer("GET"); answer.Err == nil && answer.Status != 200 {
		t.Errorf("on the old server: %+v", answer)
	}
	if answer := m.ask(t, probe); answer.Status != 200 {
		t.Errorf("on the new one: %+v", answer)
	}
	m.Kill()
}
