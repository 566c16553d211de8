// SPDX-License-Identifier: Apache-2.0

package tests

import (
	"fmt"
	"testing"
)

// What was decided is what arrived and what was dropped, event for event, from the
// first request on, which a site may answer before OPA is started.
func TestEventsAddUp(t *testing.T) {
	t.Parallel()
	c := newControl(t)
	const room, asked = 20, 50
	s := newManaged(t, byBundle, map[string]string{"opa.yaml": fmt.Sprintf(
		"services: {team: {url: '%s'}}\ndecision_logs: {service: team, reporting: {buffer_size_limit_events: %d, min_delay_seconds: 600, max_delay_seconds: 600}}\n", c.URL, room,
	)})
	for range asked {
		if answer := s.get(t, metadataPath); answer.Status != 200 {
			t.Fatalf("%d %q", answer.Status, answer.Body)
		}
	}
	sum := func(name string) (total int) {
		for _, count := range s.admin.Metrics(t, "caddy_metaguard_events_"+name+"_total") {
			total += int(count)
		}
		return total
	}
	recorded, dropped := sum("recorded"), sum("dropped")
	s.Stop()
	// The first upload may have run beside the requests.
	if arrived := len(c.received()); recorded != asked || dropped+arrived != asked || arrived < room {
		t.Errorf("%d were recorded, %d dropped, and %d arrived of %d, with room for %d", recorded, dropped, arrived, asked, room)
	}
}
