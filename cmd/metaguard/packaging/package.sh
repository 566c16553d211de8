#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# The Debian package and the archive, both of the same files:
#
#	package.sh <version> <output directory> [<binary>]
#
# for Linux and GOARCH, by default this machine's. A binary that is there already is packaged as
# it is. The same commit makes the same bytes.
set -euo pipefail
[ $# = 2 ] || [ $# = 3 ] || { sed -n '4,10s/^# \{0,1\}//p' "$0"; exit 2; }
version=$1 output=$(mkdir -p "$2" && cd "$2" && pwd)
binary=${3:+$(realpath "$3")}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../../.." && pwd)
cd "$root"

export GOOS=linux GOARCH=${GOARCH:-$(go env GOHOSTARCH)}
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
export TZ=UTC # the manual has the day of the commit
umask 022 # whoever packages
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
name=metaguard-$version-linux-$GOARCH
stage=$work/$name
mkdir -p "$stage"

# What licences ask for: the notices of every module that is in the binary.
notices() {
	go list -deps -tags nobadger,nomysql,nopgx -f '{{with .Module}}{{if not .Main}}{{.Path}} {{.Version}} {{.Dir}}{{end}}{{end}}' \
		./cmd/metaguard | sort -u | while read -r module number dir; do
		printf '== %s %s\n\n' "$module" "$number"
		find "$dir" -maxdepth 1 -type f \( -iname 'licen[cs]e*' -o -iname 'copying*' -o -iname 'notice*' \) -print0 | sort -z | xargs -0r cat
		printf '\n'
	done
}

if [ -n "$binary" ]; then cp "$binary" "$stage/metaguard"; else "$here/build.sh" "$stage/metaguard"; fi
chmod 755 "$stage/metaguard"

# Manual and completions are the same for all machines, but this one must be able to make them.
run=$stage/metaguard
if [ "$GOARCH" != "$(go env GOHOSTARCH)" ] || [ "$(go env GOHOSTOS)" != linux ]; then
	run=$work/metaguard
	GOOS='' GOARCH='' "$here/build.sh" "$run"
fi
mkdir "$stage/man" "$stage/completions" "$stage/deb" "$stage/policies"
"$run" manpage --directory "$stage/man"
find "$stage/man" -type f -exec gzip -9n {} +
for shell in bash zsh fish; do
	"$run" completion "$shell" > "$stage/completions/metaguard.$shell"
done

cp README.md LICENSE "$stage"
cp -r policies/README.md policies/examples "$stage/policies"
cp -r caddyfiles "$here"/{etc,drop-ins,metaguard.service,container,kubernetes,openstack.md} "$stage"
cp caddyfiles/{loggers,logging}.caddy "$stage/etc"
notices | gzip -9n > "$stage/notices.gz"

# tool gives the path of a tool that tools/go.mod names, built for this machine, and always the
# same, since the SBOM has its digest.
tool() { GOOS='' GOARCH='' CGO_ENABLED=0 GOFLAGS=-trimpath go -C "$here/tools" tool -n "$1"; }

# What the binary says of itself, with the licences of its modules as they lie in Go's cache; and
# neither time nor serial number.
sbom=$(tool cyclonedx-gomod)
CI=true GOPROXY=off "$sbom" bin -json -std -licenses -noserial -notimestamp -version "$version" -output "$stage/sbom.cdx.json" "$stage/metaguard" 2> "$work/sbom.log" || {
	cat "$work/sbom.log" >&2
	exit 1
}

cp "$here"/deb/* "$stage/deb"
printf 'metaguard (%s) unstable; urgency=medium\n\n  * See the history of the repository.\n\n -- %s  %s\n' \
	"$version" "$(sed -n 's/^maintainer: //p' "$here/nfpm.yaml")" "$(date -uRd "@$SOURCE_DATE_EPOCH")" |
	gzip -9n > "$stage/deb/changelog.gz"

nfpm=$(tool nfpm)
(cd "$stage" && METAGUARD_VERSION=$version METAGUARD_ARCH=$GOARCH "$nfpm" package \
	--config "$here/nfpm.yaml" --packager deb --target "$output/metaguard_${version}_$GOARCH.deb")

rm -r "$stage/deb"
tar -C "$work" --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner -cf - "$name" |
	gzip -n > "$output/$name.tar.gz"
