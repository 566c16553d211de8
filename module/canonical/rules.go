// SPDX-License-Identifier: Apache-2.0

package canonical

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
)

// Rules are what the dialect and the operator add to the rules of this package.
// They are built once, when Caddy provisions the site. The zero value is the
// strictest.
type Rules struct {
	// ExtraPathBytes are allowed in a path beside A-Za-z0-9._~-/ (ec2:
	// ":=+,@"). They may be among $&+,:=@ only.
	ExtraPathBytes string
	// Query holds the query names that the dialect knows. Where it is empty, any
	// query is refused; a bare "?" is dropped.
	Query []string
	// Headers are forwarded beside Accept, User-Agent and Content-Type: the
	// dialect's own. One that is in Identity too is not.
	Headers []string
	// Forward is the operator's forward_headers.
	Forward []string
	// Identity holds the names of headers that tell who calls. They are never
	// forwarded. A request is refused that has one twice, spells one with an
	// underscore or announces one as a trailer.
	Identity []string
	// Hosts is require_host: if it is not empty, the client's Host must be one
	// of them, whatever port, case, brackets, zone or final dot it has.
	Hosts []string
	// RequireName and RequireValue are require_header: if there is one, a request
	// must have this header exactly once, with this value in any case.
	RequireName, RequireValue string
}

// Canonicalizer reads requests by one set of rules. It never changes, so any
// number of requests may use it at a time.
type Canonicalizer struct {
	pathBytes [256]problem
	query     map[string]struct{}
	headers   map[string]headerRule
	identity  map[string]struct{} // folded names
	forward   []field
	hosts     map[string]struct{} // nil: any

	requireName, requireValue string // empty: none
}

// Compile checks rules, which may have come in as JSON past the Caddyfile, and
// makes the look-up tables.
func (r Rules) Compile() (*Canonicalizer, error) {
	for i := range len(r.ExtraPathBytes) {
		if strings.IndexByte(extraPathBytes, r.ExtraPathBytes[i]) < 0 {
			return nil, fmt.Errorf("extra path byte %q: only %s can be allowed", r.ExtraPathBytes[i], extraPathBytes)
		}
	}
	c := &Canonicalizer{pathBytes: pathTable(r.ExtraPathBytes)}
	for _, step := range []func(Rules) error{c.compileQuery, c.compileIdentity, c.compileForward, c.compileHosts, c.compileRequired} {
		if err := step(r); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func (c *Canonicalizer) compileQuery(r Rules) error {
	c.query = make(map[string]struct{}, len(r.Query))
	for _, name := range r.Query {
		if name == "" || strings.ContainsFunc(name, func(b rune) bool { return b > '~' || !isUnreserved(byte(b)) }) {
			return fmt.Errorf("query name %q: only A-Za-z0-9._~- can stand in it", name)
		}
		c.query[name] = struct{}{}
	}
	return nil
}

func (c *Canonicalizer) compileIdentity(r Rules) error {
	c.headers = commonRules()
	c.identity = make(map[string]struct{}, len(r.Identity))
	for _, name := range r.Identity {
		if err := checkHeaderName(name); err != nil {
			return fmt.Errorf("identity %w", err)
		}
		name = http.CanonicalHeaderKey(name)
		rule := c.headers[name]
		rule.identity = true
		if rule.doubled == fine {
			rule.doubled = headerIdentityDoubled
		}
		c.headers[name] = rule
		c.identity[string(appendFolded(nil, name))] = struct{}{}
	}
	return nil
}

func (c *Canonicalizer) compileForward(r Rules) error {
	c.add("Accept", field{max: maxCommonValue, joined: true})
	c.add("User-Agent", field{max: maxCommonValue})
	c.add("Content-Type", field{max: maxCommonValue})
	for _, name := range r.Headers {
		if err := CheckForwardHeader(name); err != nil {
			return fmt.Errorf("dialect's %w", err)
		}
		c.add(name, field{max: maxOwnValue})
	}
	for _, name := range r.Forward {
		if err := CheckForwardHeader(name); err != nil {
			return fmt.Errorf("forward_headers: %w", err)
		}
		if c.headers[http.CanonicalHeaderKey(name)].identity {
			return fmt.Errorf("forward_headers: header %s: this site finds out from it who calls, so it is never forwarded", name)
		}
		c.add(name, field{max: maxOwnValue})
	}
	return nil
}

// add puts a header on the list of those that go upstream, once.
func (c *Canonicalizer) add(name string, f field) {
	f.name = http.CanonicalHeaderKey(name)
	if c.headers[f.name].identity {
		return
	}
	for i := range c.forward {
		if c.forward[i].name == f.name {
			return
		}
	}
	if !mayHoldSecret(f.name) {
		f.lower = strings.ToLower(f.name)
	}
	c.forward = append(c.forward, f)
}

func (c *Canonicalizer) compileHosts(r Rules) error {
	if len(r.Hosts) == 0 {
		return nil
	}
	c.hosts = make(map[string]struct{}, len(r.Hosts))
	for _, text := range r.Hosts {
		if text == "" {
			return errors.New("require_host: a host is empty")
		}
		if address, err := netip.ParseAddr(text); err == nil && address.Is6() {
			text = "[" + text + "]"
		}
		host, ok := splitHost(text)
		if !ok {
			return fmt.Errorf("require_host: %q is neither a host name nor an address", text)
		}
		c.hosts[host] = struct{}{}
	}
	return nil
}

func (c *Canonicalizer) compileRequired(r Rules) error {
	if r.RequireName == "" && r.RequireValue == "" {
		return nil
	}
	if err := CheckForwardHeader(r.RequireName); err != nil {
		return fmt.Errorf("require_header: %w", err)
	}
	name := http.CanonicalHeaderKey(r.RequireName)
	if c.headers[name].identity {
		return fmt.Errorf("require_header: header %s: this site finds out from it who calls, so it cannot be the same in every request", name)
	}
	if r.RequireValue == "" || checkValue(r.RequireValue, maxCommonValue) != fine || strings.Trim(r.RequireValue, " \t") != r.RequireValue {
		return fmt.Errorf("require_header: header %s: its value must be printable ASCII, with no blank around it", name)
	}
	c.requireName, c.requireValue = name, r.RequireValue
	return nil
}
