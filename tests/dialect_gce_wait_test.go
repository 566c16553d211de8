// SPDX-License-Identifier: Apache-2.0

package tests

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"cloud.google.com/go/compute/metadata"

	"github.com/metaguard/metaguard/tests/harness"
)

const (
	gceWaiters  = 500
	gceWaitPath = "/computeMetadata/v1/instance/attributes/myOwnName?wait_for_change=true&timeout_sec=300"
)

// gceWait has n clients, of sixteen callers in turn, wait for a change.
func gceWait(t *testing.T, s *gceSite, n int) []*harness.Client {
	t.Helper()
	before := s.server.Waiting()
	clients := make([]*harness.Client, n)
	for i := range clients {
		clients[i] = harness.Dial(t, fmt.Sprintf("127.0.1.%d", i%16), s.address)
		clients[i].Send("GET " + gceWaitPath + " HTTP/1.1\r\nHost: m\r\n" + gceHeader + "\r\n")
	}
	s.Eventually(fmt.Sprintf("%d wait", n), func() bool { return s.server.Waiting() == before+n })
	return clients
}

// gceAnswers reads an answer for each client.
func gceAnswers(clients []*harness.Client) []harness.Answer {
	answers := make([]harness.Answer, len(clients))
	var all sync.WaitGroup
	for i, client := range clients {
		all.Go(func() { answers[i] = client.Renew().Answer(http.MethodGet) })
	}
	all.Wait()
	return answers
}

// gceEnded counts the answers of who has waited in vain and is told to ask again.
func gceEnded(t *testing.T, answers []harness.Answer) {
	t.Helper()
	for i, answer := range answers {
		if answer.Err != nil || answer.Status != 504 || reason(answer) != "upstream_timeout" || answer.Header.Get("Retry-After") != "1" || answer.Header.Get("Metadata-Flavor") != "Google" {
			t.Fatalf("client %d: %d %q %v %v", i, answer.Status, answer.Body, answer.Header, answer.Err)
		}
	}
}

// usage is what the process takes.
func (s *gceSite) usage(t *testing.T) (goroutines int, resident float64) {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.Pid()))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if rest, found := strings.CutPrefix(line, "VmRSS:"); found {
			var kib float64
			_, _ = fmt.Sscan(rest, &kib)
			resident = kib / 1024
		}
	}
	return int(s.admin.Metrics(t, "go_goroutines")[""]), resident
}

// Five hundred clients that wait cost a bounded number of goroutines and bytes, a
// change answers each of them, and what they took is given back. A reload and a stop
// answer them too, and one that leaves frees its place and its connection to the server.
func TestGCEWaiting(t *testing.T) {
	t.Parallel()
	s := gceRun(t, "", nil)
	for range 20 {
		s.ask(t, "/computeMetadata/v1/instance/id") // what is made once is made
	}
	goroutines, resident := s.usage(t)
	clients := gceWait(t, s, gceWaiters)
	if waiting := s.admin.Total(t, "caddy_metaguard_waiting_requests"); waiting != gceWaiters {
		t.Errorf("%v requests are counted as waiting", waiting)
	}
	during, residentDuring := s.usage(t)
	t.Logf("goroutines %d, with %d waiting %d; RSS %.1f MiB, %.1f MiB", goroutines, gceWaiters, during, resident, residentDuring)
	if during-goroutines > 8*gceWaiters {
		t.Errorf("%d goroutines for %d clients that wait", during-goroutines, gceWaiters)
	}
	if residentDuring-resident > 128 {
		t.Errorf("%.1f MiB for %d clients that wait", residentDuring-resident, gceWaiters)
	}
	s.server.Set("myOwnName", "changed")
	for i, answer := range gceAnswers(clients) {
		if answer.Status != 200 || answer.Body != "changed" || answer.Header.Get("Etag") == "" {
			t.Fatalf("client %d: %d %q %v", i, answer.Status, answer.Body, answer.Err)
		}
		clients[i].Reset()
	}
	s.Eventually("what they took is given back", func() bool {
		after, _ := s.usage(t)
		return after < goroutines+50
	})
	after, residentAfter := s.usage(t)
	t.Logf("afterwards %d goroutines, RSS %.1f MiB", after, residentAfter)

	clients = gceWait(t, s, 3)
	clients[0].Reset()
	s.Eventually("who left is gone from the server", func() bool { return s.server.Waiting() == 2 })
	s.Eventually("its place is free", func() bool { return s.admin.Total(t, "caddy_metaguard_waiting_requests") == 2 })

	clients = append(clients[1:], gceWait(t, s, gceWaiters-2)...)
	output, err := s.Command("reload", "--config", "Caddyfile", "--force", "--address", s.admin.Address)
	if err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	gceEnded(t, gceAnswers(clients))
	s.Eventually("the server has lost them", func() bool { return s.server.Waiting() == 0 })

	clients = gceWait(t, s, gceWaiters)
	s.Signal(syscall.SIGTERM)
	gceEnded(t, gceAnswers(clients))
	s.Eventually("the process has ended", s.Ended)
	if strings.Contains(s.Log(), `"outcome":"panic"`) {
		t.Error("a panic")
	}
}

