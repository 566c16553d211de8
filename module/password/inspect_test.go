// SPDX-License-Identifier: Apache-2.0

package password

import (
	"bytes"
	"encoding/base64"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/metaguard/metaguard/module/decision"
)

func TestInspect(t *testing.T) {
	rsa := string(rsaResult(2048))
	for name, test := range map[string]struct {
		body   string
		format string
		bits   int
	}{
		"nothing":                       {"", decision.FormatEmpty, 0},
		"one newline":                   {"\n", decision.FormatText, 0},
		"plain text":                    {"s3cret", decision.FormatText, 0},
		"text beyond ASCII":             {"pässwörd", decision.FormatText, 0},
		"a zero byte is text":           {"a\x00b", decision.FormatText, 0},
		"latin-1":                       {"p\xe4ss", decision.FormatBinary, 0},
		"a surrogate":                   {"\xed\xa0\x80", decision.FormatBinary, 0},
		"overlong":                      {"\xc0\x80", decision.FormatBinary, 0},
		"cut UTF-8":                     {"caf\xc3", decision.FormatBinary, 0},
		"RSA-1024":                      {string(rsaResult(1024)), decision.FormatRSABase64, 1024},
		"RSA-1536":                      {string(rsaResult(1536)), decision.FormatRSABase64, 1536},
		"RSA-2048":                      {rsa, decision.FormatRSABase64, 2048},
		"RSA-3072":                      {string(rsaResult(3072)), decision.FormatRSABase64, 3072},
		"RSA-4096":                      {string(rsaResult(4096)), decision.FormatRSABase64, 4096},
		"RSA-6144":                      {string(rsaResult(6144)), decision.FormatRSABase64, 6144},
		"RSA-8192":                      {string(rsaResult(8192)), decision.FormatRSABase64, 8192},
		"RSA-8192 and a newline":        {string(rsaResult(8192)) + "\n", decision.FormatRSABase64, 8192},
		"one newline at its end":        {rsa + "\n", decision.FormatRSABase64, 2048},
		"two newlines at its end":       {rsa + "\n\n", decision.FormatText, 0},
		"CR LF at its end":              {rsa + "\r\n", decision.FormatText, 0},
		"a newline before":              {"\n" + rsa, decision.FormatText, 0},
		"a newline instead of a pad":    {rsa[:343] + "\n", decision.FormatText, 0},
		"a blank at its end":            {rsa + " ", decision.FormatText, 0},
		"one digit less":                {rsa[1:], decision.FormatText, 0},
		"one digit more":                {"A" + rsa, decision.FormatText, 0},
		"no padding":                    {strings.TrimRight(rsa, "="), decision.FormatText, 0},
		"digits in place of padding":    {rsa[:342] + "AA", decision.FormatText, 0},
		"one pad too few":               {rsa[:342] + "A=", decision.FormatText, 0},
		"pads where none belong":        {string(rsaResult(1536))[:255] + "=", decision.FormatText, 0},
		"three pads":                    {rsa[:341] + "===", decision.FormatText, 0},
		"a pad in the middle":           {rsa[:100] + "=" + rsa[101:], decision.FormatText, 0},
		"unused bits that are set":      {rsa[:341] + "B==", decision.FormatText, 0},
		"the URL alphabet":              {rsa[:100] + "-_" + rsa[102:], decision.FormatText, 0},
		"wrapped lines":                 {rsa[:76] + "\n" + rsa[77:], decision.FormatText, 0},
		"a byte beyond ASCII inside":    {rsa[:100] + "\xff" + rsa[101:], decision.FormatBinary, 0},
		"two results":                   {string(rsaResult(1024)) + string(rsaResult(1024)), decision.FormatText, 0},
		"what Nova joins of instance 3": {rsa + "evil", decision.FormatText, 0},
	} {
		t.Run(name, func(t *testing.T) {
			view := Inspect([]byte(test.body))
			if view != (decision.Body{Size: len(test.body), Format: test.format, KeyBits: test.bits}) {
				t.Errorf("got %+v, want %s of %d bits", view, test.format, test.bits)
			}
		})
	}
}

func FuzzInspect(f *testing.F) {
	for _, bits := range []int{1024, 1536, 2048, 3072, 4096, 6144, 8192} {
		f.Add(rsaResult(bits))
		f.Add(append(rsaResult(bits), '\n'))
		f.Add(bytes.Replace(rsaResult(bits), []byte("="), []byte("A"), 1))
	}
	f.Add([]byte(""))
	f.Add([]byte("\xff"))
	f.Fuzz(func(t *testing.T, body []byte) {
		view := Inspect(body)
		if view.Size != len(body) || (view.KeyBits > 0) != (view.Format == decision.FormatRSABase64) {
			t.Fatalf("%+v contradicts itself", view)
		}
		// The standard library as the judge. It skips line breaks, we do not.
		text := bytes.TrimSuffix(body, []byte("\n"))
		raw, err := base64.StdEncoding.Strict().DecodeString(string(text))
		bits := len(raw) * 8
		isRSA := err == nil && !bytes.ContainsAny(text, "\r\n") &&
			(bits == 1024 || bits == 1536 || bits == 2048 || bits == 3072 || bits == 4096 || bits == 6144 || bits == 8192)
		want := decision.FormatBinary
		switch {
		case len(body) == 0:
			want = decision.FormatEmpty
		case isRSA:
			want = decision.FormatRSABase64
		case utf8.Valid(body):
			want = decision.FormatText
		}
		if view.Format != want || (isRSA && view.KeyBits != bits) {
			t.Fatalf("got %+v, want %s of %d bits", view, want, bits)
		}
	})
}
