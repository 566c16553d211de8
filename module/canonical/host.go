// SPDX-License-Identifier: Apache-2.0

package canonical

import (
	"net/netip"
	"strings"
)

// maxHost is the longest host that is read, in bytes: a DNS name of full
// length.
const maxHost = 253

// readHost reads the client's Host, which is never forwarded, and holds it
// against require_host. A HTTP/1.0 request may have none.
func (c *Canonicalizer) readHost(q *Request, raw string) problem {
	host, ok := splitHost(raw)
	if !ok {
		return hostMalformed
	}
	if c.hosts != nil {
		if _, known := c.hosts[host]; !known {
			return hostUnknown
		}
	}
	q.Host = host
	return fine
}

// splitHost takes port, brackets and zone from a Host header, and makes one
// spelling of what remains.
func splitHost(raw string) (host string, ok bool) {
	if raw == "" {
		return "", true
	}
	var port string
	if inner, bracketed := strings.CutPrefix(raw, "["); bracketed {
		if host, port, ok = strings.Cut(inner, "]"); !ok {
			return "", false
		}
		if port != "" && port[0] != ':' {
			return "", false
		}
		port = strings.TrimPrefix(port, ":")
		host, ok = ipv6(host)
	} else {
		host, port, _ = strings.Cut(raw, ":")
		host, ok = hostName(host)
	}
	return host, ok && isPort(port)
}

// ipv6 writes an IPv6 address in its shortest form, without the zone: that
// tells a client's own interfaces apart, and clients of a link-local metadata
// address send it.
func ipv6(text string) (host string, ok bool) {
	text, _, _ = strings.Cut(text, "%")
	address, err := netip.ParseAddr(text)
	if err != nil || !address.Is6() {
		return "", false
	}
	return address.String(), true
}

// hostName writes a name in lower case, without the final dot that makes it
// absolute.
func hostName(text string) (host string, ok bool) {
	text = strings.TrimSuffix(text, ".")
	if text == "" || len(text) > maxHost || strings.HasSuffix(text, ".") { // "a.." is no spelling of "a."
		return "", false
	}
	for i := range len(text) {
		if b := text[i]; !isAlphanumeric(b) && b != '.' && b != '-' && b != '_' {
			return "", false
		}
	}
	return strings.ToLower(text), true
}

func isPort(text string) bool {
	for i := range len(text) {
		if text[i] < '0' || text[i] > '9' {
			return false
		}
	}
	return len(text) <= len("65535")
}
