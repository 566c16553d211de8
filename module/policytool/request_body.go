// SPDX-License-Identifier: Apache-2.0

package policytool

import (
	"fmt"
	"strings"

	"github.com/spf13/pflag"

	"github.com/metaguard/metaguard/module/decision"
)

// body is what the flags say of a request's body.
type body struct {
	size   int
	format string
	bits   int
}

// view is the body as the policy sees it: nil where the resource has none.
func (b *body) view(set *pflag.FlagSet, expected bool) (*decision.Body, error) {
	var said []string
	for _, name := range []string{"body-size", "body-format", "key-bits"} {
		if set.Changed(name) {
			said = append(said, "--"+name)
		}
	}
	switch {
	case !expected && len(said) > 0:
		return nil, fmt.Errorf("%s: this request has no body; a password is written with --method POST", strings.Join(said, ", "))
	case !expected:
		return nil, nil //nolint:nilnil // no body is an answer
	}
	described := Body{Format: b.format}
	if set.Changed("body-size") {
		described.Size = &b.size
	}
	if set.Changed("key-bits") {
		described.KeyBits = &b.bits
	}
	view, err := described.View()
	return view, asFlag(err)
}
