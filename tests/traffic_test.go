// SPDX-License-Identifier: Apache-2.0

package tests

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/metaguard/metaguard/tests/harness"
)

// visitor is a client that asks again and again, from an address that nobody else
// has: what the decision log has from there is all that Metaguard read of it.
type visitor struct {
	from      string
	transport *http.Transport

	served atomic.Int64 // whole answers
	lost   atomic.Int64 // connections that ended without one,
	reset  atomic.Int64 // and those of them that were reset
	mu     sync.Mutex
	wrong  []string
}

// newVisitor gives a client that keeps its connections, or makes one for each
// request.
func newVisitor(from string, keep bool) *visitor {
	dialer := &net.Dialer{Timeout: 30 * time.Second, LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	return &visitor{from: from, transport: &http.Transport{
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			return dialer.DialContext(ctx, network, address)
		},
		DisableKeepAlives: !keep,
	}}
}

// visit sends a request and gives the answer, or none if its connection was lost.
func (v *visitor) visit(method, url, body string, headers ...string) (harness.Answer, bool) {
	request, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		panic(err)
	}
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	response, err := v.transport.RoundTrip(request)
	if err != nil {
		v.lost.Add(1)
		if errors.Is(err, syscall.ECONNRESET) {
			v.reset.Add(1)
		}
		return harness.Answer{Err: err}, false
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		v.complain("%s %s: the answer breaks off: %v", method, url, err)
		return harness.Answer{Err: err}, false
	}
	v.served.Add(1)
	return harness.Answer{Status: response.StatusCode, Header: response.Header, Body: string(text)}, true
}

// expect is visit for an answer that is known.
func (v *visitor) expect(status int, want, method, url, body string, headers ...string) {
	answer, ok := v.visit(method, url, body, headers...)
	if ok && (answer.Status != status || !strings.HasPrefix(answer.Body, want)) {
		v.complain("%s %s: %d %q, want %d %q", method, url, answer.Status, answer.Body, status, want)
	}
}

func (v *visitor) complain(format string, args ...any) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.wrong) < 10 {
		v.wrong = append(v.wrong, fmt.Sprintf(v.from+": "+format, args...))
	}
}

// traffic is what visitors do until it ends. Each routine is one visitor's.
type traffic struct {
	visitors []*visitor
	over     atomic.Bool
	resting  sync.RWMutex // held for writing while nobody may ask
	all      sync.WaitGroup
}

// begin makes a visitor ask without a pause.
func (tr *traffic) begin(v *visitor, routine func(v *visitor, n int)) {
	tr.visitors = append(tr.visitors, v)
	tr.all.Go(func() {
		defer v.transport.CloseIdleConnections()
		for n := 0; !tr.over.Load(); n++ {
			tr.resting.RLock()
			routine(v, n)
			tr.resting.RUnlock()
		}
	})
}

// rest lets nobody ask while work is done, and closes all connections.
func (tr *traffic) rest(work func()) {
	tr.resting.Lock()
	defer tr.resting.Unlock()
	for _, v := range tr.visitors {
		v.transport.CloseIdleConnections()
	}
	work()
}

// goesOn waits until every visitor was served a few times more.
func (tr *traffic) goesOn(p *harness.Process, times int64) {
	before := make([]int64, len(tr.visitors))
	for i, v := range tr.visitors {
		before[i] = v.served.Load()
	}
	p.Eventually("every client is served meanwhile", func() bool {
		for i, v := range tr.visitors {
			if v.served.Load() < before[i]+times {
				return false
			}
		}
		return true
	})
}

// end stops the visitors, and fails if an answer was wrong, or if a request was
// judged that got none. It logs how many were served, and how many connections
// were lost before any handler saw them: the kernel resets what waits in a
// listener's queue when that is closed, and net/http closes a connection whose
// request it reads in the moment that its server shuts down (conn.serve).
func (tr *traffic) end(t *testing.T, p *harness.Process, log func() string) {
	t.Helper()
	tr.over.Store(true)
	tr.all.Wait()
	var judged map[string]int64
	complete := func() bool {
		judged = judgedOf(log())
		for _, v := range tr.visitors {
			if judged[v.from] < v.served.Load() {
				return false
			}
		}
		return true
	}
	for deadline := time.Now().Add(20 * time.Second); !complete() && time.Now().Before(deadline); {
		time.Sleep(50 * time.Millisecond)
	}
	var served, lost, reset int64
	for _, v := range tr.visitors {
		if n := judged[v.from]; n != v.served.Load() {
			t.Errorf("%s: %d requests were judged, %d answered, %d connections lost", v.from, n, v.served.Load(), v.lost.Load())
		}
		for _, problem := range v.wrong {
			t.Error(problem)
		}
		served, lost, reset = served+v.served.Load(), lost+v.lost.Load(), reset+v.reset.Load()
	}
	t.Logf("%d requests answered; %d connections reset and %d closed before a handler saw them", served, reset, lost-reset)
}

// judgedOf counts the lines of a decision log by peer.
func judgedOf(log string) map[string]int64 {
	judged := make(map[string]int64)
	for line := range strings.Lines(log) {
		var entry struct {
			Message string `json:"msg"`
			Peer    string `json:"peer"`
		}
		if strings.Contains(line, `"msg":"decision"`) && json.Unmarshal([]byte(line), &entry) == nil && entry.Message == "decision" {
			judged[entry.Peer]++
		}
	}
	return judged
}
