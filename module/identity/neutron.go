// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"net/netip"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/gaissmai/bart"

	"github.com/metaguard/metaguard/module/decision"
)

const neutronName = "neutron"

func init() { caddy.RegisterModule(new(Neutron)) }

// Neutron takes the word of OpenStack's metadata agent, which tells Nova the
// calling instance in signed headers: `X-Instance-ID`, `X-Tenant-ID` and
// `X-Instance-ID-Signature`.
//
// Any of these headers is a claim, whoever sent it, and so are
// `X-Metadata-Provider` and `X-Metadata-Provider-Signature`, which are never
// accepted: Nova would take an instance's signature for a provider's. A claim
// that is not from a trusted address, lacks a header, has one twice or
// malformed, or is signed with none of the secrets ends the request with
// `identity_invalid`.
//
// The signature covers the instance id only. The tenant and the instance's
// address (`X-Forwarded-For`) are believed because the agent is trusted, so
// trust nothing but agents.
//
// Caller: id `instance:<uuid>`, the agent's instance and tenant, and the
// address that the agent names, if it names one.
type Neutron struct {
	// The secrets shared with the agent (`metadata_proxy_shared_secret`), as
	// placeholders `{env.NAME}` or `{file.PATH}`. Any of them verifies; the first
	// signs what goes upstream. Two are given while a secret is rotated. They
	// are read when the configuration is loaded, so reload after an edit.
	Secrets []string `json:"secrets,omitempty"`

	// Addresses and prefixes of the agents. Default: loopback, `127.0.0.0/8`
	// and `::1`.
	Trust []string `json:"trust,omitempty"`

	signers   []*signer
	trusted   *bart.Lite
	assertion *Assertion
}

// CaddyModule says what this is to Caddy.
func (*Neutron) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "metaguard.identities.neutron",
		New: func() caddy.Module { return new(Neutron) },
	}
}

// Provision reads the secrets and the trusted addresses. It opens and starts
// nothing else, so there is nothing to clean up: what requests still use lives
// as long as they do.
func (n *Neutron) Provision(caddy.Context) error {
	n.signers = nil
	for i, placeholder := range n.Secrets {
		secret, err := ResolveSecret(placeholder)
		if err != nil {
			return fmt.Errorf("secret %d of identify neutron: %w", i+1, err)
		}
		n.signers = append(n.signers, newSigner(secret))
		if i > 0 {
			continue
		}
		if n.assertion, err = NewAssertion(secret); err != nil {
			return err
		}
	}
	trust := n.Trust
	if len(trust) == 0 {
		trust = []string{"127.0.0.0/8", "::1"}
	}
	n.trusted = new(bart.Lite)
	for _, text := range trust {
		prefix, err := parsePrefix(text)
		if err != nil {
			return fmt.Errorf("trust of identify neutron: %w", err)
		}
		n.trusted.Insert(prefix)
	}
	return nil
}

// Validate refuses a source without a secret.
func (n *Neutron) Validate() error {
	if len(n.signers) == 0 {
		return errors.New("identify neutron needs a secret")
	}
	return nil
}

// Identify claims a request that has any of Neutron's headers. Its codes:
//
//   - neutron_sender_untrusted: the peer is no trusted agent
//   - neutron_provider_header: a load balancer's claim, which is never accepted
//   - neutron_header_doubled: one of the headers is there twice
//   - neutron_instance_missing, neutron_tenant_missing, neutron_signature_missing
//   - neutron_instance_malformed, neutron_tenant_malformed, neutron_signature_malformed
//   - neutron_signature_wrong: none of the secrets gives this signature
//   - neutron_address_doubled, neutron_address_malformed: X-Forwarded-For is
//     not exactly one address
func (n *Neutron) Identify(r *http.Request, peer netip.Addr) (*decision.Caller, *decision.Refusal) {
	ids, tenants, signatures := r.Header[HeaderInstanceID], r.Header[HeaderTenantID], r.Header[HeaderSignature]
	provider := len(r.Header[HeaderProvider]) + len(r.Header[HeaderProviderSignature])
	if len(ids)+len(tenants)+len(signatures)+provider == 0 {
		return nil, nil
	}
	// A stranger learns nothing about the rest of its claim.
	if !n.Trusts(peer) {
		return nil, invalid("neutron_sender_untrusted")
	}
	if provider > 0 {
		return nil, invalid("neutron_provider_header")
	}
	if len(ids) > 1 || len(tenants) > 1 || len(signatures) > 1 {
		return nil, invalid("neutron_header_doubled")
	}
	id, tenant, signature := first(ids), first(tenants), first(signatures)
	if code := formOf(id, tenant, signature); code != "" {
		return nil, invalid(code)
	}
	if !n.verify(id, signature) {
		return nil, invalid("neutron_signature_wrong")
	}
	address, code := forwardedFor(r.Header[headerForwardedFor])
	if code != "" {
		return nil, invalid(code)
	}
	callerID := instancePrefix + id
	return &decision.Caller{
		Source:     neutronName,
		ID:         callerID,
		InstanceID: callerID[len(instancePrefix):],
		ProjectID:  tenant,
		Address:    address,
	}, nil
}

