// SPDX-License-Identifier: Apache-2.0

package session

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/metaguard/metaguard/module/decision"
)

var (
	now    = time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)
	first  = decision.NewSecret(strings.Repeat("planted-first-", 3))
	second = decision.NewSecret(strings.Repeat("planted-second", 3))
	holder = Holder{Source: "remote_ip", ID: "instance:i-1", ProjectID: "p-1", Site: "openstack\n\n8775-8775"}
)

func keys(tb testing.TB, maxTTL time.Duration, secrets ...decision.Secret) *Keys {
	tb.Helper()
	k, err := NewKeys(secrets, maxTTL)
	if err != nil {
		tb.Fatal(err)
	}
	return k
}

func code(refusal *decision.Refusal) string {
	if refusal == nil {
		return ""
	}
	return refusal.Code
}

func TestTokenLivesAsLongAsAsked(t *testing.T) {
	k := keys(t, MaxTTL, first)
	token := k.Issue(holder, now, time.Minute)
	if len(token) > 120 || strings.ContainsAny(token, "+/= \r\n") {
		t.Errorf("%q", token)
	}
	for _, test := range []struct {
		after time.Duration
		age   time.Duration
		code  string
	}{
		{0, 0, ""},
		{12 * time.Second, 12 * time.Second, ""},
		{time.Minute - time.Millisecond, time.Minute - time.Millisecond, ""},
		{time.Minute, 0, "session_expired"},
		{24 * time.Hour, 0, "session_expired"},
		{-30 * time.Second, 0, ""}, // another replica's clock
		{-30*time.Second - time.Millisecond, 0, "session_future"},
	} {
		age, refusal := k.Check(token, holder, now.Add(test.after))
		if age != test.age || code(refusal) != test.code {
			t.Errorf("after %s: %s %v", test.after, age, refusal)
		}
		if refusal != nil && (refusal.Reason != decision.SessionInvalid || strings.Contains(refusal.Error(), token[:8])) {
			t.Errorf("after %s: %v", test.after, refusal)
		}
	}
	// A shorter max_ttl after a reload ends older tokens, too.
	if _, refusal := keys(t, time.Second, first).Check(token, holder, now.Add(2*time.Second)); code(refusal) != "session_expired" {
		t.Error(refusal)
	}
	if token := keys(t, time.Second, first).Issue(holder, now, time.Hour); code(refusalOf(k.Check(token, holder, now.Add(time.Second)))) != "session_expired" {
		t.Error("a token lives longer than max_ttl")
	}
}

func refusalOf(_ time.Duration, refusal *decision.Refusal) *decision.Refusal { return refusal }

func TestTokenIsNobodyElses(t *testing.T) {
	k := keys(t, MaxTTL, first)
	token := k.Issue(holder, now, time.Hour)
	for name, change := range map[string]func(*Holder){
		"source":          func(h *Holder) { h.Source = "neutron" },
		"id":              func(h *Holder) { h.ID = "instance:i-2" },
		"project":         func(h *Holder) { h.ProjectID = "" },
		"site":            func(h *Holder) { h.Site = "ec2\n\n8775-8775" },
		"shifted by one":  func(h *Holder) { h.Source, h.ID = "remote_i", "pinstance:i-1" },
		"all in one part": func(h *Holder) { h.Source, h.ID = h.Source+h.ID, "" },
	} {
		other := holder
		change(&other)
		if _, refusal := k.Check(token, other, now); code(refusal) != "session_foreign" {
			t.Errorf("another %s: %v", name, refusal)
		}
	}
	if _, refusal := keys(t, MaxTTL, second).Check(token, holder, now); code(refusal) != "session_foreign" {
		t.Errorf("another key: %v", refusal)
	}
}

// Every byte counts, and there is one spelling only.
func TestTokenChangedAnywhere(t *testing.T) {
	k := keys(t, MaxTTL, first, second)
	token := k.Issue(holder, now, time.Hour)
	for i := range len(token) {
		for _, b := range []byte("AQgw_-\n=+/ \x00") {
			if b == token[i] {
				continue
			}
			changed := token[:i] + string(rune(b)) + token[i+1:]
			if _, refusal := k.Check(changed, holder, now); refusal == nil {
				t.Fatalf("byte %d as %q is taken", i, b)
			}
		}
	}
	raw, err := encoding.DecodeString(token)
	if err != nil {
		t.Fatal(err)
	}
	for i := range len(raw) * 8 {
		raw[i/8] ^= 1 << (i % 8)
		want := "session_foreign"
		if i < 8 {
			want = "session_malformed" // the version
		}
		if _, refusal := k.Check(encoding.EncodeToString(raw), holder, now); code(refusal) != want {
			t.Errorf("bit %d: %v", i, refusal)
		}
		raw[i/8] ^= 1 << (i % 8)
	}
	for _, malformed := range []string{"", "x", token[1:], token + "A", token + "=", token + token, " " + token, strings.Repeat("\n", len(token)), strings.Repeat("é", len(token)/2)} {
		if _, refusal := k.Check(malformed, holder, now); code(refusal) != "session_malformed" {
			t.Errorf("%q: %v", malformed, refusal)
		}
	}
}

