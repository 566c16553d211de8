// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"time"

	"github.com/open-policy-agent/opa/v1/plugins/bundle"
)

// A bundle that was persisted may be weeks old, and allow what was taken back
// since. So at a start the first policy is held back until every bundle's server
// was asked once, whatever it said; one that does not answer is waited for half of
// [Config.ReadyTimeout], so that what was persisted decides in the other half.
//
// Where discovery says which bundles there are, nothing is held back: OPA does
// not tell when those are asked for.

// hold begins to hold the first policy back.
func (e *Engine) hold() {
	e.loading.Lock()
	defer e.loading.Unlock()
	e.holding = true
	e.holdTimer = time.AfterFunc(e.settings.ReadyTimeout/2, e.release)
}

// release makes the policy live that was held back, if one was.
func (e *Engine) release() {
	start := time.Now()
	e.loading.Lock()
	defer e.loading.Unlock()
	if !e.holding {
		return
	}
	e.holding = false
	e.holdTimer.Stop()
	if held := e.held; held != nil {
		e.held = nil
		e.adopted(start, held)
	}
}

// stopHolding leaves what is held back where it is, for good.
func (e *Engine) stopHolding() {
	e.loading.Lock()
	defer e.loading.Unlock()
	if e.holdTimer != nil {
		e.holdTimer.Stop()
	}
}

// askedForAll tells whether there was an answer, or none, about every bundle.
func askedForAll(states map[string]*bundle.Status) bool {
	for _, state := range states {
		if state.LastRequest.IsZero() {
			return false
		}
	}
	return true
}
