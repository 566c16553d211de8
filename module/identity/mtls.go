// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"net/http"
	"net/netip"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddytls"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/metaguard/metaguard/module/decision"
)

const mtlsName = "mtls"

// maxCertificateNames bounds the names of all kinds in one certificate, and
// maxSubjectName the length of its subject in bytes.
const (
	maxCertificateNames = 100
	maxSubjectName      = 1024
)

func init() { caddy.RegisterModule(new(MTLS)) }

// MTLS knows callers by the TLS client certificate that the site verified. Any
// client certificate is a claim; one that was merely sent, and not verified
// against the site's own authorities, ends the request with `identity_invalid`.
//
// The site must verify: `tls { client_auth { mode verify_if_given, trust_pool file
// ca.pem } }`, or the mode `require_and_verify`. A certificate counts until it
// expires, also on a connection that was opened before. Nothing is asked about
// revocation: keep certificates short-lived, or add a verifier to `client_auth`.
//
// Caller: id is the SPIFFE id (`spiffe://trust-domain/path`) where the certificate
// has one, else `subject:` and the subject as RFC 2253 writes it, else `dns:` and
// its first DNS name, else `certificate:` and its fingerprint. Only the SPIFFE id
// is unique by itself; a subject is as unique as the site's authorities make it.
//
// Claims, all of which are always there: `spiffe_id` (or empty), `uris`,
// `dns_names`, `ip_addresses`, `email_addresses` (lists), `subject`,
// `common_name`, `issuer` (text), `serial_number` and `sha256`, the fingerprint
// (hexadecimal digits), `not_after` (seconds since 1970).
type MTLS struct {
	// On whose data these callers act. Default: on no instance's.
	Target *TargetRule `json:"target,omitempty"`
}

// CaddyModule says what this is to Caddy.
func (*MTLS) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "metaguard.identities.mtls",
		New: func() caddy.Module { return new(MTLS) },
	}
}

// Provision refuses a site that verifies no certificates, and reads the
// target's inventory. It starts nothing.
func (s *MTLS) Provision(ctx caddy.Context) error {
	if server, ok := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server); ok && !verifiesClients(server) {
		return errors.New("identify mtls needs a site that verifies client certificates: " +
			"add `tls { client_auth { mode require_and_verify, trust_pool file <ca.pem> } }` to the site, or mode verify_if_given")
	}
	if s.Target != nil {
		return s.Target.Provision(ctx)
	}
	return nil
}

// verifiesClients tells whether any of the server's TLS settings verifies client
// certificates against authorities of its own. Without a trust_pool Go would
// take the system's, which vouch for any web site.
func verifiesClients(server *caddyhttp.Server) bool {
	for _, policy := range server.TLSConnPolicies {
		if policy == nil || policy.ClientAuthentication == nil {
			continue
		}
		if auth := policy.ClientAuthentication; verifies(auth.Mode) && hasAuthorities(auth) {
			return true
		}
	}
	return false
}

func verifies(mode string) bool {
	return mode == "" || mode == "verify_if_given" || mode == "require_and_verify"
}

func hasAuthorities(auth *caddytls.ClientAuthentication) bool {
	//nolint:staticcheck // deprecated, and still in use
	return auth.CARaw != nil || len(auth.TrustedCACerts) > 0 || len(auth.TrustedCACertPEMFiles) > 0
}

// Cleanup ends what Start began.
func (s *MTLS) Cleanup() error {
	s.Target.Stop()
	return nil
}

// Start follows the target's inventory, if there is one.
func (s *MTLS) Start() error { return s.Target.Start() }

// Stop ends what Start began, if anything.
func (s *MTLS) Stop() { s.Target.Stop() }

