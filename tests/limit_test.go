// SPDX-License-Identifier: Apache-2.0

package tests

import (
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"testing"

	"github.com/metaguard/metaguard/tests/harness"
)

func (s *site) getFrom(t *testing.T, from, path string) harness.Answer {
	t.Helper()
	return harness.RawFrom(t, from, s.address, "GET "+path+" HTTP/1.1\r\nHost: metadata\r\nConnection: close\r\n\r\n")
}

// Who asks too often is refused until it has waited as long as it was told, and
// nobody else is.
func TestLimitRequests(t *testing.T) {
	t.Parallel()
	s := newSite(t, byAddress+"\nlimit {\n\trequests 20/m burst 2\n}", nil)
	for range 2 {
		if answer := s.get(t, userData); answer.Status != 200 {
			t.Fatalf("within the burst: %d %q", answer.Status, answer.Body)
		}
	}
	answer := s.get(t, userData)
	wait, err := strconv.Atoi(answer.Header.Get("Retry-After"))
	if answer.Status != 429 || reason(answer) != "rate_limited" || err != nil || wait < 1 || wait > 3 {
		t.Errorf("past the burst: %d %q, retry after %d, %v", answer.Status, answer.Body, wait, err)
	}
	if answer := s.getFrom(t, "127.0.0.2", userData); answer.Status != 200 {
		t.Errorf("another caller: %d %q", answer.Status, answer.Body)
	}
	if requests := s.upstream.Requests(); len(requests) != 3 {
		t.Errorf("the server saw %d requests", len(requests))
	}
	s.Eventually("there is room again", func() bool { return s.get(t, userData).Status == 200 })
	if line := s.decisions(t, 3)[2]; line["reason"] != "rate_limited" || line["caller"] != "instance:"+instance1 {
		t.Errorf("logged %v", line)
	}
}

// Who is refused too often is not served either for a while; strangers are told
// apart by their addresses, and none of them takes anything from a known caller.
func TestLimitRefusals(t *testing.T) {
	t.Parallel()
	s := newSite(t, byAddress+"\nlimit {\n\trefusals 6/m burst 2\n}", nil)
	for _, caller := range []struct{ from, path, reason string }{
		{"127.0.0.9", userData, "identity_missing"},
		{"127.0.0.8", "/openstack/../latest", "request_ambiguous"},
		{"127.0.0.1", "/unknown", "policy_deny"},
	} {
		for i := range 4 {
			want := caller.reason
			if i >= 2 {
				want = "rate_limited"
			}
			if answer := s.getFrom(t, caller.from, caller.path); reason(answer) != want {
				t.Errorf("%s, %d: %d %q, want %s", caller.from, i, answer.Status, answer.Body, want)
			}
		}
	}
	if answer := s.getFrom(t, "127.0.0.1", userData); reason(answer) != "rate_limited" {
		t.Errorf("a refused caller's other request: %d %q", answer.Status, answer.Body)
	}
	if answer := s.getFrom(t, "127.0.0.2", userData); answer.Status != 200 {
		t.Errorf("a known caller: %d %q", answer.Status, answer.Body)
	}
}

// signedBy is a request as an agent sends it.
func signedBy(instance string) string {
	return fmt.Sprintf("GET %s HTTP/1.1\r\nHost: m\r\nConnection: close\r\nX-Forwarded-For: 10.0.0.5\r\nX-Instance-ID: %s\r\nX-Tenant-ID: %s\r\nX-Instance-ID-Signature: %s\r\n\r\n",
		userData, instance, projectA, sign(instance))
}

// Behind an agent the status is one that it passes on, and what it cannot say
// for its callers counts for none of them.
func TestLimitBehindAgent(t *testing.T) {
	t.Parallel()
	s := newSite(t, "identify neutron {\n\tsecret {env.METAGUARD_NEUTRON_SECRET}\n}\nlimit {\n\trequests 6/m burst 1\n\trefusals 6/m burst 1\n}", nil)
	for range 3 {
		if answer := s.get(t, userData); reason(answer) != "identity_missing" {
			t.Errorf("unsigned: %d %q", answer.Status, answer.Body)
		}
	}
	if answer := harness.Raw(t, s.address, signedBy(instance1)); answer.Status != 200 {
		t.Errorf("the first: %d %q", answer.Status, answer.Body)
	}
	answer := harness.Raw(t, s.address, signedBy(instance1))
	if answer.Status != 500 || reason(answer) != "rate_limited" || answer.Header.Get("Retry-After") == "" {
		t.Errorf("the second: %d %q", answer.Status, answer.Body)
	}
	if answer := harness.Raw(t, s.address, signedBy(instance2)); answer.Status != 200 {
		t.Errorf("another instance: %d %q", answer.Status, answer.Body)
	}
}

// A thousand instances that boot at once, all through one agent, are not told
// apart from one that asks too often by anything but their own number.
func TestBootStorm(t *testing.T) {
	t.Parallel()
	s := newSite(t, "identify neutron {\n\tsecret {env.METAGUARD_NEUTRON_SECRET}\n}\npolicy policy {\n\ttimeout 20s\n}\nlimit {\n\trequests 20/s burst 60\n\trefusals 5/s\n}", nil)
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 32}}
	defer client.CloseIdleConnections()
	instances := make(chan int)
	var workers sync.WaitGroup
	for range 16 {
		workers.Go(func() {
			for i := range instances {
				id := fmt.Sprintf("%08d-1111-4111-8111-111111111111", i)
				for range 3 {
					r, _ := http.NewRequest(http.MethodGet, "http://"+s.address+userData, nil)
					r.Header = http.Header{"X-Instance-Id": {id}, "X-Tenant-Id": {projectA}, "X-Instance-Id-Signature": {sign(id)}, "X-Forwarded-For": {"10.0.0.5"}}
					answer, err := client.Do(r)
					if err != nil {
						t.Error(err)
						return
					}
					_ = answer.Body.Close()
					if answer.StatusCode != 200 {
						t.Errorf("instance %d: %d", i, answer.StatusCode)
					}
				}
			}
		})
	}
	for i := range 1000 {
		instances <- i
	}
	close(instances)
	workers.Wait()
}
