#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# The binary as it is released:
#
#	build.sh <output file>
#
# for GOOS and GOARCH, by default this machine's. It is static, and holds its version, revision
# and modules (`metaguard version`, `metaguard build-info`). The same commit makes the same
# bytes, wherever and by whomever it is built.
set -euo pipefail
[ $# = 1 ] || { sed -n '4,10s/^# \{0,1\}//p' "$0"; exit 2; }
output=$(realpath -m "$1")
cd "$(dirname "${BASH_SOURCE[0]}")/../../.."

git rev-parse --verify --quiet HEAD > /dev/null || {
	echo "$PWD is no clone of the repository, and a release says which commit it is" >&2
	exit 1
}
if [ ! -d .git ]; then
	echo "this is a git worktree, where Go finds no revision: build a release from a clone" >&2
elif [ -n "$(git status --porcelain)" ]; then
	echo "not everything is committed: the version will say so (+dirty)" >&2
fi

# What changes the bytes and is not of the commit: the compiler is the one of go.mod, and
# none of the builder's own settings counts.
export GOTOOLCHAIN=${GOTOOLCHAIN:-go$(sed -n 's/^go //p' go.mod)}
export CGO_ENABLED=0 GOAMD64=v1 GOARM64=v8.0 GOWORK=off GOFLAGS=-trimpath
unset GOEXPERIMENT GODEBUG

# The tags leave out storage drivers that Caddy brings along and Metaguard has no use for.
go build -buildvcs=true -tags nobadger,nomysql,nopgx -ldflags '-s -w -buildid=' -o "$output" ./cmd/metaguard
