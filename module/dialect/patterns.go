// SPDX-License-Identifier: Apache-2.0

package dialect

// Tabular is a dialect that reads paths by a table, whatever else of a request it
// looks at. The helpers for tests of policies are made of it.
type Tabular interface {
	Dialect
	// Patterns lists the patterns of the table, as row describes them, and what
	// {version} stands for; none means any segment.
	Patterns() (patterns, versions []string)
}
