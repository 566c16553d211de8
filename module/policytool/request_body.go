// SPDX-License-Identifier: Apache-2.0

package policytool

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/util"
	"github.com/spf13/pflag"

	"github.com/metaguard/metaguard/module/decision"
)

// body is what a policy is told of a request body.
type body struct {
	size   int
	format string
	bits   int
}

var bodyFormats = []string{decision.FormatRSABase64, decision.FormatText, decision.FormatBinary, decision.FormatEmpty}

// rsaSizes maps the bits of a key to the bytes of its results in base64, see
// password.Inspect.
var rsaSizes = map[int]int{1024: 172, 1536: 256, 2048: 344, 3072: 512, 4096: 684, 6144: 1024, 8192: 1368}

// textSize is the size of a password in clear, unless the request says another.
const textSize = 16

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
	case !slices.Contains(bodyFormats, b.format):
		return nil, fmt.Errorf("--body-format %q: there are %s", b.format, strings.Join(bodyFormats, ", "))
	case b.size < 0:
		return nil, fmt.Errorf("--body-size %d: a size is not negative", b.size)
	case b.format != decision.FormatRSABase64 && set.Changed("key-bits"):
		return nil, fmt.Errorf("--key-bits: only a body of the format %s has a key", decision.FormatRSABase64)
	case b.format == decision.FormatEmpty && b.size > 0:
		return nil, errors.New("--body-size: an empty body has none")
	}
	view := &decision.Body{Format: b.format, Size: b.size}
	switch b.format {
	case decision.FormatRSABase64:
		size, ok := rsaSizes[b.bits]
		if !ok {
			return nil, fmt.Errorf("--key-bits %d: there are %s", b.bits, strings.Trim(fmt.Sprint(util.KeysSorted(rsaSizes)), "[]"))
		}
		// One newline at the end counts as a part of the result.
		if set.Changed("body-size") && b.size != size && b.size != size+1 {
			return nil, fmt.Errorf("--body-size %d: the result of a key of %d bits has %d bytes", b.size, b.bits, size)
		}
		view.KeyBits = b.bits
		if !set.Changed("body-size") {
			view.Size = size
		}
	case decision.FormatText, decision.FormatBinary:
		if !set.Changed("body-size") {
			view.Size = textSize
		}
		if view.Size == 0 {
			return nil, errors.New("--body-size 0: say --body-format empty")
		}
	}
	return view, nil
}
