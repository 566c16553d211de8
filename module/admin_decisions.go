// SPDX-License-Identifier: Apache-2.0

package module

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/metaguard/metaguard/module/decision"
)

// decisionsPath is the endpoint that shows the last decisions.
const decisionsPath = "/metaguard/decisions"

// defaultDecisions is how many are shown that nobody gave a limit for.
const defaultDecisions = 100

// decisionsAnswer holds decisions, the newest first.
type decisionsAnswer struct {
	// Ever is how many there were since the process began, Overwritten how many of
	// these are not kept any more, and Matched how many of the kept ones were asked
	// for, of which the newest are shown.
	Ever        uint64 `json:"ever"`
	Overwritten uint64 `json:"overwritten"`
	Matched     int    `json:"matched"`
	// Decisions have `time` and the fields of the decision log. Texts of more than
	// 512 bytes, and lists of more than 32 entries, are cut.
	Decisions []json.RawMessage `json:"decisions"`
}

// decisionFilter says which decisions are asked for.
type decisionFilter struct {
	since time.Time
	want  map[string]string // by the name of the field
	limit int
}

// filterFields are the fields that a question can name beside since and limit.
var filterFields = []string{"caller", "decision_id", "reason", "verdict"}

// serveDecisions shows the last decisions.
func serveDecisions(w http.ResponseWriter, r *http.Request) error {
	if err := onlyOwner(w, r, http.MethodGet); err != nil {
		return err
	}
	query, err := knownQuery(r, append([]string{"since", "limit"}, filterFields...)...)
	if err != nil {
		return adminError(http.StatusBadRequest, err)
	}
	filter, err := readDecisionFilter(query, time.Now())
	if err != nil {
		return adminError(http.StatusBadRequest, err)
	}
	answer, err := filter.apply(&recentDecisions)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, answer)
}

// knownQuery gives the query, if it has no name but these and each once.
func knownQuery(r *http.Request, names ...string) (url.Values, error) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, errors.New("the query cannot be read")
	}
	for name, values := range query {
		switch {
		case !slices.Contains(names, name):
			return nil, fmt.Errorf("the query has an unknown %q; there are: %s", name, strings.Join(names, " "))
		case len(values) > 1:
			return nil, fmt.Errorf("the query has %s twice", name)
		}
	}
	return query, nil
}

func readDecisionFilter(query url.Values, now time.Time) (*decisionFilter, error) {
	f := &decisionFilter{want: make(map[string]string), limit: defaultDecisions}
	if text := query.Get("since"); text != "" {
		if back, err := time.ParseDuration(text); err == nil {
			f.since = now.Add(-back.Abs())
		} else if f.since, err = time.Parse(time.RFC3339, text); err != nil {
			return nil, fmt.Errorf("since %q: it is a time such as 2026-01-02T15:04:05Z, or how long ago, such as 15m", text)
		}
	}
	if text := query.Get("limit"); text != "" {
		var err error
		if f.limit, err = strconv.Atoi(text); err != nil || f.limit < 1 || f.limit > maxRecent {
			return nil, fmt.Errorf("limit %q: it is 1 to %d", text, maxRecent)
		}
	}
	for _, name := range filterFields {
		if text := query.Get(name); text != "" {
			f.want[name] = text
		}
	}
	switch verdict := decision.Verdict(f.want["verdict"]); verdict {
	case "", decision.Allow, decision.Deny, decision.WouldDeny:
	default:
		return nil, fmt.Errorf("verdict %q: it is %s, %s or %s", verdict, decision.Allow, decision.Deny, decision.WouldDeny)
	}
	if reason := decision.Reason(f.want["reason"]); reason != "" && !reason.Valid() {
		return nil, fmt.Errorf("reason %q is none", reason)
	}
	return f, nil
}

// apply takes what was asked for.
func (f *decisionFilter) apply(from *recent) (*decisionsAnswer, error) {
	kept, ever := from.all()
	answer := &decisionsAnswer{Ever: ever, Overwritten: ever - min(ever, maxRecent), Decisions: []json.RawMessage{}}
	for _, one := range kept {
		if !f.matches(one) {
			continue
		}
		answer.Matched++
		if len(answer.Decisions) == f.limit {
			continue
		}
		line, err := recentEncoder.Clone().EncodeEntry(zapcore.Entry{Time: one.at}, []zap.Field{one.field()})
		if err != nil {
			return nil, fmt.Errorf("encoding a decision: %w", err)
		}
		answer.Decisions = append(answer.Decisions, json.RawMessage(line.String()))
		line.Free()
	}
	return answer, nil
}

func (f *decisionFilter) matches(one *decisionLine) bool {
	if one.at.Before(f.since) {
		return false
	}
	for name, want := range f.want {
		if one.text(name) != want {
			return false
		}
	}
	return true
}

// recentEncoder writes a decision as Caddy's log does, with the time for people.
var recentEncoder = zapcore.NewJSONEncoder(zapcore.EncoderConfig{
	TimeKey:        "time",
	EncodeTime:     zapcore.RFC3339NanoTimeEncoder,
	EncodeDuration: zapcore.SecondsDurationEncoder,
	SkipLineEnding: true,
})