// While a key is rotated the first makes tokens and all are taken.
func TestKeysRotate(t *testing.T) {
	before, during, after := keys(t, MaxTTL, first), keys(t, MaxTTL, second, first), keys(t, MaxTTL, second)
	old, fresh := before.Issue(holder, now, time.Hour), during.Issue(holder, now, time.Hour)
	for _, test := range []struct {
		keys  *Keys
		token string
		code  string
	}{
		{before, old, ""},
		{during, old, ""},
		{during, fresh, ""},
		{after, fresh, ""},
		{after, old, "session_foreign"},
		{before, fresh, "session_foreign"},
	} {
		if _, refusal := test.keys.Check(test.token, holder, now); code(refusal) != test.code {
			t.Errorf("%v, want %q", refusal, test.code)
		}
	}
}

func TestTokensDiffer(t *testing.T) {
	k := keys(t, MaxTTL, first)
	seen := make(map[string]bool)
	for range 1000 {
		token := k.Issue(holder, now, time.Hour)
		if seen[token] {
			t.Fatal("a token came twice")
		}
		seen[token] = true
	}
}

func TestKeysRefused(t *testing.T) {
	const marker = "planted-short-secret"
	for _, test := range []struct {
		secrets []decision.Secret
		ttl     time.Duration
		want    string
	}{
		{nil, time.Hour, "need a key"},
		{[]decision.Secret{first, decision.NewSecret(marker)}, time.Hour, "at least 32 bytes"},
		{[]decision.Secret{first}, 0, "live 1s to 6h"},
		{[]decision.Secret{first}, MaxTTL + 1, "live 1s to 6h"},
	} {
		_, err := NewKeys(test.secrets, test.ttl)
		if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), marker) {
			t.Errorf("%v, want %q", err, test.want)
		}
	}
	if _, err := ParseSecret([]byte(strings.Repeat("k", 31) + "\r\n\n")); err == nil {
		t.Error("31 bytes are taken")
	}
	a, err := ParseSecret(NewSecret())
	b, _ := ParseSecret(NewSecret())
	if err != nil || string(a.Reveal()) == string(b.Reveal()) || len(a.Reveal()) != 64 {
		t.Error("a made secret is not one")
	}
	if text := fmt.Sprintf("%v %+v", keys(t, MaxTTL, first), a); strings.Contains(text, "planted") || strings.Contains(text, string(a.Reveal())) {
		t.Error("a secret is printed")
	}
}

// A token is right for exactly its holder, key and time.
func TestTokenProperties(t *testing.T) {
	text := rapid.StringN(0, 40, 80)
	holders := rapid.Custom(func(t *rapid.T) Holder {
		return Holder{text.Draw(t, "source"), text.Draw(t, "id"), text.Draw(t, "project"), text.Draw(t, "site")}
	})
	one, two := keys(t, MaxTTL, first), keys(t, MaxTTL, second)
	rapid.Check(t, func(t *rapid.T) {
		mine, theirs := holders.Draw(t, "mine"), holders.Draw(t, "theirs")
		ttl := time.Duration(rapid.IntRange(1, 21600).Draw(t, "ttl")) * time.Second
		later := time.Duration(rapid.IntRange(-60, 30000).Draw(t, "later")) * time.Second
		token := one.Issue(mine, now, ttl)
		age, refusal := one.Check(token, mine, now.Add(later))
		if alive := later < ttl && later >= -maxAhead; alive != (refusal == nil) || (alive && age != max(0, later)) {
			t.Fatalf("%s %v", age, refusal)
		}
		if _, refusal := one.Check(token, theirs, now); mine != theirs && refusal == nil {
			t.Fatal("another holder's token is taken")
		}
		if _, refusal := two.Check(token, mine, now); refusal == nil {
			t.Fatal("another key's token is taken")
		}
	})
}

// FuzzCheck lets no made-up token through.
func FuzzCheck(f *testing.F) {
	k := keys(f, MaxTTL, first)
	good := k.Issue(holder, now, time.Hour)
	f.Add("", uint(0), byte(1))
	f.Add(strings.Repeat("A", encodedSize), uint(40), byte(2))
	f.Fuzz(func(t *testing.T, token string, at uint, mask byte) {
		tampered := []byte(good) // every worker has one of its own
		tampered[at%uint(len(tampered))] ^= mask
		for _, token := range []string{token, string(tampered)} {
			if _, refusal := k.Check(token, holder, now); refusal == nil && token != good {
				t.Errorf("%q is taken", token)
			}
		}
	})
}

func BenchmarkCheck(b *testing.B) {
	k := keys(b, MaxTTL, first)
	token := k.Issue(holder, now, time.Hour)
	b.ReportAllocs()
	for b.Loop() {
		if _, refusal := k.Check(token, holder, now); refusal != nil {
			b.Fatal(refusal)
		}
	}
}

func BenchmarkIssue(b *testing.B) {
	k := keys(b, MaxTTL, first)
	b.ReportAllocs()
	for b.Loop() {
		k.Issue(holder, now, time.Hour)
	}
}
