#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# The real OpenStack Keystone of Debian, for tests: unpacked, not installed; on
# the loopback address; nothing needs root.
#
#   keystone.sh install        fetch and unpack the packages (once)
#   keystone.sh start <dir>    (re)start Keystone on 127.0.0.1:$PORT, with its state in <dir>
#   keystone.sh stop <dir>     end it
#   keystone.sh status <dir>
#
# Settings are environment variables:
#
#   KEYSTONE_HOME   what is unpacked and seeded; default: metaguard-keystone in $TMPDIR
#   PORT            default 5000
#   EXPIRATION      how long a new token lives, in seconds; default 3600
#   LIMIT           the server ends by itself after so many seconds; default 3600
#
# The user admin, project admin, domain default, has the password
# admin-of-the-tests and may do everything. Two servers share nothing.
set -euo pipefail

home=${KEYSTONE_HOME:-${TMPDIR:-/tmp}/metaguard-keystone}
root=$home/root
PORT=${PORT:-5000} EXPIRATION=${EXPIRATION:-3600} LIMIT=${LIMIT:-3600}
python=/usr/bin/python3
. "$(dirname "${BASH_SOURCE[0]}")/../debian.sh"

# --- install ---------------------------------------------------------------

wanted=(python3-keystone keystone uwsgi-core uwsgi-plugin-python3)

# Never unpacked: daemons, and what Keystone imports only for databases and web
# servers that are not used here.
unwanted='^(systemd|libsystemd|libnss-|libpam|udev|libudev|dbus|sudo|mariadb|mysql|apache2|debconf|dbconfig)'

# --- processes -------------------------------------------------------------

# The server has a session of its own, ends by itself after $LIMIT seconds, and
# is known by pid and start time, so that stop never ends somebody else's.
daemon() {
	setsid timeout --kill-after=5 "$LIMIT" "$@" > "$state/server.log" 2>&1 < /dev/null &
	echo "$! $(started $!)" > "$state/server.pid"
}

running() {
	local pid start
	[ -e "$state/server.pid" ] || return 1
	read -r pid start < "$state/server.pid" && [ "$(started "$pid")" = "$start" ]
}

stop() {
	local pid
	if running; then
		read -r pid _ < "$state/server.pid"
		kill -- "-$pid" 2> /dev/null || true
		for _ in $(seq 100); do
			kill -0 -- "-$pid" 2> /dev/null || break
			sleep 0.05
		done
		kill -9 -- "-$pid" 2> /dev/null || true
	fi
	rm -f "$state/server.pid"
}

# answers tells whether Keystone itself speaks on the port.
answers() {
	local line
	{ exec 3<> "/dev/tcp/127.0.0.1/$PORT"; } 2> /dev/null || return 1
	printf 'GET /v3 HTTP/1.0\r\n\r\n' >&3
	read -r -t 10 line <&3 || line=
	exec 3>&-
	[[ $line == "HTTP/1."?" 200"* ]]
}

await() {
	for _ in $(seq 600); do
		! answers || { echo "Keystone on 127.0.0.1:$PORT"; return 0; }
		running || break
		sleep 0.1
	done
	echo "Keystone did not come up on 127.0.0.1:$PORT" >&2
	tail -n 20 "$state/server.log" >&2
	return 1
}

# --- Keystone --------------------------------------------------------------

configure() { # where the database and the keys lie
	cat > "$1/keystone.conf" <<CONF
[DEFAULT]
use_stderr = true
[database]
connection = sqlite:///$1/keystone.sqlite
sqlite_synchronous = false
[token]
provider = fernet
expiration = $EXPIRATION
[fernet_tokens]
key_repository = $1/fernet-keys
[credential]
key_repository = $1/credential-keys
[identity]
password_hash_rounds = 4
CONF
}

manage() { # where, what
	"$python" "$root/usr/bin/keystone-manage" --config-file "$1/keystone.conf" "${@:2}" >> "$1/manage.log" 2>&1 \
		|| { tail -n 20 "$1/manage.log" >&2; return 1; }
}

# seed makes the database and the keys once, which takes a while, and then
# copies them.
seed() {
	local template making
	template=$home/seed-$(cat "${BASH_SOURCE[0]}" "$root/.done" | sha256sum | cut -c1-12)
	if [ ! -e "$template/.done" ]; then
		making=$template.$$
		mkdir -p "$making"
		configure "$making"
		manage "$making" db_sync
		manage "$making" fernet_setup --keystone-user "$(id -un)" --keystone-group "$(id -gn)"
		manage "$making" credential_setup --keystone-user "$(id -un)" --keystone-group "$(id -gn)"
		manage "$making" bootstrap --bootstrap-password admin-of-the-tests
		# So that who reads does not lock out who writes.
		"$python" -c 'import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute("pragma journal_mode=wal")' "$making/keystone.sqlite"
		touch "$making/.done"
		mv -T "$making" "$template" 2> /dev/null || rm -rf "$making" # somebody was faster
	fi
	rm -rf "$state"/fernet-keys "$state"/credential-keys "$state"/keystone.sqlite*
	cp -r "$template/keystone.sqlite" "$template/fernet-keys" "$template/credential-keys" "$state/"
}

# start runs uWSGI with Debian's own settings, less what needs its user and its
# paths, with one process and one thread, which is what SQLite wants. A body is
# read before the request is handled, since a connection that is closed with some
# of it unread is reset, and the answer may be lost.
start() {
	local plugin
	install
	environment
	mkdir -p "$state"
	stop
	seed
	configure "$state"
	plugin=$(basename "$(ls "$root"/usr/lib/uwsgi/plugins/python3*_plugin.so | head -n 1)" _plugin.so)
	sed -E '/^(uid|gid|chdir|logto|wsgi-file|processes|threads|plugins|apparmor-profile|listen|paste-logger)\b/d' \
		"$root/etc/keystone/keystone-uwsgi.ini" > "$state/uwsgi.ini"
	printf 'processes = 1\npost-buffering = 65536\n' >> "$state/uwsgi.ini"
	export OS_KEYSTONE_CONFIG_DIR=$state
	daemon "$root/usr/bin/uwsgi-core" --plugins-dir "$root/usr/lib/uwsgi/plugins" --plugin "$plugin" \
		--http-socket "127.0.0.1:$PORT" --ini "$state/uwsgi.ini" --wsgi-file "$root/usr/bin/keystone-wsgi-public"
	await
}

state=$(realpath -m "${2:-.}")
case "${1:-} $#" in
	"install 1") install ;;
	"start 2") start ;;
	"stop 2") stop ;;
	"status 2") running && echo up || echo down ;;
	*) sed -n '4,22s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2 ;;
esac
