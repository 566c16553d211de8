// SPDX-License-Identifier: Apache-2.0

package tests

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// clusterRead is what a reader got, and when it asked.
type clusterRead struct {
	id, path string
	status   int
	asked    time.Time
}

// clusterLoad reads and writes through the balancer until it is stopped.
type clusterLoad struct {
	*cluster
	stopped atomic.Bool
	wait    sync.WaitGroup
	served  atomic.Int64
	next    atomic.Int64 // the instance that boots next

	mu    sync.Mutex
	reads []clusterRead
	lost  int // reads whose connection was broken off
	wrong []string
	races []*race
}

// The instances that readers, writers and the test itself are.
const (
	firstWriter = 250
	firstProbe  = 9_000
)

// load begins to read with so many clients, and to boot as many instances at a
// time, each of which writes its first password with three writers.
func (c *cluster) load(clients int) *clusterLoad {
	l := &clusterLoad{cluster: c}
	l.next.Store(firstWriter)
	for client := range clients {
		l.wait.Go(func() {
			for i := client; !l.stopped.Load(); i += clients {
				l.read(i%firstWriter, []string{userdataPath, vendordataPath}[i/clients%2])
			}
		})
		l.wait.Go(func() {
			for instance := l.next.Add(1); instance < firstProbe && !l.stopped.Load(); instance = l.next.Add(1) {
				l.boot(int(instance))
			}
		})
	}
	return l
}

func (l *clusterLoad) read(instance int, path string) {
	read := clusterRead{path: path, asked: time.Now()}
	answer := l.ask(l.address, instance, http.MethodGet, path, "")
	read.id, read.status = answer.Header.Get("X-Metaguard-Decision"), answer.Status
	if answer.Err != nil {
		time.Sleep(20 * time.Millisecond) // the balancer may be away
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case answer.Err != nil:
		l.lost++
		return
	case answer.Status != http.StatusOK && reason(answer) != "policy_deny":
		l.wrong = append(l.wrong, fmt.Sprintf("%s: %d %q", path, answer.Status, answer.Body))
	}
	l.served.Add(1)
	l.reads = append(l.reads, read)
}

// boot lets three writers write until one of them is told that there is a
// password now.
func (l *clusterLoad) boot(instance int) {
	result := &race{instance: instanceOf(instance)}
	var mu sync.Mutex
	var writers sync.WaitGroup
	for w := range 3 {
		writers.Go(func() {
			body := fmt.Sprintf("pA55word %d of %d", w, instance)
			for !l.stopped.Load() {
				answer := l.ask(l.address, instance, http.MethodPost, guestPath, body)
				why := reason(answer)
				mu.Lock()
				switch {
				case answer.Err != nil:
					result.died++
				case answer.Status == http.StatusOK:
					result.won = append(result.won, body)
				case answer.Status == http.StatusConflict && strings.HasPrefix(why, "password_"):
					result.refused++
				case why == "latch_unavailable" || why == "rate_limited":
					result.retried++
					mu.Unlock()
					time.Sleep(100 * time.Millisecond) // as a machine that boots would
					continue
				default:
					result.other = append(result.other, fmt.Sprint(answer.Status, " ", answer.Body))
				}
				mu.Unlock()
				return
			}
		})
	}
	writers.Wait()
	if result.died == 3 {
		time.Sleep(20 * time.Millisecond)
	}
	l.served.Add(1)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.races = append(l.races, result)
}

// goesOn waits until so many more requests were served.
func (l *clusterLoad) goesOn(requests int64) {
	l.t.Helper()
	from := l.served.Load()
	l.replicas[0].Eventually("the load goes on", func() bool { return l.served.Load() >= from+requests })
}

// broken tells how many reads were broken off so far.
func (l *clusterLoad) broken() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lost
}

// stop ends the load.
func (l *clusterLoad) stop() {
	l.stopped.Store(true)
	l.wait.Wait()
}

// checkPasswords fails where the server took a second password of an instance,
// or another one than the winner's.
func (l *clusterLoad) checkPasswords() {
	l.t.Helper()
	taken := 0
	for _, r := range l.races {
		accepted := l.server.accepted(r.instance)
		taken += len(accepted)
		switch {
		case len(r.other) > 0:
			l.t.Errorf("%s: %q", r.instance, r.other)
		case len(accepted) > 1 || len(r.won) > 1 || (len(r.won) == 1 && (len(accepted) != 1 || accepted[0] != r.won[0])):
			l.t.Errorf("%s: the server took %q, %+v", r.instance, accepted, r)
		case r.refused == 3 && r.retried == 0:
			// Else Redis may have died with a reservation, which holds.
			l.t.Errorf("%s: three writers were refused, and none won: %+v", r.instance, r)
		}
	}
	l.t.Logf("%d instances wrote, the server took %d passwords, none of them a second one", len(l.races), taken)
}

