// SPDX-License-Identifier: Apache-2.0

package policies

import "embed"

// Tests holds the tests of the built-in policy and of the helpers, which
// `metaguard policy test` runs. No server loads them.
//
//go:embed metaguard/*_test.rego testing/*_test.rego
var Tests embed.FS
