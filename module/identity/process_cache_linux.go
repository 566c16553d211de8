// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"sync"
	"time"
)

const (
	// maxKnownProcesses bounds the places that are remembered.
	maxKnownProcesses = 4096
	// processKnownFor is for how long one is: so long can a process that hands
	// its open connection to another keep answering for it.
	processKnownFor = 10 * time.Second
)

// place is a file descriptor of a process.
type place struct {
	pid int
	fd  string
}

// processCache remembers where sockets were found, which spares the search. It
// is a hint: what is there is looked at on each request.
type processCache struct {
	mu     sync.Mutex
	places map[socket]knownPlace
}

type knownPlace struct {
	place
	until time.Time
}

func (c *processCache) get(s socket) (place, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	known, ok := c.places[s]
	if !ok || time.Now().After(known.until) {
		return place{}, false
	}
	return known.place, true
}

func (c *processCache) put(s socket, at place) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if len(c.places) >= maxKnownProcesses {
		for old, known := range c.places {
			if now.After(known.until) {
				delete(c.places, old)
			}
		}
	}
	if c.places == nil || len(c.places) >= maxKnownProcesses {
		c.places = make(map[socket]knownPlace)
	}
	c.places[s] = knownPlace{at, now.Add(processKnownFor)}
}
