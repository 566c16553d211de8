// SPDX-License-Identifier: Apache-2.0

package identity

import "github.com/metaguard/metaguard/module/decision"

// Lookup is how it ended that a source asked another server, or that it had no
// need to: one closed set, for metrics.
type Lookup string

// The lookups.
const (
	// LookupCached: an answer that is remembered did.
	LookupCached Lookup = "cached"
	// LookupAnswered: the server gave a usable answer, whatever it says.
	LookupAnswered Lookup = "answered"
	// LookupFailed: it gave none.
	LookupFailed Lookup = "failed"
)

// Lookups lists the whole set.
func Lookups() []Lookup { return []Lookup{LookupCached, LookupAnswered, LookupFailed} }

// Asker is a source that asks another server, or a file that changes, whom to
// believe.
type Asker interface {
	// CountLookups gives what is called at every lookup, from any goroutine. It
	// comes after Provision, before Start and the first request.
	CountLookups(count func(Lookup))
}

// counter counts lookups; the zero value counts them nowhere.
type counter struct{ count func(Lookup) }

func (c *counter) add(lookup Lookup) {
	if c.count != nil {
		c.count(lookup)
	}
}

// ended counts a question to a server. Who hung up meanwhile is no fault of it.
func (c *counter) ended(refusal *decision.Refusal) {
	switch {
	case refusal == nil || refusal.Reason != decision.IdentityUnavailable:
		c.add(LookupAnswered)
	case refusal.Code != codeAbandoned:
		c.add(LookupFailed)
	}
}