// Identify claims a request on a connection with a client certificate. Its
// codes:
//
//   - certificate_unverified: it was sent, but the site did not verify it
//   - certificate_expired: it has expired since the connection was opened
//   - certificate_spiffe: its SPIFFE id is malformed, or one of several URIs
//     (X509-SVID, section 2)
//   - certificate_too_large: more than 100 names, or a subject over 1,024 bytes
func (s *MTLS) Identify(r *http.Request, peer netip.Addr) (*decision.Caller, *decision.Refusal) {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return nil, nil
	}
	if len(r.TLS.VerifiedChains) == 0 || len(r.TLS.VerifiedChains[0]) == 0 {
		return nil, invalid("certificate_unverified")
	}
	certificate := r.TLS.VerifiedChains[0][0]
	if time.Now().After(certificate.NotAfter) {
		return nil, invalid("certificate_expired")
	}
	spiffe, ok := spiffeOf(certificate)
	if !ok {
		return nil, invalid("certificate_spiffe")
	}
	subject := certificate.Subject.String()
	names := len(certificate.URIs) + len(certificate.DNSNames) + len(certificate.IPAddresses) + len(certificate.EmailAddresses)
	if names > maxCertificateNames || len(subject) > maxSubjectName {
		return nil, invalid("certificate_too_large")
	}
	sum := sha256.Sum256(certificate.Raw)
	fingerprint := hex.EncodeToString(sum[:])
	caller := &decision.Caller{
		Source:  mtlsName,
		Address: peer,
		Claims:  certificateClaims(certificate, spiffe, subject, fingerprint),
	}
	switch {
	case spiffe != "":
		caller.ID = spiffe
	case subject != "":
		caller.ID = "subject:" + subject
	case len(certificate.DNSNames) > 0:
		caller.ID = "dns:" + certificate.DNSNames[0]
	default:
		caller.ID = "certificate:" + fingerprint
	}
	return caller, nil
}

// spiffeOf is the certificate's SPIFFE id, or empty if it has none. It is false
// where there is one that is not as X509-SVID wants it.
func spiffeOf(certificate *x509.Certificate) (string, bool) {
	for _, uri := range certificate.URIs {
		if uri.Scheme != "spiffe" {
			continue
		}
		id, err := spiffeid.FromURI(uri)
		return id.String(), err == nil && len(certificate.URIs) == 1
	}
	return "", true
}

func certificateClaims(certificate *x509.Certificate, spiffe, subject, fingerprint string) map[string]any {
	uris := make([]any, len(certificate.URIs))
	for i, uri := range certificate.URIs {
		uris[i] = uri.String()
	}
	addresses := make([]any, len(certificate.IPAddresses))
	for i, address := range certificate.IPAddresses {
		addresses[i] = address.String()
	}
	return map[string]any{
		"spiffe_id":       spiffe,
		"uris":            uris,
		"dns_names":       anyList(certificate.DNSNames),
		"ip_addresses":    addresses,
		"email_addresses": anyList(certificate.EmailAddresses),
		"subject":         subject,
		"common_name":     certificate.Subject.CommonName,
		"issuer":          certificate.Issuer.String(),
		"serial_number":   certificate.SerialNumber.Text(16),
		"sha256":          fingerprint,
		"not_after":       certificate.NotAfter.Unix(),
	}
}

// anyList is a list as claims hold it.
func anyList(texts []string) []any {
	list := make([]any, len(texts))
	for i, text := range texts {
		list[i] = text
	}
	return list
}

// Name is "mtls".
func (*MTLS) Name() string { return mtlsName }

// Headers lists the header of `target request`, if that is the rule.
func (s *MTLS) Headers() []string { return s.Target.headers() }

// TargetRule says on whose data these callers act.
func (s *MTLS) TargetRule() *TargetRule { return s.Target }

// UnmarshalCaddyfile reads the whole grammar:
//
//	identify mtls {
//		target remote_ip <inventory-file> [connection|client_ip|proxy_protocol]
//		target claim <name> [<project-claim>]
//		target request <inventory-file>
//	}
//
// There may be one target.
func (s *MTLS) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	return unmarshalTargetOnly(d, "identify mtls", &s.Target)
}

var (
	_ caddy.Module          = (*MTLS)(nil)
	_ caddy.Provisioner     = (*MTLS)(nil)
	_ caddy.CleanerUpper    = (*MTLS)(nil)
	_ caddyfile.Unmarshaler = (*MTLS)(nil)
	_ Source                = (*MTLS)(nil)
	_ Starter               = (*MTLS)(nil)
	_ Targeter              = (*MTLS)(nil)
)
