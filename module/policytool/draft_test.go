// SPDX-License-Identifier: Apache-2.0

package policytool

import (
	"testing"

	"github.com/metaguard/metaguard/module/decision"
)

func TestDraftTry(t *testing.T) {
	l := newRecorder(t, "audit")
	l.add(t, asks(decision.KindMetadata, decision.Read, "i-1", "p-1"))
	l.add(t, asks(decision.KindPassword, decision.Read, "i-1", "p-1"))
	l.add(t, user(decision.KindUserdata, "ci", "p-1", []string{"ci", "dev"}, "i-1", "p-1"))
	l.add(t, user(decision.KindUserdata, "ci", "p-1", []string{"ci", "dev"}, "i-1", "p-1"))
	l.add(t, user(decision.KindMetadata, "ci2", "p-1", []string{"dev"}, "i-1", "p-1"))
	l.add(t, user(decision.KindMetadata, "ci", "p-1", []string{"ci"}, "i-2", "p-2"))
	l.add(t, asks(decision.KindUnknown, decision.Read, "i-1", "p-1"))
	out, warn, err := run(t, draftCommand(), "--log", l.file(t), "--include", "target:any")
	t.Log(out, warn, err)
	out, warn, err = run(t, draftCommand(), "--log", l.file(t), "--by", "role")
	t.Log(out, warn, err)
}
