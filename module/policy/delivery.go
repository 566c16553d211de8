// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"compress/gzip"
	"encoding/json"
	"net/http"
	"sync/atomic"

	"github.com/open-policy-agent/opa/v1/tracing"
)

// OPA counts what its buffer drops in items of the buffer, and one that came back
// from a failed upload holds many events. So what the log service has taken is
// counted on its way: what was recorded and neither waits nor was delivered is lost.

// deliveries counts the events that a log service has taken. It is the option that
// makes OPA's clients count.
type deliveries struct{ events atomic.Uint64 }

// countingClients is where OPA lets somebody else see what its clients send; it is
// meant for tracing, which nothing else here wants of OPA.
type countingClients struct{}

var _ tracing.HTTPTracingService = countingClients{}

func init() { tracing.RegisterHTTPTracing(countingClients{}) }

// NewTransport implements OPA's tracing.
func (countingClients) NewTransport(next http.RoundTripper, options tracing.Options) http.RoundTripper {
	if next == nil {
		next = http.DefaultTransport
	}
	for _, option := range options {
		if count, ok := option.(*deliveries); ok {
			return countingTransport{next, count}
		}
	}
	return next
}

// NewHandler implements OPA's tracing, and does nothing.
func (countingClients) NewHandler(next http.Handler, _ string, _ tracing.Options) http.Handler {
	return next
}

// countingTransport counts the events of uploads that were taken.
type countingTransport struct {
	next  http.RoundTripper
	count *deliveries
}

// RoundTrip implements net/http's transport.
func (t countingTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := t.next.RoundTrip(r)
	// Nothing else that OPA sends is compressed.
	if err == nil && response.StatusCode/100 == 2 && r.Header.Get("Content-Encoding") == "gzip" {
		t.count.events.Add(eventsIn(r))
	}
	return response, err
}

// eventsIn counts the events of an upload, which is a compressed list.
func eventsIn(r *http.Request) (n uint64) {
	if r.GetBody == nil {
		return 0
	}
	body, err := r.GetBody()
	if err != nil {
		return 0
	}
	defer body.Close() //nolint:errcheck // it is only read
	text, err := gzip.NewReader(body)
	if err != nil {
		return 0
	}
	list := json.NewDecoder(text)
	if _, err := list.Token(); err != nil { // the bracket
		return 0
	}
	for list.More() {
		var event json.RawMessage
		if list.Decode(&event) != nil {
			break
		}
		n++
	}
	return n
}
