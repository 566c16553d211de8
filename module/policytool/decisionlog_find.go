// SPDX-License-Identifier: Apache-2.0

package policytool

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
)

// refusedLine is what the line of a decision in the decision log says of a
// request that may have no event: it was refused before the policy was asked.
type refusedLine struct {
	Message  string `json:"msg"`
	ID       string `json:"decision_id"`
	Reason   string `json:"reason"`
	Code     string `json:"code"`
	Revision string `json:"revision"`
}

// errFound ends a search.
var errFound = errors.New("found")

// findDecision finds a decision by its id, or says why it is not there.
func findDecision(ctx context.Context, paths []string, id string) (*record, error) {
	var (
		found   *record
		refused *refusedLine
		events  int
	)
	p, unreadable := newParser(), &unreadableError{}
	err := scanLogs(ctx, paths, nil, func(l line) error {
		if refused == nil {
			refused = readRefused(l, id)
		}
		return p.each(l, unreadable, func(r *record) error {
			events++
			if r.ID != id {
				return nil
			}
			found = r
			return errFound
		})
	})
	switch {
	case errors.Is(err, errFound):
		return found, nil
	case err != nil:
		return nil, fmt.Errorf("looking for decision %s: %w", id, err)
	case refused != nil:
		return nil, refused.err()
	case unreadable.Count > 0:
		return nil, fmt.Errorf("no decision %s among %s (%w); %s", id, plural(events, "event"), unreadable, onlyALine)
	default:
		return nil, fmt.Errorf("no decision %s among %s; %s", id, plural(events, "event"), onlyALine)
	}
}

// onlyALine is why a decision may have no event.
const onlyALine = "a request that is refused before the policy is asked (400, 401, …) has only a line in the decision log"

// readRefused reads the decision log's own line of a decision; nil if it is
// another line.
func readRefused(l line, id string) *refusedLine {
	if l.err != nil || !bytes.Contains(l.text, []byte(id)) {
		return nil
	}
	var read refusedLine
	// What cannot be read is told of by whoever reads events.
	if err := json.Unmarshal(l.text, &read); err != nil || read.Message != "decision" || read.ID != id {
		return nil
	}
	return &read
}

// err says what the line tells.
func (l *refusedLine) err() error {
	why := l.Reason
	if l.Code != "" {
		why += " (" + l.Code + ")"
	}
	if l.Revision != "" {
		// The policy was asked: the line says by its revision which.
		return fmt.Errorf("decision %s, %s, has no event with an input in these logs, only its line in the decision log: give the file with its event too", l.ID, plain(why))
	}
	return fmt.Errorf("decision %s was refused before the policy was asked: %s", l.ID, plain(why))
}