// clusterLine is what the test reads of a line of a log.
type clusterLine struct {
	Msg, Revision string
	DecisionID    string `json:"decision_id"`
	run           int    // of its replica
	replica       int
}

// lines gives all lines of decisions and of decision events, by id.
func (c *cluster) lines() (decisions, events map[string]clusterLine) {
	c.t.Helper()
	decisions, events = make(map[string]clusterLine), make(map[string]clusterLine)
	for i, r := range c.replicas {
		at := 0
		for line := range strings.Lines(r.Log()) {
			var entry clusterLine
			if strings.Contains(line, `"decision_id"`) && json.Unmarshal([]byte(line), &entry) == nil {
				entry.replica = i
				entry.run, _ = slices.BinarySearch(r.killed, at+1)
				switch entry.Msg {
				case "decision":
					decisions[entry.DecisionID] = entry
				case "decision event":
					events[entry.DecisionID] = entry
				}
			}
			at += len(line)
		}
	}
	return decisions, events
}

// everywhere is since when a revision decides on every replica.
type everywhere struct {
	revision int
	since    time.Time
}

// checkReads fails if an answer is not what the policy of the revision says that
// made it, or if that one was older than what was everywhere already.
func (l *clusterLoad) checkReads(decisions map[string]clusterLine, current []everywhere) {
	l.t.Helper()
	for _, problem := range l.wrong {
		l.t.Error(problem)
	}
	unlogged := 0
	for _, read := range l.reads {
		line, found := decisions[read.id]
		if !found {
			unlogged++ // its replica was killed after it had answered
			continue
		}
		var revision int
		if _, err := fmt.Sscanf(line.Revision, "team@%d", &revision); err != nil || read.status != right(revision, read.path) {
			l.t.Errorf("%s: %d by revision %s", read.path, read.status, line.Revision)
		}
		for _, newer := range current {
			if read.asked.After(newer.since) && revision < newer.revision {
				l.t.Errorf("replica %d decided by revision %d, %s after %d was everywhere", line.replica, revision, read.asked.Sub(newer.since), newer.revision)
			}
		}
	}
	kills := 0
	for _, r := range l.replicas {
		kills += len(r.killed)
	}
	if unlogged > 10*kills {
		l.t.Errorf("%d answers have no line in any log, %d replicas were killed", unlogged, kills)
	}
	l.t.Logf("%d reads were answered rightly, %d were broken off", len(l.reads), l.lost)
}

// checkEvents fails if an event is missing at the server that is not counted
// as dropped, or was in the memory of a process that was killed.
func (c *cluster) checkEvents(events map[string]clusterLine) {
	c.t.Helper()
	var dropped float64
	for _, r := range c.replicas {
		for _, count := range r.admin.Metrics(c.t, "caddy_metaguard_events_dropped_total") {
			dropped += count
		}
	}
	var missing, killed int
	c.replicas[0].Eventually("the events of living replicas arrive", func() bool {
		received := make(map[any]bool)
		for _, event := range c.policies.received() {
			received[event["decision_id"]] = true
		}
		missing, killed = 0, 0
		for id, event := range events {
			switch {
			case received[id]:
			case event.run < len(c.replicas[event.replica].killed):
				killed++
			default:
				missing++
			}
		}
		return float64(missing) <= dropped
	})
	c.t.Logf("%d events: %v dropped and counted, %d not yet sent when their replica was killed, which its own log has", len(events), dropped, killed)
}

// replicasOf tells which replicas sent events.
func (c *cluster) replicasOf(events []map[string]any) int {
	names := make(map[string]bool)
	for _, event := range events {
		labels, _ := event["labels"].(map[string]any)
		names[fmt.Sprint(labels["replica"])] = true
	}
	return len(names)
}

// eachReplica asks every replica itself until all answers are as they should be, and
// tells how long it took.
func (c *cluster) eachReplica(t *testing.T, what string, ask func(r *clusterReplica) bool) time.Duration {
	t.Helper()
	began := time.Now()
	for _, r := range c.replicas {
		r.Eventually(what, func() bool { return ask(r) })
	}
	return time.Since(began)
}

// status gives the status of a read by a replica itself.
func (c *cluster) status(to string, path string) int {
	answer := c.ask(to, c.probe(), http.MethodGet, path, "")
	return answer.Status
}

var probes atomic.Int64

// probe is an instance of the test's own, another one each time.
func (c *cluster) probe() int {
	return firstProbe + int(probes.Add(1))%(clusterInstances-firstProbe)
}
