// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/metaguard/metaguard/module/decision"
)

// Sites may listen, and decide by their files, before OPA's log is started: it gets
// those events, too.
func TestEventBeforeStart(t *testing.T) {
	for _, refuse := range []bool{false, true} {
		sink := newLogSink(t)
		e := engine(t, Config{RefuseUnlogged: refuse, ReadyTimeout: 20 * time.Second, OPA: logConfig(t, sink.URL, "")})
		if !e.LogsEvents() {
			t.Error("nothing is to be logged")
		}
		result := e.Decide(t.Context(), instance(decision.KindMetadata, decision.Read))
		gone, cancel := context.WithCancel(t.Context())
		cancel() // the client does not wait
		recorded := make(chan error)
		go func() {
			_, err := e.Record(gone, &result, About{ID: "early"})
			recorded <- err
		}()
		if err := e.Start(); err != nil {
			t.Fatal(err)
		}
		if err := <-recorded; err != nil {
			t.Error(err)
		}
		stop(t, e)
		if got := sink.received(); len(got) != 1 || got[0]["decision_id"] != "early" || e.DroppedEvents()["lost"] != 0 {
			t.Errorf("refuse %v: %v %v", refuse, got, e.DroppedEvents())
		}
	}
}

// An event for a log that is never started is lost, and counted, and goes nowhere else:
// no rule that masks it has seen it.
func TestEventWithoutStart(t *testing.T) {
	for _, refuse := range []bool{false, true} {
		e := engine(t, Config{RefuseUnlogged: refuse, ReadyTimeout: time.Millisecond, OPA: logConfig(t, "http://127.0.0.1:1", "")})
		result := e.Decide(t.Context(), instance(decision.KindMetadata, decision.Read))
		event, err := e.Record(t.Context(), &result, About{ID: "x"})
		if errors.Is(err, ErrLogFull) != refuse || event != nil || e.DroppedEvents()["lost"] != 1 {
			t.Errorf("refuse %v: %v %v %v", refuse, event, err, e.DroppedEvents())
		}
	}
}

// So is one for a log of OPA's without a service, which has rules all the same.
func TestEventWithoutStartOfAConsoleLog(t *testing.T) {
	config := dir(t, files{"opa.yaml": "decision_logs:\n  console: true\n"}) + "/opa.yaml"
	e := engine(t, Config{ReadyTimeout: time.Millisecond, OPA: config})
	result := e.Decide(t.Context(), instance(decision.KindMetadata, decision.Read))
	if event, err := e.Record(t.Context(), &result, About{ID: "x"}); event != nil || err != nil || e.DroppedEvents()["lost"] != 1 {
		t.Errorf("%v %v %v", event, err, e.DroppedEvents())
	}
	if err := e.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the log has started", func() bool {
		event, err := e.Record(t.Context(), &result, About{ID: "y"})
		return event != nil && err == nil
	})
	stop(t, e)
}

// What is recorded and was not delivered is lost, event for event, also where OPA drops
// many at once as one chunk.
func TestEventsAreCounted(t *testing.T) {
	const asked = 500
	sink := newLogSink(t)
	sink.setDown(true)
	e := remoteEngine(t, Config{OPA: logConfig(t, sink.URL, "  reporting:\n    buffer_size_limit_events: 20\n    min_delay_seconds: 1\n    max_delay_seconds: 1\n")})
	result := e.Decide(t.Context(), instance(decision.KindMetadata, decision.Read))
	chunk := func() bool { // whether one came back
		count, _ := e.remote.Load().metrics.Counter("decision_logs_chunks_upload_failed").Value().(uint64)
		return count > 0
	}
	for i := range asked {
		if _, err := e.Record(t.Context(), &result, About{ID: fmt.Sprint(i)}); err != nil {
			t.Fatal(err)
		}
		if i == asked/2 {
			eventually(t, "an upload fails", chunk)
		}
	}
	sink.setDown(false)
	stop(t, e)
	got := uint64(len(sink.received()))
	if counts := e.EventCounts(); counts.Recorded != asked || counts.Delivered != got || got == 0 || got == asked {
		t.Errorf("%d arrived of %d: %+v, dropped %v", got, asked, counts, e.DroppedEvents())
	}
}

// stop ends an engine and leaves it the time to send its events.
func stop(t *testing.T, e *Engine) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	e.Stop(ctx)
}

func (s *logSink) setDown(down bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = down
}

// A rule that masks events is not there in vain.
func TestMaskWithoutDecisionLogs(t *testing.T) {
	root := dir(t, files{"mask.rego": "package system.log\n\nmask contains \"/input/caller/claims\"\n"})
	config := dir(t, files{"opa.yaml": "labels:\n  region: east\n"}) + "/opa.yaml"
	if _, err := New(t.Context(), Config{Paths: []string{root}, OPA: config}); err == nil || !strings.Contains(err.Error(), "has no decision_logs") {
		t.Fatalf("%v", err)
	}
	write(t, config, "decision_logs:\n  console: false\n")
	e := engine(t, Config{Paths: []string{root}, OPA: config, ReadyTimeout: time.Minute})
	if err := e.Start(); err != nil {
		t.Fatal(err)
	}
	in := instance(decision.KindMetadata, decision.Read)
	in.Caller.Claims = map[string]any{"email": "planted"}
	result := e.Decide(t.Context(), in)
	event, err := e.Record(t.Context(), &result, About{ID: "x", WritesInput: true})
	if err != nil || event == nil {
		t.Fatal(event, err)
	}
	if text := fmt.Sprint(*event.Input); strings.Contains(text, "planted") || !strings.Contains(text, "instance_id") {
		t.Errorf("%s", text)
	}
	stop(t, e)
}
