// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"encoding/json"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"time"
	"unicode"

	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/tokens"

	"github.com/metaguard/metaguard/module/decision"
)

// Bounds of what is kept of a token. Keystone's own columns hold 255
// characters, and few users have ten roles.
const (
	maxKeystoneName  = 4 * 255
	maxKeystoneRoles = 256
)

// keystoneUser is who has a token, as Keystone says. It never changes.
type keystoneUser struct {
	id      string // with its prefix
	project string
	roles   []string
	claims  map[string]any
	expires time.Time
	bound   bool // the token counts only with a certificate or a principal
}

// caller is the user as a request's own, apart from the shared roles.
func (u *keystoneUser) caller(address netip.Addr) *decision.Caller {
	return &decision.Caller{
		Source:    keystoneName,
		ID:        u.id,
		ProjectID: u.project,
		Address:   address,
		Roles:     u.roles,
		Claims:    maps.Clone(u.claims),
	}
}

// tokenDocument is Keystone's answer; the pointers are nil where the token lacks
// the thing.
type tokenDocument struct {
	Token struct {
		tokens.Token
		IssuedAt   time.Time        `json:"issued_at"`
		User       tokens.User      `json:"user"`
		Project    *tokens.Project  `json:"project"`
		Domain     *tokens.Domain   `json:"domain"`
		System     *map[string]bool `json:"system"`
		Roles      []tokens.Role    `json:"roles"`
		Trust      *tokens.Trust    `json:"OS-TRUST:trust"`
		Credential *struct {
			ID string `json:"id"`
		} `json:"application_credential"`
		Bind   map[string]any `json:"bind"`
		OAuth2 map[string]any `json:"oauth2_credential"`
	} `json:"token"`
}

// What is wrong with a document, without what stands in it.
var (
	errNoToken    = errors.New("keystone's answer is no token as its API describes it")
	errManyScopes = errors.New("keystone's answer has a token with more than one scope")
	errOversized  = errors.New("keystone's answer has longer names or more roles than Keystone itself allows")
)

// readToken reads Keystone's answer.
func readToken(body []byte) (*keystoneUser, error) {
	var document tokenDocument
	if err := json.Unmarshal(body, &document); err != nil {
		return nil, errNoToken // the error's own text may hold a part of the answer
	}
	token := &document.Token
	if !validUser(token.User.ID) || token.IssuedAt.IsZero() || !token.IssuedAt.Before(token.ExpiresAt) {
		return nil, errNoToken
	}
	u := &keystoneUser{
		id:      "user:" + token.User.ID,
		expires: token.ExpiresAt,
		bound:   len(token.Bind)+len(token.OAuth2) > 0,
		claims: map[string]any{
			"user_id": token.User.ID, "user_name": token.User.Name,
			"user_domain_id": token.User.Domain.ID, "user_domain_name": token.User.Domain.Name,
			"expires_at": token.ExpiresAt.UTC().Format(time.RFC3339),
		},
	}
	if err := u.readScope(&document); err != nil {
		return nil, err
	}
	if token.Credential != nil {
		u.claims["application_credential_id"] = token.Credential.ID
	}
	if token.Trust != nil {
		u.claims["trust_id"] = token.Trust.ID
		u.claims["trustor_user_id"] = token.Trust.TrustorUserID.ID
		u.claims["trustee_user_id"] = token.Trust.TrusteeUserID.ID
	}
	for _, role := range token.Roles {
		if role.Name == "" {
			return nil, errNoToken
		}
		u.roles = append(u.roles, role.Name)
	}
	slices.Sort(u.roles)
	u.roles = slices.Compact(u.roles)
	return u, u.checkSize()
}

// readScope reads for what the token counts: one project, one domain, the whole
// system, or nothing.
func (u *keystoneUser) readScope(document *tokenDocument) error {
	token, scopes := &document.Token, 0
	if token.Project != nil {
		scopes++
		if !validProjectID(token.Project.ID) {
			return errNoToken
		}
		u.project = token.Project.ID
		u.claims["project_name"] = token.Project.Name
		u.claims["project_domain_id"] = token.Project.Domain.ID
		u.claims["project_domain_name"] = token.Project.Domain.Name
	}
	if token.Domain != nil {
		scopes++
		if token.Domain.ID == "" {
			return errNoToken
		}
		u.claims["domain_id"] = token.Domain.ID
	}
	if token.System != nil {
		scopes++
		if !(*token.System)["all"] { // the only part of a system that there is
			return errNoToken
		}
		u.claims["system"] = true
	}
	if scopes > 1 {
		return errManyScopes
	}
	return nil
}

// checkSize bounds what a cached user takes.
func (u *keystoneUser) checkSize() error {
	if len(u.roles) > maxKeystoneRoles {
		return errOversized
	}
	for _, role := range u.roles {
		if len(role) > maxKeystoneName {
			return errOversized
		}
	}
	for _, claim := range u.claims {
		if text, ok := claim.(string); ok && len(text) > maxKeystoneName {
			return errOversized
		}
	}
	return nil
}

// validUser tells whether id can be a user: Keystone's own are hexadecimal
// digits, but those of a directory may be any name.
func validUser(id string) bool {
	if id == "" || len(id) > maxKeystoneName {
		return false
	}
	for _, c := range id {
		if !unicode.IsPrint(c) || c == unicode.ReplacementChar {
			return false
		}
	}
	return true
}
