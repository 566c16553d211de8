// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/lestrrat-go/jwx/v3/jws/jwsbb"

	"github.com/metaguard/metaguard/module/decision"
)

// jwtKeysUnavailable is the code of the only refusal that is no fault of the
// token's.
const jwtKeysUnavailable = "jwt_keys_unavailable"

// maxSubject is the longest `sub`, as in OpenID Connect.
const maxSubject = 255

// Identify claims a request that has a token. Its codes:
//
//   - jwt_doubled: the header is there twice
//   - jwt_too_long: the token has more than 16 KiB
//   - jwt_malformed: no compact form with one signature, no well-formed JSON in
//     it, or a name twice in one object, which has two readings
//   - jwt_algorithm: one that is not allowed, or that does not fit the key
//   - jwt_type: the token is of another kind, such as a logout token
//   - jwt_critical: it has extensions that must be understood; none is
//   - jwt_issuer, jwt_audience: from someone else, or for someone else
//   - jwt_expired, jwt_not_yet_valid: its times
//   - jwt_key_unknown: the issuer has no such key, or several
//   - jwt_signature_wrong
//   - jwt_subject: `sub` is missing or no 1 to 255 printable ASCII bytes
//   - jwt_claim: a claim is missing or not of its form: `exp`, `nbf`, `iat`,
//     the project, the roles, a number beyond all measure
//   - jwt_keys_unavailable, with identity_unavailable: there are no keys, none
//     young enough, or whether there is a new one cannot be asked
func (j *JWT) Identify(r *http.Request, peer netip.Addr) (*decision.Caller, *decision.Refusal) {
	text, claimed, code := j.credential(r.Header[j.header])
	if !claimed {
		return nil, nil
	}
	if code != "" {
		return nil, invalid(code)
	}
	token, code := parseToken(text, j.claims)
	if code != "" {
		return nil, invalid(code)
	}
	// What is cheap is judged first: a token that cannot pass costs neither a
	// signature nor a fetch of keys. Until the signature is verified nothing of
	// it is believed, only refused.
	if code := j.judge(token); code != "" {
		return nil, invalid(code)
	}
	key, refusal := j.key(r, token)
	if refusal != nil {
		return nil, refusal
	}
	if jwsbb.Verify(key.public, token.header.alg, token.signed, token.signature) != nil {
		return nil, invalid("jwt_signature_wrong")
	}
	return j.caller(token, peer)
}

// credential finds the token among the values of the header, and tells whether
// there is one.
func (j *JWT) credential(values []string) (token string, claimed bool, code string) {
	if j.header == headerAuthorization {
		for _, value := range values {
			if text, ok := bearer(value); ok {
				token, claimed = text, true
			}
		}
	} else if len(values) > 0 {
		token, claimed = values[0], true
	}
	switch {
	case claimed && len(values) > 1:
		return "", true, "jwt_doubled"
	case len(token) > maxToken:
		return "", true, "jwt_too_long"
	}
	return token, claimed, ""
}

// bearer cuts the scheme off, and tells whether it is Bearer. One without a
// token is a claim too: nobody else's.
func bearer(value string) (string, bool) {
	const scheme = "bearer"
	value = strings.TrimLeft(value, " \t")
	if len(value) < len(scheme) || !strings.EqualFold(value[:len(scheme)], scheme) {
		return "", false
	}
	rest := value[len(scheme):]
	if rest != "" && rest[0] != ' ' && rest[0] != '\t' {
		return "", false // the scheme only begins like it
	}
	return strings.TrimLeft(rest, " "), true
}

// judge is the code of what is wrong with the token apart from its signature,
// or empty.
func (j *JWT) judge(token *token) string {
	if !slices.Contains(j.algorithms, token.header.alg) {
		return "jwt_algorithm"
	}
	if !acceptedType(token.header) {
		return "jwt_type"
	}
	if token.header.critical {
		return "jwt_critical"
	}
	if issuer, ok := token.text(claimIss); !ok || issuer != j.Issuer {
		return "jwt_issuer"
	}
	if code := j.judgeTimes(token); code != "" {
		return code
	}
	audience, _ := token.list(claimAud)
	for _, value := range audience {
		if slices.Contains(j.Audience, value) {
			return ""
		}
	}
	return "jwt_audience"
}

// judgeTimes wants an end of every token, and honours both kinds of beginning.
func (j *JWT) judgeTimes(token *token) string {
	now := j.now()
	expiry, present, ok := token.time(claimExp)
	if !present || !ok {
		return "jwt_claim"
	}
	if !now.Before(expiry.Add(j.skew)) {
		return "jwt_expired"
	}
	for _, claim := range []int{claimNbf, claimIat} {
		begin, present, ok := token.time(claim)
		switch {
		case !ok:
			return "jwt_claim"
		case present && now.Before(begin.Add(-j.skew)):
			return "jwt_not_yet_valid"
		}
	}
	return ""
}

// key finds the key that the token is to be verified with, if need be among
// keys that are fetched anew.
func (j *JWT) key(r *http.Request, token *token) (*jwtKey, *decision.Refusal) {
	set, ok := j.keys.get(r.Context())
	if !ok {
		return nil, decision.Refuse(decision.IdentityUnavailable, jwtKeysUnavailable)
	}
	key, code, missing := set.find(token.header)
	if !missing {
		if code != "" {
			return nil, invalid(code)
		}
		return key, nil
	}
	set, sure := j.keys.renewed(r.Context(), set)
	key, code, missing = set.find(token.header)
	switch {
	case missing && !sure:
		return nil, decision.Refuse(decision.IdentityUnavailable, jwtKeysUnavailable)
	case code != "":
		return nil, invalid(code)
	}
	return key, nil
}

// caller makes the caller of a token that holds.
func (j *JWT) caller(token *token, peer netip.Addr) (*decision.Caller, *decision.Refusal) {
	subject, ok := token.text(claimSub)
	if !ok || subject == "" || len(subject) > maxSubject || !printable(subject) {
		return nil, invalid("jwt_subject")
	}
	claims, err := token.allowed()
	if err != nil {
		return nil, invalid("jwt_claim")
	}
	caller := &decision.Caller{
		Source:  jwtName,
		ID:      "jwt:" + j.Issuer + "#" + subject,
		Address: plain(peer),
		Claims:  claims,
	}
	if j.Project != "" {
		value, _ := token.find(j.Project) // an error leaves none
		caller.ProjectID, _ = value.(string)
		if !validProjectID(caller.ProjectID) {
			return nil, invalid("jwt_claim")
		}
	}
	if j.Roles != "" {
		value, err := token.find(j.Roles)
		if caller.Roles, ok = rolesOf(value); !ok || err != nil {
			return nil, invalid("jwt_claim")
		}
	}
	return caller, nil
}
