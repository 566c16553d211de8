// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

// secret is a secret of a guard, by its placeholder. Its value is compared and
// counted, and never shown.
type secret struct {
	placeholder string
	path        string // in the configuration
	purpose     string
	file        string // empty for an environment variable
}

// shortest is how many bytes a secret of a purpose must have at least.
var shortest = map[string]int{"Neutron's agent": 16, "session tokens": 32, "fingerprints": 32}

// wellKnown are secrets that stand in guides and sample configurations.
var wellKnown = []string{
	"metadata_secret", "metadata_proxy_shared_secret", "metadatasecret", "metadata", "sharedsecret", "shared_secret", "secret", "supersecret",
	"openstack", "neutron", "nova", "devstack", "nomoresecret", "secretservice", "stack", "password", "passw0rd", "changeme", "change_me",
	"admin", "foobared", "temporary", "test", "12345", "123456", "12345678", "0123456789abcdef", "s3cr3t", "insecure", "example",
}

// secrets are those of all guards, each placeholder once for each purpose.
func (x *examination) secrets() []secret {
	var found []secret
	for _, g := range x.guards {
		texts(g.object, g.path, "", func(path, _, text string) {
			purpose := purposeOf(strings.TrimPrefix(path, g.path+"."))
			name, isFile := strings.CutPrefix(text, "{file.")
			if purpose == "" || !strings.HasSuffix(text, "}") || !isFile && !strings.HasPrefix(text, "{env.") {
				return
			}
			s := secret{placeholder: text, path: path, purpose: purpose}
			if isFile {
				s.file = strings.TrimSuffix(name, "}")
			}
			if !slices.ContainsFunc(found, func(known secret) bool { return known.placeholder == text && known.purpose == purpose }) {
				found = append(found, s)
			}
		})
	}
	return found
}

// redisPurpose is what a URL of a latch is for.
const redisPurpose = "Redis"

// purposeOf tells what a secret at this place of a handler is for.
func purposeOf(path string) string {
	switch {
	case strings.HasPrefix(path, "identities[") && strings.Contains(path, "].secrets["), path == "assert_neutron":
		return "Neutron's agent"
	case strings.HasPrefix(path, "session.keys["):
		return "session tokens"
	case strings.HasPrefix(path, "password.fingerprint_keys["):
		return "fingerprints"
	case path == "password.latch.url":
		return redisPurpose
	case strings.HasSuffix(path, ".jwks.token"):
		return "the server of keys"
	}
	return ""
}

// maxSecret bounds what is read of a file, in bytes.
const maxSecret = 64 << 10

// value reads a secret, as the server would: without a line end.
func (x *examination) value(s secret) (string, error) {
	if s.file == "" {
		return x.variable(strings.TrimSuffix(strings.TrimPrefix(s.placeholder, "{env."), "}"))
	}
	if info, err := os.Stat(s.file); err != nil {
		return "", err
	} else if !info.Mode().IsRegular() {
		return "", errors.New("it is no regular file") // a pipe would hang
	}
	file, err := os.Open(s.file)
	if err != nil {
		return "", err
	}
	defer file.Close() //nolint:errcheck // it is only read
	content, err := io.ReadAll(io.LimitReader(file, maxSecret))
	return trimLine(string(content)), err
}

func trimLine(text string) string { return strings.TrimSuffix(strings.TrimSuffix(text, "\n"), "\r") }

// variable is an environment variable of the server, or where that is not
// known, of this program.
func (x *examination) variable(name string) (string, error) {
	if x.running != nil && x.running.environ != nil {
		if value, set := x.running.environ[name]; set {
			return trimLine(value), nil
		}
		return "", fmt.Errorf("the running server has no variable %s", name)
	}
	if value, set := os.LookupEnv(name); set {
		return trimLine(value), nil
	}
	return "", fmt.Errorf("the variable %s is not set here: run the doctor with the server's environment", name)
}

func (x *examination) whereSecret(s secret) string {
	return x.config.whereOne(s.path, func(l textLine) bool { return slices.Contains(l.words, s.placeholder) })
}

// checkSecretReadable finds files with secrets that everybody can read.
func checkSecretReadable(_ context.Context, x *examination, f *finder) {
	for _, s := range x.secrets() {
		if s.file != "" {
			checkMode(f, s.file, 0o004, "everybody can read this secret for "+s.purpose)
		}
	}
}

// checkSecretWritable finds files with secrets that others can exchange.
func checkSecretWritable(_ context.Context, x *examination, f *finder) {
	for _, s := range x.secrets() {
		if s.file != "" {
			checkWritable(f, s.file, "the secret for "+s.purpose)
		}
	}
}

// checkSecretWeak finds secrets that can be guessed.
func checkSecretWeak(_ context.Context, x *examination, f *finder) {
	for _, s := range x.secrets() {
		value, err := x.value(s)
		if err != nil {
			tell := f.unable
			if !x.asked.live { // where it does not run, its secrets need not be
				tell = f.leftOut
			}
			tell(s.placeholder, plain(err))
			continue
		}
		switch least := shortest[s.purpose]; {
		case slices.Contains(wellKnown, strings.ToLower(value)):
			f.found(x.whereSecret(s), fmt.Sprintf("%s, the secret for %s, stands in guides and sample configurations", s.placeholder, s.purpose))
		case len(value) < least:
			f.found(x.whereSecret(s), fmt.Sprintf("%s, the secret for %s, is shorter than %d bytes", s.placeholder, s.purpose, least))
		case least > 0 && strings.Count(value, value[:1]) == len(value):
			f.found(x.whereSecret(s), fmt.Sprintf("%s, the secret for %s, is one character again and again", s.placeholder, s.purpose))
		}
	}
}

// checkSecretReused finds one secret with two purposes. What cannot be read is
// told by checkSecretWeak.
func checkSecretReused(_ context.Context, x *examination, f *finder) {
	first := map[string]secret{}
	for _, s := range x.secrets() {
		value, err := x.value(s)
		if err != nil || value == "" {
			continue
		}
		known, used := first[value]
		switch {
		case !used:
			first[value] = s
		case known.purpose != s.purpose:
			f.found(x.whereSecret(s), fmt.Sprintf("%s for %s and %s for %s are the same secret", known.placeholder, known.purpose, s.placeholder, s.purpose))
		}
	}
}

// checkSecretEnvironment tells of secrets in environment variables.
func checkSecretEnvironment(_ context.Context, x *examination, f *finder) {
	var names []string
	for _, s := range x.secrets() {
		if s.file == "" && !slices.Contains(names, s.placeholder) {
			names = append(names, s.placeholder)
		}
	}
	if len(names) > 0 {
		f.found(x.config.whole("apps.http"), "secrets are in the environment: "+strings.Join(names, " "))
	}
}
