// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"bytes"
	"encoding/json"
	"errors"
	"testing"

	"github.com/lestrrat-go/jwx/v3/jws"
)

// FuzzJWT holds the strict reader against the ones of jwx and encoding/json:
// what it takes they read the same way. No bytes but the issuer's make a caller.
func FuzzJWT(f *testing.F) {
	j := newJWT(f, allKeys(), func(j *JWT) { j.Claims, j.Project = []string{"aud", "a.b"}, "p" })
	good := signedBy(testKeys().rsa, goodHeader(), goodPayload())
	f.Add("Bearer " + good)
	for _, test := range attacks() {
		if len(test.token) < 4096 {
			f.Add("Bearer " + test.token)
		}
	}
	reader := newClaimReader([]string{"aud", "a.b", "sub"})
	f.Fuzz(func(t *testing.T, header string) {
		caller, refusal := j.Identify(request(map[string][]string{"Authorization": {header}}), stranger)
		if caller != nil {
			t.Fatalf("a caller without a project: %+v", caller)
		}
		if refusal != nil {
			showsNothing(t, good, refusal.Error())
		}
		text, claimed := bearer(header)
		if !claimed {
			return
		}
		token, code := parseToken(text, reader)
		if code != "" {
			return
		}
		if _, err := token.allowed(); err != nil && !errors.Is(err, errNumber) {
			t.Fatal(err)
		}
		if token.header.critical {
			return // jwx knows what b64 means
		}
		message, err := jws.Parse([]byte(text), jws.WithCompact())
		if err != nil {
			// jwx refuses some headers for the form of what is not read here.
			return
		}
		if len(message.Signatures()) != 1 || !bytes.Equal(message.Signatures()[0].Signature(), token.signature) {
			t.Fatalf("other signatures in %q", text)
		}
		protected := message.Signatures()[0].ProtectedHeaders()
		if algorithm, ok := protected.Algorithm(); ok && algorithm.String() != token.header.alg {
			t.Fatalf("algorithm %s of %q", algorithm, text)
		}
		if id, ok := protected.KeyID(); ok != token.header.named || id != token.header.kid {
			t.Fatalf("key %q of %q", id, text)
		}
		var members map[string]any
		decoder := json.NewDecoder(bytes.NewReader(message.Payload()))
		decoder.UseNumber()
		if err := decoder.Decode(&members); err != nil {
			t.Fatalf("took what is no object: %v", err)
		}
		if subject, ok := token.text(claimSub); ok && members["sub"] != subject {
			t.Fatalf("subject %q, want %q", subject, members["sub"])
		}
	})
}

// FuzzJWTKeySet wants no panic of anything that an issuer may publish, and
// keys only that can verify.
func FuzzJWTKeySet(f *testing.F) {
	f.Add([]byte(allKeys()))
	f.Add([]byte(`{"keys":[{"kty":"RSA","n":"AQ","e":"AQAB"},{"kty":"oct","k":"AAAA"}]}`))
	f.Add([]byte(`{"keys":[1,[],{}],"x":null}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		set, err := parseKeySet(text)
		if err != nil {
			return
		}
		if len(set.keys) == 0 || len(set.keys)+set.skipped > maxKeys || !json.Valid(text) {
			t.Fatalf("%d keys of %q", len(set.keys), text)
		}
		for _, key := range set.keys {
			if len(key.algorithms) == 0 || key.public == nil {
				t.Fatalf("%+v", key)
			}
		}
	})
}
