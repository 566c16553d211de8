#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# The smallest Debian, for tests to install the package in, and one that boots:
#
#	root.sh install   make them once, as archives (needs root and mmdebstrap)
#
# Settings are environment variables:
#
#	PACKAGING_HOME    where they are; default: metaguard-packaging in $TMPDIR
set -euo pipefail

home=${PACKAGING_HOME:-${TMPDIR:-/tmp}/metaguard-packaging}

case "${1:-}" in
install)
	mkdir -p "$home"
	trap 'rm -f "${new:-}"' EXIT
	for name in root booting; do
		[ ! -e "$home/$name.tar" ] || continue
		new=$(mktemp "$home/XXXXXX.tar")
		include=()
		[ $name = root ] || include=(--include=systemd,systemd-sysv,dbus,curl)
		# Without what no test reads, so that it is unpacked fast.
		mmdebstrap --quiet --format=tar --variant=minbase "${include[@]}" \
			--dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/zoneinfo/*' \
			bookworm "$new" < /dev/null
		mv "$new" "$home/$name.tar"
	done
	;;
*)
	sed -n '4,10s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
	exit 2
	;;
esac
