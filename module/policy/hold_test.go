// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"testing"
	"time"

	"github.com/metaguard/metaguard/module/decision"
)

// restarted is an engine that has persisted r1 and is started again, while the
// server has r2 and answers when gate is closed.
func restarted(t *testing.T, ready time.Duration) (e *Engine, gate chan struct{}) {
	t.Helper()
	s := newBundleServer(t)
	s.put("team.tar.gz", teamBundle(t, "r1", "userdata"))
	config := Config{
		OPA:     opaFile(t, s, `"bundles": {"team": {"service": "s", "resource": "team.tar.gz", "persist": true`+fast+`}}`),
		Timeout: time.Minute, ReadyTimeout: ready,
	}
	state := t.TempDir()
	first := remoteEngine(t, config, WithStateDir(state))
	eventually(t, "the bundle is persisted", func() bool { return !first.Status().Bundles["team"].ActivatedAt.IsZero() })
	first.Stop(t.Context())
	s.put("team.tar.gz", teamBundle(t, "r2", "metadata"))
	gate = make(chan struct{})
	s.setGate(gate)
	return remoteEngine(t, config, WithStateDir(state)), gate
}

// What a server has decides at once after a start, and not what was persisted of
// it before.
func TestNewBundleAfterStart(t *testing.T) {
	e, gate := restarted(t, time.Minute)
	got := make(chan Result, 1)
	go func() { got <- e.Decide(t.Context(), instance(decision.KindMetadata, decision.Read)) }()
	if e.Policy() != nil {
		t.Error("a policy is in force that was not asked for")
	}
	close(gate)
	if r := <-got; r.Reason != decision.PolicyDeny || r.Revision != "team@r2" {
		t.Errorf("%+v", r)
	}
}

// A server that takes connections and does not answer holds a start up for half
// of the time that it may take.
func TestPersistedBundleOfHangingServer(t *testing.T) {
	e, gate := restarted(t, 2*time.Second)
	defer close(gate)
	if err := e.WaitReady(t.Context()); err != nil {
		t.Error(err)
	}
	if r := e.Decide(t.Context(), instance(decision.KindUserdata, decision.Read)); r.Reason != decision.PolicyDeny || r.Revision != "team@r1" {
		t.Errorf("%+v", r)
	}
}

// An engine that is stopped while it waits takes nothing later.
func TestStopWhileHolding(t *testing.T) {
	e, gate := restarted(t, time.Hour)
	defer close(gate)
	e.Stop(t.Context())
	if e.holdTimer.Stop() {
		t.Error("its timer runs on")
	}
}
