// SPDX-License-Identifier: Apache-2.0

package password

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/metaguard/metaguard/module/decision"
)

// write reserves and settles one password.
func write(t *testing.T, keeper *Keeper, clock *clock, body string, outcome Outcome) {
	t.Helper()
	reservation, refusal := keeper.Reserve(context.Background(), instance, []byte(body))
	wantRefusal(t, refusal, "", "")
	wantRefusal(t, reservation.Settle(outcome), "", "")
	clock.Advance(testPending)
}

func TestCheckRead(t *testing.T) {
	type step struct {
		body    string
		outcome Outcome
	}
	const crash = Outcome(-1)
	rsa := string(rsaResult(2048))
	keys := func(secrets ...decision.Secret) func(*Config) {
		return func(c *Config) { c.FingerprintKeys = secrets }
	}
	refuse := func(c *Config) { c.Unverified = UnverifiedRefuse }
	for name, test := range map[string]struct {
		writes []step
		edits  []func(*Config) // of the keeper that reads
		body   string
		reason decision.Reason
		code   string
	}{
		"what was accepted":                      {[]step{{"A", Accepted}}, nil, "A", "", ""},
		"another one":                            {[]step{{"A", Accepted}}, nil, "B", decision.PasswordMismatch, "fingerprint_differs"},
		"another one, encrypted":                 {[]step{{"A", Accepted}}, nil, rsa, decision.PasswordMismatch, "fingerprint_differs"},
		"with a newline more":                    {[]step{{"A", Accepted}}, nil, "A\n", decision.PasswordMismatch, "fingerprint_differs"},
		"with an evil key joined to it":          {[]step{{"A", Accepted}}, nil, "Aevil", decision.PasswordMismatch, "fingerprint_differs"},
		"the last accepted one":                  {[]step{{"A", Accepted}, {"B", Accepted}}, nil, "B", "", ""},
		"the one before":                         {[]step{{"A", Accepted}, {"B", Accepted}}, nil, "A", decision.PasswordMismatch, "fingerprint_differs"},
		"empty where one was accepted":           {[]step{{"A", Accepted}}, nil, "", "", ""},
		"empty where none was":                   {nil, nil, "", "", ""},
		"over max_size":                          {[]step{{"A", Accepted}}, nil, strings.Repeat("x", 1021), decision.ResponseTooLarge, "password_over_max_size"},
		"unknown: the new":                       {[]step{{"A", Accepted}, {"B", Unknown}}, nil, "B", "", ""},
		"unknown: the old":                       {[]step{{"A", Accepted}, {"B", Unknown}}, nil, "A", "", ""},
		"unknown: a third":                       {[]step{{"A", Accepted}, {"B", Unknown}}, nil, "C", decision.PasswordMismatch, "fingerprint_differs"},
		"crash: the new":                         {[]step{{"A", Accepted}, {"B", crash}}, nil, "B", "", ""},
		"crash, then refused: the crashed":       {[]step{{"A", Accepted}, {"B", crash}, {"C", Refused}}, nil, "B", "", ""},
		"crash, then refused: the refused":       {[]step{{"A", Accepted}, {"B", crash}, {"C", Refused}}, nil, "C", decision.PasswordMismatch, "fingerprint_differs"},
		"crash, then unknown: the crashed":       {[]step{{"B", crash}, {"C", Unknown}}, nil, "B", "", ""},
		"unknown, then 409: it was stored":       {[]step{{"B", Unknown}, {"C", AlreadySet}}, nil, "B", "", ""},
		"unknown, then 409: not this one":        {[]step{{"B", Unknown}, {"C", AlreadySet}}, nil, "C", decision.PasswordUnverified, "no_fingerprint"},
		"unknown, then accepted: the unknown":    {[]step{{"B", Unknown}, {"C", Accepted}}, nil, "B", decision.PasswordMismatch, "fingerprint_differs"},
		"unsent":                                 {[]step{{"A", Accepted}, {"B", Unsent}}, nil, "B", decision.PasswordMismatch, "fingerprint_differs"},
		"unsent: the old":                        {[]step{{"A", Accepted}, {"B", Unsent}}, nil, "A", "", ""},
		"never written, text":                    {nil, nil, "A", decision.PasswordUnverified, "no_fingerprint"},
		"never written, encrypted":               {nil, nil, rsa, "", ""},
		"never written, two results":             {nil, nil, rsa + rsa, decision.PasswordUnverified, "no_fingerprint"},
		"never written, encrypted, refuse":       {nil, []func(*Config){refuse}, rsa, decision.PasswordUnverified, "no_fingerprint"},
		"written, refuse":                        {[]step{{"A", Accepted}}, []func(*Config){refuse}, "A", "", ""},
		"written elsewhere, then 409, encrypted": {[]step{{"A", AlreadySet}}, nil, rsa, "", ""},
		"written elsewhere, then unknown":        {[]step{{"A", Unknown}}, nil, rsa, "", ""},
		"after the key was rotated":              {[]step{{"A", Accepted}}, []func(*Config){keys(secondKey, firstKey)}, "A", "", ""},
		"after the key was lost":                 {[]step{{"A", Accepted}}, []func(*Config){keys(secondKey)}, "A", decision.PasswordMismatch, "fingerprint_key_unknown"},
		"without keys, text":                     {[]step{{"A", Accepted}}, []func(*Config){keys()}, "A", decision.PasswordUnverified, "no_fingerprint"},
		"without keys, encrypted":                {[]step{{"A", Accepted}}, []func(*Config){keys()}, rsa, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			clock, directory := newClock(), t.TempDir()
			writer := newKeeper(t, newFileLatch(t, directory), clock)
			for _, step := range test.writes {
				if step.outcome == crash {
					_, refusal := writer.Reserve(context.Background(), instance, []byte(step.body))
					wantRefusal(t, refusal, "", "")
					clock.Advance(testPending)
					continue
				}
				write(t, writer, clock, step.body, step.outcome)
			}
			reader := newKeeper(t, newFileLatch(t, directory), clock, test.edits...)
			wantRefusal(t, reader.CheckRead(context.Background(), instance, []byte(test.body)), test.reason, test.code)
		})
	}
}

