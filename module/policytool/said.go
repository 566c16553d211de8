// SPDX-License-Identifier: Apache-2.0

package policytool

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/util"

	"github.com/metaguard/metaguard/module/decision"
)

// Caller is who calls, as a person would say it: in the flags of `eval`, and in
// what a running server is asked.
type Caller struct {
	// As is instance:<id>, user:<id> or anonymous.
	As string `json:"as"`
	// Source vouches for the caller. Default: neutron, keystone or anonymous.
	Source string `json:"source,omitempty"`
	// Project is the id of the caller's project. Default: none.
	Project string `json:"project,omitempty"`
	// Roles are the caller's. Default: none.
	Roles []string `json:"roles,omitempty"`
	// Address is where the caller is. Default: one that is kept for documentation.
	Address string `json:"address,omitempty"`
}

// MistakeError says what is wrong with one setting of a description.
type MistakeError struct {
	// Setting is its name in JSON, and Problem what goes on after it.
	Setting, Problem string
}

func (e *MistakeError) Error() string { return e.Setting + e.Problem }

func mistake(setting, format string, args ...any) error {
	return &MistakeError{setting, fmt.Sprintf(format, args...)}
}

// asFlag names the flag in the place of the setting.
func asFlag(err error) error {
	var wrong *MistakeError
	if !errors.As(err, &wrong) {
		return err
	}
	flag, found := map[string]string{"body.size": "body-size", "body.format": "body-format", "body.key_bits": "key-bits"}[wrong.Setting]
	if !found {
		flag = wrong.Setting
	}
	return errors.New("--" + flag + wrong.Problem)
}

// Read makes the caller that an identity source would give.
func (c *Caller) Read() (decision.Caller, error) {
	kind, id, _ := strings.Cut(c.As, ":")
	caller := decision.Caller{ID: c.As, ProjectID: c.Project, Roles: c.Roles, Address: callerAddress}
	switch {
	case c.As == "anonymous":
		caller.Source = "anonymous"
	case kind == "instance" && id != "":
		caller.Source, caller.InstanceID = "neutron", id
	case kind == "user" && id != "":
		caller.Source = "keystone"
	default:
		return caller, mistake("as", " %q is no caller: say instance:<id>, user:<id> or anonymous", c.As)
	}
	if c.Source != "" {
		caller.Source = c.Source
	}
	if c.Address != "" {
		address, err := netip.ParseAddr(c.Address)
		if err != nil {
			return caller, mistake("address", " %q is no IP address", c.Address)
		}
		caller.Address = address.Unmap()
	}
	return caller, nil
}

// Body is what a request's body looks like, as a person would say it.
type Body struct {
	// Size is in bytes. Default: what its format and key give.
	Size *int `json:"size,omitempty"`
	// Format is rsa_base64, text, binary or empty.
	Format string `json:"format"`
	// KeyBits is the size of the RSA key that a password is encrypted for.
	// Default: 2048. Only the format rsa_base64 has one.
	KeyBits *int `json:"key_bits,omitempty"`
}

const defaultKeyBits = 2048

var bodyFormats = []string{decision.FormatRSABase64, decision.FormatText, decision.FormatBinary, decision.FormatEmpty}

// rsaSizes maps the bits of a key to the bytes of its results in base64, see
// password.Inspect.
var rsaSizes = map[int]int{1024: 172, 1536: 256, 2048: 344, 3072: 512, 4096: 684, 6144: 1024, 8192: 1368}

// textSize is the size of a password in clear, unless the request says another.
const textSize = 16

// View is the body as a policy sees it.
func (b *Body) View() (*decision.Body, error) {
	view := &decision.Body{Format: b.Format}
	if b.Size != nil {
		view.Size = *b.Size
	}
	switch {
	case !slices.Contains(bodyFormats, b.Format):
		return nil, mistake("body.format", " %q: there are %s", b.Format, strings.Join(bodyFormats, ", "))
	case view.Size < 0:
		return nil, mistake("body.size", " %d: a size is not negative", view.Size)
	case b.Format != decision.FormatRSABase64 && b.KeyBits != nil:
		return nil, mistake("body.key_bits", ": only a body of the format %s has a key", decision.FormatRSABase64)
	case b.Format == decision.FormatEmpty && view.Size > 0:
		return nil, mistake("body.size", ": an empty body has none")
	}
	switch b.Format {
	case decision.FormatRSABase64:
		view.KeyBits = defaultKeyBits
		if b.KeyBits != nil {
			view.KeyBits = *b.KeyBits
		}
		size, ok := rsaSizes[view.KeyBits]
		if !ok {
			return nil, mistake("body.key_bits", " %d: there are %s", view.KeyBits, strings.Trim(fmt.Sprint(util.KeysSorted(rsaSizes)), "[]"))
		}
		// One newline at the end counts as a part of the result.
		if b.Size != nil && view.Size != size && view.Size != size+1 {
			return nil, mistake("body.size", " %d: the result of a key of %d bits has %d bytes", view.Size, view.KeyBits, size)
		}
		if b.Size == nil {
			view.Size = size
		}
	case decision.FormatText, decision.FormatBinary:
		if b.Size == nil {
			view.Size = textSize
		}
		if view.Size == 0 {
			return nil, mistake("body.size", " 0: say %s for the format", decision.FormatEmpty)
		}
	}
	return view, nil
}
