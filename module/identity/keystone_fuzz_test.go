// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/metaguard/metaguard/module/decision"
)

// stubbed is a source whose Keystone takes every token.
func stubbed(tb testing.TB) *Keystone {
	tb.Helper()
	user, err := readToken([]byte(alice("")))
	if err != nil {
		tb.Fatal(err)
	}
	tokens, err := newTokenCache(func(context.Context, string) (*keystoneUser, *decision.Refusal) { return user, nil }, time.Minute, 100)
	if err != nil {
		tb.Fatal(err)
	}
	return &Keystone{tokens: tokens}
}

func FuzzKeystoneToken(f *testing.F) {
	for _, token := range []string{"", "a", planted, "gAAAAABr", " a", "a\x00", "é", strings.Repeat("a", maxKeystoneToken+1)} {
		f.Add(token)
	}
	k := stubbed(f)
	f.Fuzz(func(t *testing.T, token string) {
		caller, refusal := k.identify(token)
		visible := len(token) > 0 && len(token) <= maxKeystoneToken && strings.IndexFunc(token, func(c rune) bool { return c <= ' ' || c > '~' }) < 0
		if (caller != nil) != visible || (refusal == nil) != visible {
			t.Errorf("%q: %v, %v", token, caller, refusal)
		}
		if !visible {
			return
		}
		if key := k.tokens.hasher.hash(token); key != k.tokens.hasher.hash(token) || key == k.tokens.hasher.hash(token[1:]) {
			t.Errorf("%q has no key of its own", token)
		}
	})
}

func FuzzKeystoneAnswer(f *testing.F) {
	for _, document := range []string{"", "{}", "null", alice(""), alice(`"system": {"all": true}`), alice(`"domain": {"id": "d"}`), alice(`"bind": {"kerberos": "x"}`)} {
		f.Add([]byte(document))
	}
	f.Fuzz(func(t *testing.T, document []byte) {
		user, err := readToken(document)
		if err != nil {
			return
		}
		caller := user.caller(loopback)
		if !strings.HasPrefix(caller.ID, "user:") || len(caller.ID) == len("user:") || caller.InstanceID != "" || user.expires.IsZero() {
			t.Errorf("%s\ngave %+v", document, caller)
		}
		if caller.ProjectID != "" && !validProjectID(caller.ProjectID) {
			t.Errorf("project %q", caller.ProjectID)
		}
		if len(caller.Claims) > 14 || len(caller.Roles) > maxKeystoneRoles {
			t.Errorf("%d claims, %d roles", len(caller.Claims), len(caller.Roles))
		}
	})
}
