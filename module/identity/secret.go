// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"errors"
	"fmt"
	"strings"

	"github.com/caddyserver/caddy/v2"

	"github.com/metaguard/metaguard/module/decision"
)

// maxSecret is the longest secret in bytes. Caddy silently cuts a file at
// 1 MiB, and so long a one is some other file given by mistake.
const maxSecret = 64 << 10

// CheckSecretPlaceholder returns an error unless s is exactly one placeholder
// {env.NAME} or {file.PATH}. A literal would stand in the running
// configuration, and {$NAME} is a literal by the time anyone can look at it.
// The error never shows s, which may well be the secret.
func CheckSecretPlaceholder(s string) error {
	const advice = "a secret is given as {env.NAME} or {file.PATH}"
	name, opened := strings.CutPrefix(s, "{")
	name, closed := strings.CutSuffix(name, "}")
	if !opened || !closed {
		return errors.New(advice + "; a literal, which {$NAME} is too, would stand in the running configuration")
	}
	name, env := strings.CutPrefix(name, "env.")
	name, file := strings.CutPrefix(name, "file.")
	switch {
	case env == file: // neither; or env.file.X, which no one means
		return errors.New(advice + "; other placeholders are not allowed")
	case name == "":
		return errors.New(advice + "; the name is empty")
	case strings.ContainsAny(name, "{}\n\r\x00") || strings.HasSuffix(name, `\`):
		return errors.New(advice + ", alone and with nothing around it")
	}
	return nil
}

// ResolveSecret reads the secret behind a placeholder that
// CheckSecretPlaceholder accepts, without one line end at its end. An unset or
// empty variable, and a file that is empty or cannot be read, are errors.
//
// It is meant for Provision: a secret that is edited later is used after the
// next reload, not before.
func ResolveSecret(placeholder string) (decision.Secret, error) {
	if err := CheckSecretPlaceholder(placeholder); err != nil {
		return decision.Secret{}, err
	}
	value, err := caddy.NewReplacer().ReplaceOrErr(placeholder, true, true)
	if err != nil {
		// From here on it is known to be a placeholder, which may be shown.
		return decision.Secret{}, fmt.Errorf("resolving secret %s: it is not set, empty or cannot be read: %w", placeholder, err)
	}
	if strings.HasPrefix(placeholder, "{env.") { // Caddy does the same for {file.*}
		value = strings.TrimSuffix(strings.TrimSuffix(value, "\n"), "\r")
	}
	switch {
	case value == "":
		return decision.Secret{}, fmt.Errorf("resolving secret %s: it is empty", placeholder)
	case len(value) > maxSecret:
		return decision.Secret{}, fmt.Errorf("resolving secret %s: it is longer than %d bytes; is it the right file?", placeholder, maxSecret)
	}
	return decision.NewSecret(value), nil
}
