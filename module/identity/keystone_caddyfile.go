// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"slices"
	"strconv"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// UnmarshalCaddyfile reads the whole grammar:
//
//	identify keystone {
//		url        <url>            # required: Keystone's v3 endpoint; a bare host gets /v3; https, except on loopback
//		ca         <file>           # PEM: the only authorities that count; default: the system's
//		cache      <duration>|off   # how long a checked token is believed, and so how late a revocation may be noticed; default: 30s, at most 5m
//		cache_size <n>              # how many tokens; default: 10000
//		timeout    <duration>       # default: 3s
//		target     remote_ip <inventory-file> [connection|client_ip|proxy_protocol]
//		target     claim <name> [<project-claim>]
//		target     request <inventory-file>
//	}
//
// There is one target at most. A relative path is relative to the Caddyfile.
func (k *Keystone) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the name of the source
	if d.NextArg() {
		return d.Err("identify keystone takes a block, not an argument")
	}
	given, err := unmarshalBlock(d, "identify keystone",
		setting{"url", func() (err error) {
			if k.URL, err = unmarshalOne(d); err != nil {
				return err
			}
			_, err = keystoneEndpoint(k.URL)
			return wrap(d, err)
		}},
		setting{"ca", func() (err error) {
			k.CA, err = unmarshalFile(d)
			k.CADigest = fileDigest(k.CA)
			return err
		}},
		setting{"cache", func() error { return k.unmarshalCache(d) }},
		setting{"cache_size", func() error { return k.unmarshalCacheSize(d) }},
		setting{"timeout", func() error { return k.unmarshalTimeout(d) }},
		setting{"target", func() (err error) { k.Target, err = unmarshalTarget(d); return err }},
	)
	if err != nil {
		return err
	}
	if !slices.Contains(given, "url") {
		return d.Err("identify keystone needs Keystone's endpoint: url https://<host>:5000/v3")
	}
	return nil
}

func (k *Keystone) unmarshalCache(d *caddyfile.Dispenser) error {
	text, err := unmarshalOne(d)
	if err != nil {
		return err
	}
	if text == "off" || text == "0" {
		k.Cache = -1
		return nil
	}
	lifetime, err := caddy.ParseDuration(text)
	switch {
	case err != nil || lifetime < 0:
		return d.Errf("cache %q: it is a duration such as 30s, or off", text)
	case lifetime == 0:
		lifetime = -1 // 0s means what 0 does
	case lifetime > maxKeystoneCache:
		return d.Errf("cache %s: it is at most %s, since a revoked token is believed for so long", lifetime, maxKeystoneCache)
	}
	k.Cache = caddy.Duration(lifetime)
	return nil
}

func (k *Keystone) unmarshalCacheSize(d *caddyfile.Dispenser) error {
	text, err := unmarshalOne(d)
	if err != nil {
		return err
	}
	size, err := strconv.Atoi(text)
	if err != nil || size < 1 || size > maxKeystoneCacheSize {
		return d.Errf("cache_size %q: it is 1 to %d tokens; to believe none, write cache off", text, maxKeystoneCacheSize)
	}
	k.CacheSize = size
	return nil
}

func (k *Keystone) unmarshalTimeout(d *caddyfile.Dispenser) error {
	text, err := unmarshalOne(d)
	if err != nil {
		return err
	}
	timeout, err := caddy.ParseDuration(text)
	if err != nil || timeout <= 0 || timeout > maxKeystoneTimeout {
		return d.Errf("timeout %q: it is a duration such as 3s, at most %s", text, maxKeystoneTimeout)
	}
	k.Timeout = caddy.Duration(timeout)
	return nil
}
