// SPDX-License-Identifier: Apache-2.0

package module

import (
	"time"

	"github.com/metaguard/metaguard/module/policy"
)

// digest names the content of the policy files, so that the adapted
// configuration differs when one was edited and `reload` does not take it for
// the same. Identity sources do the same for their own files. Files that cannot be read give none: provisioning says what is
// wrong with them.
func (h *Handler) digest() string {
	digest, err := policy.Digest(policy.Config{
		Paths:         h.Policy.Paths,
		Entrypoint:    h.Policy.Entrypoint,
		Timeout:       time.Duration(h.Policy.Timeout),
		AllowBuiltins: h.Policy.AllowBuiltins,
	})
	if err != nil {
		return ""
	}
	return digest
}