// One caller cannot take all places, and is told when to come back.
func TestGCEWaitingLimit(t *testing.T) {
	t.Parallel()
	s := gceRun(t, "", nil)
	clients := make([]*harness.Client, 64)
	for i := range clients {
		clients[i] = harness.Dial(t, "127.0.0.1", s.address)
		clients[i].Send("GET " + gceWaitPath + " HTTP/1.1\r\nHost: m\r\n" + gceHeader + "\r\n")
	}
	s.Eventually("64 wait", func() bool { return s.server.Waiting() == len(clients) })
	if answer := s.ask(t, gceWaitPath); answer.Status != 429 || reason(answer) != "rate_limited" || answer.Header.Get("Retry-After") == "" {
		t.Errorf("the 65th: %d %q", answer.Status, answer.Body)
	}
	if answer := s.ask(t, "/computeMetadata/v1/instance/id"); answer.Status != 200 {
		t.Errorf("one that does not wait: %d", answer.Status)
	}
	gceWait(t, s, 1)
	clients[0].Reset()
	s.Eventually("a place is free", func() bool { return s.server.Waiting() == len(clients) })
	clients[0] = harness.Dial(t, "127.0.0.1", s.address).Send("GET " + gceWaitPath + " HTTP/1.1\r\nHost: m\r\n" + gceHeader + "\r\n")
	s.Eventually("it is taken", func() bool { return s.server.Waiting() == len(clients)+1 })
}

// Callers that nobody identified share an id, but no places.
func TestGCEWaitingAnonymous(t *testing.T) {
	t.Parallel()
	s := gceRun(t, "identify anonymous\n"+gcePolicy, map[string]string{"policy/team.rego": `package metaguard.team

allow contains "name_for_everyone" if {
	input.caller.source == "anonymous"
	input.resource.key == "instance/attributes/myOwnName"
}
`})
	clients := make([]*harness.Client, 64)
	for i := range clients {
		clients[i] = harness.Dial(t, "127.0.0.1", s.address)
		clients[i].Send("GET " + gceWaitPath + " HTTP/1.1\r\nHost: m\r\n" + gceHeader + "\r\n")
	}
	s.Eventually("64 wait", func() bool { return s.server.Waiting() == len(clients) })
	if answer := s.ask(t, gceWaitPath); answer.Status != 429 || reason(answer) != "rate_limited" {
		t.Errorf("the 65th of a host: %d %q", answer.Status, answer.Body)
	}
	gceWait(t, s, 1)
}

// Timeouts for idle connections and of the upstream that are shorter than a wait do not cut
// it off, in either version of HTTP.
// Those of the server that would are refused (TestGCEValidate).
func TestGCEWaitingTimeouts(t *testing.T) {
	t.Parallel()
	s := gcePrepare(t, "", nil)
	s.edit(t, "Caddyfile", "persist_config off", "persist_config off\n\tservers {\n\t\tprotocols h1 h2c\n\t\ttimeouts {\n\t\t\tread_header 1s\n\t\t\tidle 1s\n\t\t}\n\t}")
	s.edit(t, "Caddyfile", "upstream "+s.server.Address, "upstream "+s.server.Address+" {\n\t\t\ttransport http {\n\t\t\t\tresponse_header_timeout 1s\n\t\t\t\tread_timeout 1s\n\t\t\t\twrite_timeout 1s\n\t\t\t}\n\t\t}")
	s.Run(s.address)
	const target = "/computeMetadata/v1/instance/attributes/myOwnName?wait_for_change=true&timeout_sec=3"
	h2 := harness.DialH2(t, "127.0.0.1", s.address, nil).
		Head(1, true, ":method", "GET", ":scheme", "http", ":authority", "m", ":path", target, "metadata-flavor", "Google")
	h1 := harness.Dial(t, "127.0.0.1", s.address).Send("GET " + target + " HTTP/1.1\r\nHost: m\r\n" + gceHeader + "\r\n")
	for version, answer := range map[string]harness.Answer{"HTTP/2": h2.Answer(1), "HTTP/1.1": h1.Answer(http.MethodGet)} {
		if answer.Status != 200 || answer.Body != "mine" {
			t.Errorf("%s: %d %q %v", version, answer.Status, answer.Body, answer.Err)
		}
	}
	// The next request on the same connection has the server's own timeouts again.
	if answer := h1.Send("GET /computeMetadata/v1/instance/id HTTP/1.1\r\nHost: m\r\n" + gceHeader + "\r\n").Answer(http.MethodGet); answer.Status != 200 {
		t.Errorf("the next: %d %v", answer.Status, answer.Err)
	}
	// A server that does not answer in time, though it was told how long it may take.
	silent := harness.NewScripted(t, func(string) []harness.Step { return []harness.Step{harness.Silence()} })
	s.edit(t, "Caddyfile", s.server.Address, silent.Address)
	if output, err := s.Command("reload", "--config", "Caddyfile", "--address", s.admin.Address); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	if answer := s.ask(t, strings.Replace(target, "timeout_sec=3", "timeout_sec=1", 1)); answer.Status != 504 || reason(answer) != "upstream_timeout" {
		t.Errorf("a silent server: %d %q", answer.Status, answer.Body)
	}
}

