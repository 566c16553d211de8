// SPDX-License-Identifier: Apache-2.0

package password

import (
	"context"

	"github.com/metaguard/metaguard/module/decision"
)

// CheckRead tells whether a complete password answer of the legacy server may
// pass to a reader whom the policy allows to see it. An empty one passes while
// the latch can be asked. Refusals: response_too_large, target_unknown,
// latch_unavailable, password_mismatch, password_unverified; the package
// comment says when.
func (k *Keeper) CheckRead(ctx context.Context, instanceID string, body []byte) *decision.Refusal {
	if len(body) > k.limits.Max() {
		return decision.Refuse(decision.ResponseTooLarge, "password_over_max_size")
	}
	key, err := NewKey(instanceID)
	if err != nil {
		return decision.RefuseWith(decision.TargetUnknown, "instance_id", err)
	}
	ctx, cancel := context.WithTimeout(ctx, latchTimeout)
	defer cancel()
	record, _, err := k.latch.Load(ctx, key)
	if err != nil {
		return unavailable(err)
	}
	if len(body) == 0 {
		return nil
	}
	if k.prints.on() {
		if k.prints.matches(key, body, record.prints()) {
			return nil
		}
		if record.accepted != "" {
			code := "fingerprint_differs"
			if !k.prints.knows(record.accepted) {
				code = "fingerprint_key_unknown"
			}
			return decision.Refuse(decision.PasswordMismatch, code)
		}
	}
	if k.encrypted && Inspect(body).Format == decision.FormatRSABase64 {
		return nil
	}
	return decision.Refuse(decision.PasswordUnverified, "no_fingerprint")
}
