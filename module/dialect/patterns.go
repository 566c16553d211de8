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

// Patterns lists those of ec2_table.go.
func (EC2) Patterns() (patterns, versions []string) { return ec2.patterns, ec2.versions }

// Patterns lists those of azure_table.go.
func (Azure) Patterns() (patterns, versions []string) {
	return azureTable.patterns, azureTable.versions
}

// Patterns lists those of gce_table.go.
func (GCE) Patterns() (patterns, versions []string) { return gceTable.patterns, gceTable.versions }

// Patterns lists those of the router's metadata.
func (CloudStack) Patterns() (patterns, versions []string) {
	return cloudStackTable.patterns, cloudStackTable.versions
}

// Interface guards.
var (
	_ Tabular = EC2{}
	_ Tabular = Azure{}
	_ Tabular = GCE{}
	_ Tabular = CloudStack{}
)