// gceClient is Google's client for Go, with a source address of its own.
func gceClient(from string) *metadata.Client {
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	return metadata.NewClient(&http.Client{Transport: &http.Transport{DialContext: dialer.DialContext, DisableKeepAlives: true}})
}

// Google's client for Go says with Metaguard what it says without, but for what policy
// hides, and goes on waiting after a reload. It takes its server from the environment,
// so that nothing else of this package runs beside it.
func TestGCEGoClient(t *testing.T) {
	s := gceRun(t, "", nil)
	trusted, other := gceClient("127.0.0.1"), gceClient("127.0.0.2")
	ctx := t.Context()
	crawl := func(client *metadata.Client) map[string]string {
		said := make(map[string]string)
		note := func(what string, value any, err error) { said[what] = fmt.Sprintf("%v %v", value, err) }
		for what, of := range map[string]func(context.Context) (string, error){
			"internal": client.InternalIPWithContext, "external": client.ExternalIPWithContext,
			"hostname": client.HostnameWithContext, "name": client.InstanceNameWithContext, "zone": client.ZoneWithContext,
		} {
			value, err := of(ctx)
			note(what, value, err)
		}
		tags, err := client.InstanceTagsWithContext(ctx)
		note("tags", tags, err)
		attributes, err := client.InstanceAttributesWithContext(ctx)
		note("attributes", attributes, err)
		for _, name := range append(attributes, "none") {
			value, err := client.InstanceAttributeValueWithContext(ctx, name)
			note("attribute "+name, value, err)
		}
		scopes, err := client.ScopesWithContext(ctx, "")
		note("scopes", scopes, err)
		for _, suffix := range []string{"project/project-id", "project/numeric-project-id", "instance/id", "universe/universe-domain", "instance/network-interfaces/?recursive=true", "project/?recursive=true", "instance/service-accounts/?recursive=true", "nothing", "instance/service-accounts/default/token", "instance/service-accounts/default/identity?audience=https://a&format=full"} {
			value, err := client.GetWithContext(ctx, suffix)
			note(suffix, value, err)
		}
		return said
	}
	t.Setenv("GCE_METADATA_HOST", s.server.Address)
	without := crawl(trusted)
	t.Setenv("GCE_METADATA_HOST", s.address)
	for what, want := range without {
		if got := crawlOf(trusted, crawl)[what]; got != want {
			t.Errorf("%s: %s, without Metaguard %s", what, got, want)
		}
	}
	for what, got := range crawlOf(other, crawl) {
		if want := without[what]; got != want && !strings.HasSuffix(got, "not defined") {
			t.Errorf("%s of another: %s", what, got)
		} else if hidden := strings.Contains(want, "s3cret"); hidden == (got == want) {
			t.Errorf("%s of another: %s, without Metaguard %s", what, got, want)
		}
	}
	id, err := trusted.InstanceIDWithContext(ctx)
	if project, projectErr := trusted.ProjectIDWithContext(ctx); id != "5737554347302044216" || project != "project-1" || err != nil || projectErr != nil {
		t.Errorf("%q %q %v %v", id, project, err, projectErr)
	}
	for _, suffix := range []string{"instance/attributes/myOwnName", "instance/?recursive=true"} {
		gceSubscribe(t, s, trusted, suffix)
	}
}

