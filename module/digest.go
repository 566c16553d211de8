// SPDX-License-Identifier: Apache-2.0

package module

import (
	"time"

	"github.com/metaguard/metaguard/module/policy"
)

// config is what the engine takes; it fills in the defaults.
func (p PolicyConfig) config() policy.Config {
	return policy.Config{
		Paths:         p.Paths,
		Entrypoint:    p.Entrypoint,
		Timeout:       time.Duration(p.Timeout),
		AllowBuiltins: p.AllowBuiltins,
	}
}

// digest names the content of the policy files, so that the adapted
// configuration differs when one was edited and `reload` does not take it for
// the same. Identity sources do the same for their own files. Files that
// cannot be read give none: provisioning says what is wrong with them.
func (h *Handler) digest() string {
	digest, err := policy.Digest(h.Policy.config())
	if err != nil {
		return ""
	}
	return digest
}
