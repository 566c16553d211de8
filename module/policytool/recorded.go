// SPDX-License-Identifier: Apache-2.0

package policytool

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/metaguard/metaguard/module/decision"
	"github.com/metaguard/metaguard/module/policy"
)

// recorded is what a decision log says of a request that is asked about again,
// beside what the policy says of it now.
type recorded struct {
	Verdict  decision.Verdict `json:"verdict"`
	Mode     string           `json:"mode,omitempty"`
	Reason   decision.Reason  `json:"reason"`
	Codes    []string         `json:"codes"`
	Rules    []string         `json:"rules"`
	Status   int              `json:"status,omitempty"`
	Redact   *decision.Redact `json:"redact,omitempty"`
	Revision string           `json:"revision,omitempty"`
	Time     time.Time        `json:"time"`
	// Note says how the policy that is asked differs from the one that decided
	// then, and its decision from that one's.
	Note string `json:"note,omitempty"`
}

// newRecorded puts a recorded decision beside a new one.
func newRecorded(r *record, result *policy.Result) *recorded {
	was := &recorded{
		Verdict: r.Verdict, Mode: r.Mode, Reason: r.Reason, Status: r.Status, Revision: r.Revision, Time: r.Time,
		Codes: append([]string{}, r.Codes...), Rules: append([]string{}, r.Rules...), Note: noteOn(r, result),
	}
	if !r.Redact.Empty() {
		was.Redact = &r.Redact
	}
	return was
}

// noteOn says what is different; "" if nothing is.
func noteOn(r *record, result *policy.Result) string {
	which := "this policy "
	switch r.Revision {
	case "":
	case result.Revision:
		which = "this policy is the same one, "
		if !r.Time.Equal(result.Time) {
			which += "asked at another time, "
		}
	default:
		which = "this policy is another one (" + shortRevision(result.Revision) + "), "
	}
	another := r.Revision != "" && r.Revision != result.Revision
	before, ok := recordedOutcome(r)
	if !ok {
		if another {
			return which + "and none decided then"
		}
		return "no policy decided then"
	}
	c := compare(before, newOutcome(result))
	if c == unchanged {
		if another {
			return which + "and decides the same"
		}
		return ""
	}
	if r.Revision != "" {
		which += "and "
	}
	which += map[change]string{
		verdictChanged: "decides otherwise",
		statusChanged:  "refuses with another status",
		redactChanged:  "hides other things from the answer",
		codesChanged:   "decides the same, with other codes",
	}[c]
	if r.Altered {
		which += "; the event was masked, which may be why"
	}
	return which
}

// print shows it in one line, and what is different in another.
func (r *recorded) print(w io.Writer) {
	line := string(r.Verdict)
	if r.Mode != "" {
		line += " (" + r.Mode + ")"
	}
	line += ", " + string(r.Reason)
	if len(r.Codes) > 0 {
		line += ", codes " + strings.Join(r.Codes, ", ")
	}
	if r.Revision != "" {
		line += ", revision " + shortRevision(r.Revision)
	}
	_, _ = fmt.Fprintf(w, "recorded  %s\n", plain(line))
	if r.Note != "" {
		_, _ = fmt.Fprintf(w, "%9s %s\n", "", plain(r.Note))
	}
}

// shortRevision is enough of a digest to tell it from others. Names of bundles
// stay as they are.
func shortRevision(revision string) string {
	const digest, enough = 64, 12
	if len(revision) == digest && strings.Trim(revision, "0123456789abcdef") == "" {
		return revision[:enough]
	}
	return revision
}
