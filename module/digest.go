// SPDX-License-Identifier: Apache-2.0

package module

import (
	"time"

	"github.com/metaguard/metaguard/module/policy"
)

// config is what the engine takes; it fills in the defaults.
func (p PolicyConfig) config() policy.Config {
	return policy.Config{
		Paths:          p.Paths,
		OPA:            p.OPA,
		Entrypoint:     p.Entrypoint,
		Timeout:        time.Duration(p.Timeout),
		ReadyTimeout:   time.Duration(p.ReadyTimeout),
		Cache:          p.Cache,
		AllowBuiltins:  p.AllowBuiltins,
		RefuseUnlogged: p.LogFull == logFullRefuse,
	}
}

// candidateConfig is the same with the candidate's files. It takes its bundles
// from the live policy.
func (p PolicyConfig) candidateConfig() policy.Config {
	config := p.config()
	config.Paths, config.OPA, config.RefuseUnlogged = p.Candidate, "", false
	config.SystemRules = p.OPA != "" // they come into force with the policy
	return config
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
	if len(h.Policy.Candidate) > 0 {
		candidate, err := policy.Digest(h.Policy.candidateConfig())
		if err != nil {
			return ""
		}
		digest += "-" + candidate
	}
	return digest
}
