// SPDX-License-Identifier: Apache-2.0

package tests

import (
	"fmt"
	"testing"
)

// What OPA's buffer has no room for is counted, event for event: what was decided
// is what arrived and what was dropped.
func TestDroppedEventsAreCounted(t *testing.T) {
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
	dropped := 0.0
	for _, count := range s.admin.Metrics(t, "caddy_metaguard_events_dropped_total") {
		dropped += count
	}
	s.Stop()
	if arrived := len(c.received()); dropped != asked-room || arrived != room {
		t.Errorf("%v were dropped and %d arrived of %d, with room for %d", dropped, arrived, asked, room)
	}
}
