// SPDX-License-Identifier: Apache-2.0

package module

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"testing"
	"time"

	"github.com/metaguard/metaguard/module/identity"
)

// What a configuration that is no longer in force leaves behind is closed with the
// last request, also of one that began after the end.
func TestRetiredTransportKeepsNoConnection(t *testing.T) {
	states := make(chan http.ConnState, 100)
	release := make(chan struct{})
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			w.(http.Flusher).Flush()
			select {
			case <-release:
			case <-r.Context().Done():
			}
		}
		_, _ = io.WriteString(w, "answer")
	}))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew || state == http.StateClosed {
			states <- state
		}
	}
	server.Start()
	defer func() {
		server.CloseClientConnections()
		server.Close()
	}()
	became := func(want http.ConnState) {
		t.Helper()
		select {
		case got := <-states:
			if got != want {
				t.Fatalf("a connection is %v, want %v", got, want)
			}
		case <-time.After(30 * time.Second):
			t.Fatalf("no connection became %v", want)
		}
	}
	pool := new(http.Transport)
	hop := &lastHop{RoundTripper: pool, pools: []*http.Transport{pool}}
	ask := func(path string) *http.Response {
		t.Helper()
		request, err := http.NewRequest(http.MethodGet, server.URL+path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := hop.RoundTrip(request)
		if err != nil {
			t.Fatal(err)
		}
		return answer
	}
	finish := func(answer *http.Response) {
		t.Helper()
		if body, err := io.ReadAll(answer.Body); err != nil || string(body) != "answer" {
			t.Fatalf("%q %v", body, err)
		}
		_ = answer.Body.Close()
	}

	finish(ask("/"))
	became(http.StateNew)
	slow := ask("/slow") // on the connection that waited
	finish(ask("/"))     // on a second one, which waits now
	became(http.StateNew)
	hop.retire()
	became(http.StateClosed)
	finish(ask("/")) // judged before, sent after
	became(http.StateNew)
	became(http.StateClosed)
	close(release)
	finish(slow)
	became(http.StateClosed)
	hop.retire() // twice is once
}

// Whatever stood in a request, the server is told of the target that was signed for, and
// the request that reverse_proxy logs is left as it is.
func TestSigned(t *testing.T) {
	request := httptest.NewRequest(http.MethodGet, "/", nil)
	request.Header = http.Header{
		"Accept": {"*/*"}, "X-Forwarded-Host": nil,
		"X-Instance-Id": {"another"}, "X-Metadata-Provider": {"p"}, "X-Metadata-Provider-Signature": {"s"},
	}
	before := request.Header.Clone()
	sent := signed(request, identity.Asserted{"instance", "project", "signature"})
	want := http.Header{
		"Accept": {"*/*"}, "X-Instance-Id": {"instance"}, "X-Tenant-Id": {"project"}, "X-Instance-Id-Signature": {"signature"},
	}
	if !reflect.DeepEqual(sent.Header, want) {
		t.Errorf("sent %v, want %v", sent.Header, want)
	}
	if !reflect.DeepEqual(request.Header, before) {
		t.Errorf("it became %v", request.Header)
	}
}
