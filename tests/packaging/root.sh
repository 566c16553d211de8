#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# The smallest Debian, for tests to install the package in:
#
#	root.sh install   make it once, as an archive (needs root and mmdebstrap)
#
# Settings are environment variables:
#
#	PACKAGING_HOME    where it is; default: metaguard-packaging in $TMPDIR
set -euo pipefail

home=${PACKAGING_HOME:-${TMPDIR:-/tmp}/metaguard-packaging}

case "${1:-}" in
install)
	[ ! -e "$home/root.tar" ] || exit 0
	mkdir -p "$home"
	new=$(mktemp "$home/XXXXXX.tar")
	trap 'rm -f "$new"' EXIT
	# Without what no test reads, so that it is unpacked fast.
	mmdebstrap --quiet --format=tar --variant=minbase \
		--dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/zoneinfo/*' \
		bookworm "$new" < /dev/null
	mv "$new" "$home/root.tar"
	;;
*)
	sed -n '4,10s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
	exit 2
	;;
esac
