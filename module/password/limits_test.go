// SPDX-License-Identifier: Apache-2.0

package password

import (
	"strings"
	"testing"

	"github.com/metaguard/metaguard/module/decision"
)

func TestLimitsCheck(t *testing.T) {
	nova, encrypted := Limits{}, Limits{RequireEncrypted: true}
	for name, test := range map[string]struct {
		limits Limits
		body   string
		reason decision.Reason
		code   string
	}{
		"empty":                      {nova, "", decision.PasswordEmpty, "body_empty"},
		"one byte":                   {nova, "x", "", ""},
		"as much as Nova stores":     {nova, strings.Repeat("x", 1020), "", ""},
		"one byte more":              {nova, strings.Repeat("x", 1021), decision.BodyTooLarge, "body_over_max_size"},
		"bytes count, not letters":   {nova, strings.Repeat("é", 511), decision.BodyTooLarge, "body_over_max_size"},
		"RSA-4096 fits":              {nova, string(rsaResult(4096)), "", ""},
		"RSA-6144 does not":          {nova, string(rsaResult(6144)), decision.BodyTooLarge, "rsa_6144_over_max_size"},
		"RSA-8192 and a newline":     {nova, string(rsaResult(8192)) + "\n", decision.BodyTooLarge, "rsa_8192_over_max_size"},
		"a smaller limit":            {Limits{MaxSize: 255}, string(rsaResult(1536)), decision.BodyTooLarge, "rsa_1536_over_max_size"},
		"a larger limit":             {Limits{MaxSize: 1024}, string(rsaResult(6144)), "", ""},
		"not UTF-8":                  {nova, "p\xe4ss", decision.BodyUnreadable, "body_not_utf8"},
		"too large and not UTF-8":    {nova, strings.Repeat("\xff", 1021), decision.BodyTooLarge, "body_over_max_size"},
		"text where encryption must": {encrypted, "s3cret", decision.PasswordNotEncrypted, "body_not_rsa"},
		"encrypted where it must":    {encrypted, string(rsaResult(2048)), "", ""},
		"empty where it must":        {encrypted, "", decision.PasswordEmpty, "body_empty"},
	} {
		t.Run(name, func(t *testing.T) {
			refusal := test.limits.Check([]byte(test.body))
			wantRefusal(t, refusal, test.reason, test.code)
			if refusal != nil && len(test.body) > 3 && strings.Contains(refusal.Error(), test.body) {
				t.Error("the refusal quotes the password")
			}
		})
	}
	if refusal := nova.Check(rsaResult(6144)); !strings.Contains(refusal.Error(), "RSA-6144 key takes 1024 bytes, max_size is 1020") {
		t.Errorf("%q does not say what is wrong", refusal)
	}
	if nova.ReadSize() < len(rsaResult(8192))+1 || (Limits{MaxSize: 5000}).ReadSize() != 5000 {
		t.Error("ReadSize is too small to tell a key that is too large")
	}
}

func TestAllowedKey(t *testing.T) {
	for name, want := range map[string]bool{
		"password_0": true, "password_1": true, "password_2": true, "password_3": true,
		"password_4": false, "password_": false, "password_10": false, "password_00": false,
		"password_evil": false, "password_0\t": false, "password_/": false, "password_٠": false,
		"password": true, "passwordx": true, "Password_9": true, "hostname": true, "": true, "x_password_9": true,
	} {
		if AllowedKey(name) != want {
			t.Errorf("AllowedKey(%q) is not %t", name, want)
		}
	}
}

func TestOutcomeOf(t *testing.T) {
	want := map[int]Outcome{409: AlreadySet, 499: Unknown}
	for status := -1; status < 1000; status++ {
		expected, special := want[status]
		if !special {
			switch status / 100 {
			case 2:
				expected = Accepted
			case 4:
				expected = Refused
			default:
				expected = Unknown
			}
		}
		if got := OutcomeOf(status); got != expected {
			t.Errorf("OutcomeOf(%d) is %s, want %s", status, got, expected)
		}
	}
	var zero Outcome
	if zero != Unknown {
		t.Error("an outcome that nobody set must be unknown")
	}
}
