// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// parsePrefix reads an address or a prefix as the operator wrote it. An
// IPv4-mapped IPv6 one is IPv4. Whatever could mean something other than it
// says is an error: a zone, host bits, and a prefix that covers everything.
func parsePrefix(text string) (netip.Prefix, error) {
	if !strings.Contains(text, "/") {
		return parseSingle(text)
	}
	prefix, err := netip.ParsePrefix(text)
	if err != nil {
		return netip.Prefix{}, notAnAddress(text)
	}
	if prefix.Addr().Is4In6() && prefix.Bits() > 0 {
		if prefix.Bits() < 96 {
			return netip.Prefix{}, fmt.Errorf("%q is an IPv4-mapped prefix shorter than 96 bits: write the IPv4 prefix", text)
		}
		prefix = netip.PrefixFrom(prefix.Addr().Unmap(), prefix.Bits()-96)
	}
	if prefix.Bits() == 0 {
		return netip.Prefix{}, fmt.Errorf("%q covers every address: name the ones that you mean", text)
	}
	if masked := prefix.Masked(); masked != prefix {
		return netip.Prefix{}, fmt.Errorf("%q has bits set behind its length: write %s, or %s for the one address", text, masked, prefix.Addr())
	}
	return prefix, nil
}

func parseSingle(text string) (netip.Prefix, error) {
	addr, err := netip.ParseAddr(text)
	switch {
	case err != nil:
		return netip.Prefix{}, notAnAddress(text)
	case addr.Zone() != "":
		return netip.Prefix{}, fmt.Errorf("%q has a zone, which is not compared: leave it out", text)
	case addr.Unmap().IsUnspecified():
		return netip.Prefix{}, fmt.Errorf("%q is nobody's address: name the ones that you mean", text)
	}
	addr = addr.Unmap()
	return netip.PrefixFrom(addr, addr.BitLen()), nil
}

func notAnAddress(text string) error {
	if text == "" {
		return errors.New("the address is empty: write an address like 10.0.0.5 or a prefix like 10.1.0.0/16")
	}
	return fmt.Errorf("%q is neither an address like 10.0.0.5 nor a prefix like 10.1.0.0/16", text)
}
