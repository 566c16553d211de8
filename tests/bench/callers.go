// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
)

const (
	// callerCount is how many callers there are; one hot key would prove nothing.
	callerCount = 10_000
	// zipfExponent is how much more often the first callers ask: with 1.1 the first
	// one makes a seventh of the requests, and half of them come from the first fifty.
	zipfExponent = 1.1
	// drawn is how many draws there are before they repeat.
	drawn = 1 << 20

	neutronSecret = "bench-s3cret-of-the-agent-and-nova"
)

// caller is one instance, as Neutron's agent tells of it.
type caller struct {
	instance, project, address, signature string
}

// newCaller is the n-th caller of all that there can be.
func newCaller(n uint64) caller {
	mixed := n * 0x9e3779b97f4a7c15
	c := caller{
		instance: fmt.Sprintf("%08x-%04x-4%03x-8%03x-%012x", uint32(mixed>>32), uint16(mixed>>16), mixed&0xfff, (n>>36)&0xfff, n&0xfff_fff_fff_fff),
		project:  fmt.Sprintf("%032x", n%500+1),
		address:  fmt.Sprintf("10.%d.%d.%d", byte(n>>16), byte(n>>8), byte(n)),
	}
	mac := hmac.New(sha256.New, []byte(neutronSecret))
	mac.Write([]byte(c.instance))
	c.signature = hex.EncodeToString(mac.Sum(nil))
	return c
}

// headers are what the caller's agent sends after the request line.
func (c *caller) headers() []byte {
	return fmt.Appendf(nil, " HTTP/1.1\r\nHost: 169.254.169.254\r\nUser-Agent: Cloud-Init/24.4\r\nAccept: */*\r\n"+
		"X-Instance-ID: %s\r\nX-Tenant-ID: %s\r\nX-Instance-ID-Signature: %s\r\nX-Forwarded-For: %s\r\n\r\n",
		c.instance, c.project, c.signature, c.address)
}

// source gives requests to any number of clients.
type source interface {
	// next appends a request to buffer and says which path it asks for; ok is false
	// when there are no more.
	next(client int, buffer []byte) (request []byte, path int, ok bool)
}

// crowd draws from the same callers again and again, in a Zipf order.
type crowd struct {
	headers [][]byte
	draws   []uint32 // caller and path in one
	at      []uint32 // where each client is
}

// newCrowd has so many callers of all, evenly spread: every one, every tenth, ….
func newCrowd(seed uint64, callers, all int) *crowd {
	c := &crowd{headers: make([][]byte, callers), draws: make([]uint32, drawn), at: make([]uint32, maxClients*spread)}
	for i := range c.headers {
		one := newCaller(uint64(i * (all / callers)))
		c.headers[i] = one.headers()
	}
	random := rand.New(rand.NewPCG(seed, seed))
	zipf := rand.NewZipf(random, zipfExponent, 1, uint64(callers-1))
	for i := range c.draws {
		c.draws[i] = uint32(zipf.Uint64())*uint32(len(paths)) + random.Uint32N(uint32(len(paths)))
	}
	for i := range maxClients {
		c.at[i*spread] = random.Uint32()
	}
	return c
}

// maxClients is the most clients of one source; spread keeps their counters on
// different cache lines.
const (
	maxClients = 4096
	spread     = 16
)

func (c *crowd) next(client int, buffer []byte) ([]byte, int, bool) {
	at := &c.at[client*spread]
	*at++
	draw := c.draws[*at%drawn]
	path := int(draw) % len(paths)
	return render(buffer, path, c.headers[int(draw)/len(paths)]), path, true
}

// readers ask for the first path only, a JSON document.
type readers struct{ *crowd }

func (r *readers) next(client int, buffer []byte) ([]byte, int, bool) {
	at := &r.at[client*spread]
	*at++
	return render(buffer, 0, r.headers[int(*at)%len(r.headers)]), 0, true
}

// limited is a source that ends. It is for one client.
type limited struct {
	source
	left int
}

func (l *limited) next(client int, buffer []byte) ([]byte, int, bool) {
	if l.left--; l.left < 0 {
		return buffer, 0, false
	}
	return l.source.next(client, buffer)
}

// everyone asks for every path of every caller once, so that all was seen.
type everyone struct {
	*crowd
	until int // so many requests
	taken atomic.Int64
}

func (e *everyone) next(_ int, buffer []byte) ([]byte, int, bool) {
	n := int(e.taken.Add(1)) - 1
	if n >= e.until {
		return buffer, 0, false
	}
	path := n % len(paths)
	return render(buffer, path, e.headers[n/len(paths)%len(e.headers)]), path, true
}

// strangers are callers that have never been seen. They are made before a round and
// are gone when it ends.
type strangers struct {
	headers [][]byte
	taken   atomic.Int64
}

// strangersSeen is the number of the next stranger of this run.
var strangersSeen uint64 = 1 << 20

func newStrangers(n int) *strangers {
	s := &strangers{headers: make([][]byte, n)}
	for i := range s.headers {
		one := newCaller(strangersSeen)
		s.headers[i] = one.headers()
		strangersSeen++
	}
	return s
}

func (s *strangers) next(_ int, buffer []byte) ([]byte, int, bool) {
	n := int(s.taken.Add(1)) - 1
	if n >= len(s.headers) {
		return buffer, 0, false
	}
	path := n % len(paths)
	return render(buffer, path, s.headers[n]), path, true
}

func render(buffer []byte, path int, headers []byte) []byte {
	buffer = append(buffer, "GET "...)
	buffer = append(buffer, paths[path]...)
	return append(buffer, headers...)
}
