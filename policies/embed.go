// SPDX-License-Identifier: Apache-2.0

// Package policies holds the built-in policy: Rego, not Go. The entrypoint is
// the rule decision of package metaguard (metaguard/decision). See README.md
// for how a team adds its own rules.
//
// The package is read-only data and imports nothing of ours. It is embedded, so
// that a process always has a policy to start with, and one that denies.
package policies

import "embed"

// Builtin holds the built-in policy (metaguard/*.rego, without its tests) and
// the JSON Schemas of the documents around it: schemas/input.json (input),
// schemas/data.json (the data under metaguard) and schemas/decision.json.
//
//go:embed metaguard/access.rego metaguard/answer.rego metaguard/caller.rego metaguard/decision.rego schemas/*.json
var Builtin embed.FS

// Testing holds the helpers for tests (testing/*.rego, package
// metaguard.testing), without their own tests. No server loads them.
//
//go:embed testing/dialects.rego testing/openstack.rego testing/tables.rego testing/testing.rego
var Testing embed.FS