func TestReadWhileTheWriteIsUnderWay(t *testing.T) {
	clock := newClock()
	keeper := newKeeper(t, newFileLatch(t, t.TempDir()), clock)
	write(t, keeper, clock, "old", Accepted)
	_, refusal := keeper.Reserve(context.Background(), instance, []byte("new"))
	wantRefusal(t, refusal, "", "")
	wantRefusal(t, keeper.CheckRead(context.Background(), instance, []byte("old")), "", "")
	wantRefusal(t, keeper.CheckRead(context.Background(), instance, []byte("new")), "", "")
	wantRefusal(t, keeper.CheckRead(context.Background(), instance, []byte("no")), decision.PasswordMismatch, "fingerprint_differs")
	wantRefusal(t, keeper.CheckRead(context.Background(), "", []byte("no")), decision.TargetUnknown, "instance_id")
}

func TestResetForgets(t *testing.T) {
	clock := newClock()
	keeper := newKeeper(t, newFileLatch(t, t.TempDir()), clock)
	if _, err := keeper.Reset(context.Background(), instance); err != nil {
		t.Fatal(err)
	}
	reservation, refusal := keeper.Reserve(context.Background(), instance, []byte("A"))
	wantRefusal(t, refusal, "", "")
	wantRefusal(t, reservation.Settle(Accepted), "", "")
	if _, err := keeper.Reset(context.Background(), instance); err != nil {
		t.Fatal(err)
	}
	wantRefusal(t, keeper.CheckRead(context.Background(), instance, []byte("A")), decision.PasswordUnverified, "no_fingerprint")
	_, refusal = keeper.Reserve(context.Background(), instance, []byte("B"))
	wantRefusal(t, refusal, "", "")
	if _, err := keeper.Reset(context.Background(), ""); err == nil {
		t.Error("a reset of nothing says nothing")
	}
}

func TestPossibleFingerprintsAreBounded(t *testing.T) {
	clock := newClock()
	keeper := newKeeper(t, newFileLatch(t, t.TempDir()), clock)
	write(t, keeper, clock, "accepted", Accepted)
	for i := range maxPossible + 2 {
		write(t, keeper, clock, fmt.Sprint("unknown ", i), Unknown)
		write(t, keeper, clock, fmt.Sprint("unknown ", i), Unknown) // the same again takes no room
	}
	for body, reason := range map[string]decision.Reason{
		"accepted": "", "unknown 1": decision.PasswordMismatch, "unknown 2": "", "unknown 9": "",
	} {
		code := ""
		if reason != "" {
			code = "fingerprint_differs"
		}
		wantRefusal(t, keeper.CheckRead(context.Background(), instance, []byte(body)), reason, code)
	}
}

// TestNoPasswordOnDisk: nothing of a password is in any file.
func TestNoPasswordOnDisk(t *testing.T) {
	clock, directory := newClock(), t.TempDir()
	keeper := newKeeper(t, newFileLatch(t, directory), clock)
	write(t, keeper, clock, "planted-secret", Accepted)
	write(t, keeper, clock, "planted-secret-2", Unknown)
	files := 0
	err := filepath.WalkDir(directory, func(path string, entry os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		if path != directory && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %s", path, info.Mode())
		}
		if entry.IsDir() {
			return nil
		}
		files++
		data, err := os.ReadFile(path)
		if strings.Contains(string(data), "planted") || strings.Contains(string(data), "fingerprint key") {
			t.Errorf("%s holds a secret", path)
		}
		return err
	})
	if err != nil || files != 3 { // the marker and two generations
		t.Errorf("%d files, %v", files, err)
	}
}

func TestFingerprintKeys(t *testing.T) {
	text := NewFingerprintKey()
	key, err := ParseFingerprintKey(text)
	if err != nil || len(key.Reveal()) != 64 {
		t.Fatalf("a new key cannot be read back: %v", err)
	}
	if string(NewFingerprintKey()) == string(text) {
		t.Error("two new keys are the same")
	}
	again, err := ParseFingerprintKey([]byte(strings.TrimSpace(string(text)) + "\r\n"))
	if err != nil || string(again.Reveal()) != string(key.Reveal()) {
		t.Error("a line end belongs to the key")
	}
	if _, err := ParseFingerprintKey([]byte("planted-short\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n")); err == nil || strings.Contains(err.Error(), "planted") {
		t.Errorf("a short key: %v", err)
	}
	prints, err := newPrinter([]decision.Secret{key})
	if err != nil {
		t.Fatal(err)
	}
	first, second := prints.sign(mustKey(t, "a"), []byte("b")), prints.sign(mustKey(t, "ab"), nil)
	if first == second || !first.valid() || !second.valid() {
		t.Errorf("fingerprints %s and %s", first, second)
	}
}
