# Made of the dialects: go test ./policies -run TestTablesAreGenerated -update
package metaguard.testing

# METADATA
# title: Tables
# description: What the paths of each dialect stand for, read by dialects.rego.
_tables := {}

# METADATA
# title: Samples
# description: One request of each kind and action, by dialect.
_samples := {}
