#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# The clients of metadata servers that Debian ships, for tests: unpacked, not
# installed; nothing needs root.
#
#   clients.sh install               fetch and unpack the packages (once)
#   clients.sh run <program> [...]   run one of them, or a script beside this one
#                                    (name.py), with what it needs
#
# Settings are environment variables:
#
#   CLIENTS_HOME   what is unpacked; default: metaguard-clients in $TMPDIR
set -euo pipefail

home=${CLIENTS_HOME:-${TMPDIR:-/tmp}/metaguard-clients}
root=$home/root
python=/usr/bin/python3
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/../debian.sh"

wanted=(cloud-init cloud-guest-utils wget)

# Never unpacked: what boots a machine or changes it.
unwanted='^(systemd|libsystemd|libnss-|libpam|udev|libudev|dbus|sudo|fdisk|gdisk|grub|eatmydata|netplan|isc-dhcp|e2fsprogs)'

case "${1:-}" in
install) install ;;
run)
	shift
	environment
	export PATH=$root/usr/bin:$root/bin:$PATH
	case "$1" in
	*.py) exec "$python" "$here/$1" "${@:2}" ;;
	*) exec "$@" ;;
	esac
	;;
*)
	sed -n '4,14s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
	exit 2
	;;
esac
