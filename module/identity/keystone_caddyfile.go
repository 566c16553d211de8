// SPDX-License-Identifier: Apache-2.0

package identity

import (
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
	settings := map[string]func(*caddyfile.Dispenser) error{
		"url": k.unmarshalURL, "ca": k.unmarshalCA, "cache": k.unmarshalCache,
		"cache_size": k.unmarshalCacheSize, "timeout": k.unmarshalTimeout, "target": k.unmarshalTarget,
	}
	given := make(map[string]bool, len(settings))
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		name := d.Val()
		read, ok := settings[name]
		switch {
		case !ok:
			return d.Errf("unknown setting %q of identify keystone: it has url, ca, cache, cache_size, timeout and target", name)
		case given[name]:
			return d.Errf("%s is given twice", name)
		}
		given[name] = true
		if err := read(d); err != nil {
			return err
		}
		if d.NextBlock(d.Nesting()) {
			return d.Errf("%s takes no block", name)
		}
	}
	if !given["url"] {
		return d.Err("identify keystone needs Keystone's endpoint: url https://<host>:5000/v3")
	}
	return nil
}

func (k *Keystone) unmarshalURL(d *caddyfile.Dispenser) (err error) {
	if k.URL, err = onlyArgument(d); err != nil {
		return err
	}
	if _, err = keystoneEndpoint(k.URL); err != nil {
		return d.WrapErr(err)
	}
	return nil
}

func (k *Keystone) unmarshalCA(d *caddyfile.Dispenser) error {
	path, err := onlyArgument(d)
	if err != nil {
		return err
	}
	if k.CA, err = besideCaddyfile(d, path); err != nil {
		return err
	}
	k.CADigest = fileDigest(k.CA)
	return nil
}

func (k *Keystone) unmarshalCache(d *caddyfile.Dispenser) error {
	text, err := onlyArgument(d)
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
	text, err := onlyArgument(d)
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
	text, err := onlyArgument(d)
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

func (k *Keystone) unmarshalTarget(d *caddyfile.Dispenser) (err error) {
	k.Target, err = unmarshalTarget(d)
	return err
}

// onlyArgument is the one argument of the setting that d is at.
func onlyArgument(d *caddyfile.Dispenser) (string, error) {
	name, args := d.Val(), d.RemainingArgs()
	if len(args) != 1 || args[0] == "" {
		return "", d.Errf("%s takes exactly one argument; a {$NAME} that is not set leaves none", name)
	}
	return args[0], nil
}
