// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/open-policy-agent/opa/v1/ast"
)

// harmless lists the built-in functions that OPA marks as non-deterministic
// and that reach nothing outside the process: they read the clock or random
// numbers.
var harmless = []string{
	"io.jwt.decode_verify", "io.jwt.encode_sign", "io.jwt.encode_sign_raw",
	"rand.intn", "time.now_ns", "uuid.rfc4122",
}

// reasonsForbidden says why a function is off by default.
var reasonsForbidden = map[string]string{
	"http.send":          "it reaches the network",
	"net.lookup_ip_addr": "it reaches the network",
	"opa.runtime":        "it shows the environment, secrets included",
	"json.match_schema":  "a schema can fetch files and URLs",
	"json.verify_schema": "a schema can fetch files and URLs",
}

// forbiddenBuiltins maps every function that is off by default to the reason.
// It is whatever OPA marks as non-deterministic and is not known to be
// harmless, so that a function that a later OPA brings is off until looked at.
var forbiddenBuiltins = sync.OnceValue(func() map[string]string {
	forbidden := maps.Clone(reasonsForbidden)
	for _, builtin := range ast.Builtins {
		if !builtin.Nondeterministic || slices.Contains(harmless, builtin.Name) {
			continue
		}
		if _, ok := forbidden[builtin.Name]; !ok {
			forbidden[builtin.Name] = "its result depends on more than the input"
		}
	}
	return forbidden
})

// ForbiddenBuiltins lists the built-in functions that exist only where
// [Config.AllowBuiltins] names them, sorted.
func ForbiddenBuiltins() []string {
	return slices.Sorted(maps.Keys(forbiddenBuiltins()))
}

// capabilities is what this OPA can do, less what is forbidden and not in
// allow.
func capabilities(allow []string) (*ast.Capabilities, error) {
	caps := ast.CapabilitiesForThisVersion()
	for _, name := range allow {
		if _, ok := forbiddenBuiltins()[name]; ok {
			continue
		}
		if slices.Contains(builtinNames(caps), name) {
			return nil, fmt.Errorf("allow_builtins: %s is always allowed", name)
		}
		hint := didYouMean(name, ForbiddenBuiltins())
		if hint == "" {
			hint = "there are: " + strings.Join(ForbiddenBuiltins(), " ")
		}
		return nil, fmt.Errorf("allow_builtins: there is no built-in function %q (%s)", name, hint)
	}
	caps.Builtins = slices.DeleteFunc(caps.Builtins, func(b *ast.Builtin) bool {
		_, forbidden := forbiddenBuiltins()[b.Name]
		return forbidden && !slices.Contains(allow, b.Name)
	})
	// Schemas, also those in annotations, may name other schemas by URL. Empty
	// means no host; nil would mean all.
	caps.AllowNet = []string{}
	if slices.Contains(allow, "http.send") {
		caps.AllowNet = nil
	}
	return caps, nil
}

// builtinNames lists the names of all functions in caps that people write.
func builtinNames(caps *ast.Capabilities) []string {
	names := make([]string, 0, len(caps.Builtins))
	for _, builtin := range caps.Builtins {
		if !strings.HasPrefix(builtin.Name, "internal.") {
			names = append(names, builtin.Name)
		}
	}
	return names
}
