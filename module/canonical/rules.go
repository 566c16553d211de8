// SPDX-License-Identifier: Apache-2.0

package canonical

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// Rules are what the dialect and the operator add to the rules of this package.
// They are built once, when Caddy provisions the site. The zero value is the
// strictest.
type Rules struct {
	// ExtraPathBytes are allowed in a path beside A-Za-z0-9._~-/ (ec2:
	// ":=+,@"). They may be among $&+,:=@ only.
	ExtraPathBytes string
	// Query holds the query names that the dialect knows, each with the only
	// values that it may have, in any case; none means any value. Where it is
	// empty, any query is refused; a bare "?" is dropped.
	Query map[string][]string
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
	// Required holds headers that every request must have exactly once, with
	// this value in any case: the dialect's and require_header.
	Required []Header
	// Command is the dialect's header that says what is asked for, in the
	// spelling in which it goes upstream. It may have an underscore.
	Command string
	// RefuseForwarded refuses requests that a proxy passed on.
	RefuseForwarded bool
}

// Header is a header with its value.
type Header struct{ Name, Value string }

// Canonicalizer reads requests by one set of rules. It never changes, so any
// number of requests may use it at a time.
type Canonicalizer struct {
	pathBytes [256]problem
	query     map[string][]string
	headers   map[string]headerRule
	identity  map[string]struct{} // folded names
	forward   []field
	hosts     map[string]struct{} // nil: any

	required        []Header
	refuseForwarded bool
}

// Compile checks rules, which may have come in as JSON past the Caddyfile, and
// makes the look-up tables.
func (r Rules) Compile() (*Canonicalizer, error) {
	for i := range len(r.ExtraPathBytes) {
		if strings.IndexByte(extraPathBytes, r.ExtraPathBytes[i]) < 0 {
			return nil, fmt.Errorf("extra path byte %q: only %s can be allowed", r.ExtraPathBytes[i], extraPathBytes)
		}
	}
	c := &Canonicalizer{pathBytes: pathTable(r.ExtraPathBytes), refuseForwarded: r.RefuseForwarded}
	for _, step := range []func(Rules) error{c.compileQuery, c.compileIdentity, c.compileForward, c.compileCommand, c.compileHosts, c.compileRequired} {
		if err := step(r); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func (c *Canonicalizer) compileQuery(r Rules) error {
	c.query = make(map[string][]string, len(r.Query))
	for name, values := range r.Query {
		if name == "" || strings.ContainsFunc(name, func(b rune) bool { return b > '~' || !isUnreserved(byte(b)) }) {
			return fmt.Errorf("query name %q: only A-Za-z0-9._~- can stand in it", name)
		}
		c.query[name] = slices.Clone(values)
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

// compileCommand takes the one header whose name may have an underscore. As a
// WSGI server would read it, it is refused beside its own spelling.
func (c *Canonicalizer) compileCommand(r Rules) error {
	if r.Command == "" {
		return nil
	}
	plain := strings.ReplaceAll(r.Command, "_", "-")
	if err := CheckForwardHeader(plain); err != nil {
		return fmt.Errorf("dialect's %w", err)
	}
	arrives := http.CanonicalHeaderKey(r.Command) // as net/http spells it
	c.headers[arrives] = headerRule{doubled: headerDoubled}
	c.headers[http.CanonicalHeaderKey(plain)] = headerRule{once: headerIdentityAlias}
	c.identity[string(appendFolded(nil, arrives))] = struct{}{}
	c.forward = append(c.forward, field{name: arrives, sent: r.Command, lower: strings.ToLower(arrives), max: maxCommonValue})
	return nil
}

func (c *Canonicalizer) compileRequired(r Rules) error {
	for _, header := range r.Required {
		if err := CheckForwardHeader(header.Name); err != nil {
			return fmt.Errorf("require_header: %w", err)
		}
		name := http.CanonicalHeaderKey(header.Name)
		if c.headers[name].identity {
			return fmt.Errorf("require_header: header %s: this site finds out from it who calls, so it cannot be the same in every request", name)
		}
		if header.Value == "" || checkValue(header.Value, maxCommonValue) != fine || strings.Trim(header.Value, " \t") != header.Value {
			return fmt.Errorf("require_header: header %s: its value must be printable ASCII, with no blank around it", name)
		}
		c.required = append(c.required, Header{name, header.Value})
	}
	return nil
}