// Trusts tells whether peer is a trusted agent. A Unix socket's peer never is.
func (n *Neutron) Trusts(peer netip.Addr) bool {
	return peer.IsValid() && n.trusted.Contains(plain(peer))
}

// TrustsAll tells whether every address of prefix is a trusted agent's.
func (n *Neutron) TrustsAll(prefix netip.Prefix) bool {
	return n.trusted.LookupPrefix(prefix)
}

// Name is "neutron".
func (*Neutron) Name() string { return neutronName }

// Headers lists the five headers that are claims, and X-Forwarded-For.
func (*Neutron) Headers() []string {
	return []string{
		HeaderInstanceID, HeaderTenantID, HeaderSignature, HeaderProvider, HeaderProviderSignature, headerForwardedFor,
	}
}

// Assertion signs with the first secret.
func (n *Neutron) Assertion() *Assertion { return n.assertion }

// verify tries every secret, whichever fits, so that time tells nothing.
func (n *Neutron) verify(id, signature string) bool {
	var given, expected [signatureLen]byte
	copy(given[:], signature)
	right := 0
	for _, signer := range n.signers {
		signer.sign(&expected, id)
		right |= subtle.ConstantTimeCompare(given[:], expected[:])
	}
	return right == 1
}

// formOf is the code of what is missing or malformed, or empty.
func formOf(id, tenant, signature string) string {
	switch {
	case id == "":
		return "neutron_instance_missing"
	case signature == "":
		return "neutron_signature_missing"
	case tenant == "":
		return "neutron_tenant_missing"
	case !isUUID(id):
		return "neutron_instance_malformed"
	case !validProjectID(tenant):
		return "neutron_tenant_malformed"
	case len(signature) != signatureLen:
		return "neutron_signature_malformed"
	}
	for i := range len(signature) {
		if !lowerHex(signature[i]) {
			return "neutron_signature_malformed"
		}
	}
	return ""
}

// forwardedFor reads the address that the agent asks for: none, or exactly one.
// A list means that somebody else added to it.
func forwardedFor(values []string) (netip.Addr, string) {
	switch len(values) {
	case 0:
		return netip.Addr{}, ""
	case 1:
	default:
		return netip.Addr{}, "neutron_address_doubled"
	}
	address, err := netip.ParseAddr(values[0])
	if err != nil || address.Zone() != "" || address.Unmap().IsUnspecified() {
		return netip.Addr{}, "neutron_address_malformed"
	}
	return address.Unmap(), ""
}

func first(values []string) string {
	if len(values) == 0 {
		return ""
	}
	return values[0]
}

func invalid(code string) *decision.Refusal { return decision.Refuse(decision.IdentityInvalid, code) }

var (
	_ caddy.Module          = (*Neutron)(nil)
	_ caddy.Provisioner     = (*Neutron)(nil)
	_ caddy.Validator       = (*Neutron)(nil)
	_ caddyfile.Unmarshaler = (*Neutron)(nil)
	_ Source                = (*Neutron)(nil)
	_ Agent                 = (*Neutron)(nil)
	_ Asserter              = (*Neutron)(nil)
)
