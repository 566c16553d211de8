// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"net/http"
	"sync"

	"github.com/metaguard/metaguard/module/decision"
)

// The headers in which a Neutron metadata agent tells Nova who calls, in Go's
// canonical form (HTTP does not look at case).
const (
	HeaderInstanceID        = "X-Instance-Id"
	HeaderTenantID          = "X-Tenant-Id"
	HeaderSignature         = "X-Instance-Id-Signature"
	HeaderProvider          = "X-Metadata-Provider"
	HeaderProviderSignature = "X-Metadata-Provider-Signature"
)

// headerForwardedFor is where an agent says for which address it asks.
const headerForwardedFor = "X-Forwarded-For"

// signatureLen is the length of a signature: SHA-256 in hexadecimal digits.
const signatureLen = 2 * sha256.Size

// Sign is Neutron's and Nova's signature of an instance: HMAC-SHA256 of its id
// under the shared secret, in lower-case hexadecimal digits. The result is as
// good as a credential: it never expires, so it belongs in no log.
func Sign(secret decision.Secret, instanceID string) string {
	mac := hmac.New(sha256.New, secret.Reveal())
	mac.Write([]byte(instanceID))
	return hex.EncodeToString(mac.Sum(nil))
}

// signer signs instance ids under one secret without setting the key up anew
// each time. It is safe for concurrent use.
type signer struct{ states sync.Pool }

// signState is what one signature needs; pooling it keeps requests free of
// allocations.
type signState struct {
	mac hash.Hash
	in  [uuidLen]byte
	sum [sha256.Size]byte
}

func newSigner(secret decision.Secret) *signer {
	key := bytes.Clone(secret.Reveal())
	s := new(signer)
	s.states.New = func() any { return &signState{mac: hmac.New(sha256.New, key)} }
	return s
}

// sign writes the signature of id, which must be a valid instance id, to out.
func (s *signer) sign(out *[signatureLen]byte, id string) {
	state := s.states.Get().(*signState)
	state.mac.Reset()
	state.mac.Write(state.in[:copy(state.in[:], id)])
	hex.Encode(out[:], state.mac.Sum(state.sum[:0]))
	s.states.Put(state)
}

// Assertion tells the legacy server who the target is, in the three headers
// that Nova takes from a Neutron agent, signed with the shared secret. It is
// safe for concurrent use.
type Assertion struct{ signer *signer }

// NewAssertion makes an Assertion that signs with secret. An empty secret,
// with which anyone could sign, is an error.
func NewAssertion(secret decision.Secret) (*Assertion, error) {
	if secret.Empty() {
		return nil, errors.New("asserting identities with an empty secret")
	}
	return &Assertion{signer: newSigner(secret)}, nil
}

// Asserted is the word about one target: its instance, its project and the
// signature, which is as good as a credential and belongs in no log. nil: there is none,
// and nothing to [Asserted.Set].
type Asserted []string

// Sign signs for target. Nova needs instance and project both: a target that
// lacks one, or has a malformed one, is refused with target_unknown.
func (a *Assertion) Sign(target decision.Target) (Asserted, *decision.Refusal) {
	switch {
	case target.InstanceID == "":
		return nil, decision.Refuse(decision.TargetUnknown, "assert_instance_missing")
	case !isUUID(target.InstanceID):
		return nil, decision.Refuse(decision.TargetUnknown, "assert_instance_malformed")
	case target.ProjectID == "":
		return nil, decision.Refuse(decision.TargetUnknown, "assert_project_missing")
	case !validProjectID(target.ProjectID):
		return nil, decision.Refuse(decision.TargetUnknown, "assert_project_malformed")
	}
	var signature [signatureLen]byte
	a.signer.sign(&signature, target.InstanceID)
	return Asserted{target.InstanceID, target.ProjectID, string(signature[:])}, nil
}

// Set puts the three headers into h, in place of any that are there, and removes
// the two of a metadata provider, for which Nova takes the same signature.
func (s Asserted) Set(h http.Header) {
	delete(h, HeaderProvider)
	delete(h, HeaderProviderSignature)
	h[HeaderInstanceID] = s[0:1:1]
	h[HeaderTenantID] = s[1:2:2]
	h[HeaderSignature] = s[2:3:3]
}
