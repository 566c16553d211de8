// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/metaguard/metaguard/module/decision"
)

// The clock of a latch's Redis counts, and neither finding nor error shows its URL.
func TestRedisClock(t *testing.T) {
	const url = "redis://u:pl4nted@192.0.2.1:6379/0"
	t.Setenv("METAGUARD_TEST_LATCH", url+"\n")
	config := strings.Replace(guarded("openstack", "not known", `{}`, ""), `"handler":"metaguard",`,
		`"handler":"metaguard","password":{"latch":{"latch":"redis","url":"{env.METAGUARD_TEST_LATCH}"}},`, 1)
	for name, test := range map[string]struct {
		off         time.Duration
		err         error
		found, done string
	}{
		"right":       {},
		"a bit off":   {off: clockSlack - time.Second},
		"ahead":       {off: time.Hour, found: "1h0m0s ahead of this host's"},
		"behind":      {off: -time.Hour, found: "1h0m0s behind this host's"},
		"cannot tell": {err: errors.New("the Redis user may not ask"), done: "the Redis user may not ask"},
	} {
		var report *Report
		found := examineTree(t, "clock_off", config, func(x *examination) {
			x.prober = &prober{timeout: time.Minute, silent: map[string]error{}}
			x.needs.RedisTime = func(_ context.Context, asked decision.Secret) (time.Time, error) {
				if string(asked.Reveal()) != url {
					t.Errorf("asked at %q", asked.Reveal())
				}
				return time.Now().Add(test.off), test.err
			}
			report = x.report
		})
		all := strings.Join(found, "\n")
		var unable strings.Builder
		for _, u := range report.Unchecked {
			if strings.Contains(u.Where, "Redis") {
				unable.WriteString(u.Where + ": " + u.Why)
			}
		}
		if (test.found != "") != (len(found) == 1) || !strings.Contains(all, test.found) || (test.done != "") != (unable.Len() > 0) || !strings.Contains(unable.String(), test.done) ||
			strings.Contains(all+unable.String(), "pl4nted") {
			t.Errorf("%s: %q, %q", name, found, unable.String())
		}
	}
}