// crawlOf crawls once for each client.
func crawlOf(client *metadata.Client, crawl func(*metadata.Client) map[string]string) map[string]string {
	crawled.Lock()
	defer crawled.Unlock()
	if crawled.by[client] == nil {
		crawled.by[client] = crawl(client)
	}
	return crawled.by[client]
}

var crawled = struct {
	sync.Mutex
	by map[*metadata.Client]map[string]string
}{by: make(map[*metadata.Client]map[string]string)}

// gceSubscribe follows a value over changes and a reload.
func gceSubscribe(t *testing.T, s *gceSite, client *metadata.Client, suffix string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Second)
	defer cancel()
	values := make(chan string, 16)
	enough := errors.New("enough")
	ended := make(chan error, 1)
	go func() {
		ended <- client.SubscribeWithContext(ctx, suffix, func(_ context.Context, value string, ok bool) error {
			values <- value
			if strings.Contains(value, "the last") || !ok {
				return enough
			}
			return nil
		})
	}()
	s.server.Forget()
	next := func(want string) {
		t.Helper()
		select {
		case value := <-values:
			if !strings.Contains(value, want) {
				t.Errorf("%s: %q, want %q", suffix, value, want)
			}
		case err := <-ended:
			t.Fatalf("%s: ended with %v", suffix, err)
		case <-ctx.Done():
			t.Fatalf("%s: %q never came", suffix, want)
		}
	}
	<-values
	s.Eventually("it waits", func() bool { return s.server.Waiting() == 1 })
	s.server.Set("myOwnName", "the second")
	next("the second")
	s.Eventually("it waits again", func() bool { return s.server.Waiting() == 1 })
	if output, err := s.Command("reload", "--config", "Caddyfile", "--force", "--address", s.admin.Address); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	s.Eventually("it waits after the reload", func() bool { return s.server.Waiting() == 1 })
	s.server.Set("myOwnName", "the last")
	next("the last")
	if err := <-ended; !errors.Is(err, enough) {
		t.Errorf("%s: %v", suffix, err)
	}
	asked := 0
	for _, r := range s.server.Requests() {
		if strings.Contains(r.URL.RawQuery, "last_etag=") && r.URL.Query().Get("last_etag") == "" {
			t.Errorf("%s asked without the tag: %s", suffix, r.URL)
		}
		asked++
	}
	if asked > 8 {
		t.Errorf("%s: %d requests: it does not wait", suffix, asked)
	}
	s.server.Set("myOwnName", "mine")
}

// The shipped Caddyfile, in front of the scripted server.
func TestGCECaddyfile(t *testing.T) {
	t.Parallel()
	server := harness.NewGCE(t)
	port := harness.FreePort(t)
	m := shippedSite(t, "gce.Caddyfile", fmt.Sprint("127.0.0.1:", port), nil, map[string]string{":8169 {": fmt.Sprint(":", port, " {")})
	m.Setenv("METAGUARD_UPSTREAM", server.Address)
	m.Write("gce/inventory.json", gceInventory())
	m.Run(m.address)
	s := &gceSite{site: m.site}
	const token = "/computeMetadata/v1/instance/service-accounts/default/token"
	for _, test := range []struct {
		from, target, host, headers string
		status                      int
	}{
		{"127.0.0.1", "/computeMetadata/v1/instance/id", "metadata.google.internal", gceHeader, 200},
		{"127.0.0.1", token, "169.254.169.254", gceHeader, 200},
		{"127.0.0.2", token, "169.254.169.254", gceHeader, 404},
		{"127.0.0.2", "/computeMetadata/v1/?recursive=true", "169.254.169.254", gceHeader, 200},
		{"127.0.0.2", "/", "169.254.169.254", "", 400},
		{"127.0.0.9", "/computeMetadata/v1/instance/id", "169.254.169.254", gceHeader, 401},
		{"127.0.0.1", "/computeMetadata/v1/instance/id", "rebound.example", gceHeader, 400},
	} {
		answer := harness.RawFrom(t, test.from, s.address, "GET "+test.target+" HTTP/1.1\r\nHost: "+test.host+"\r\nConnection: close\r\n"+test.headers+"\r\n")
		if answer.Status != test.status || answer.Header.Get("Metadata-Flavor") != "Google" {
			t.Errorf("%+v: %d %q", test, answer.Status, answer.Body)
		}
	}
	if strings.Contains(m.Log(), "s3cret") {
		t.Error("a token is in the log")
	}
}
