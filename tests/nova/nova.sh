#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# The real OpenStack Nova metadata server and Neutron metadata agent of Debian,
# for tests: unpacked, not installed; on the loopback address; nothing needs root.
#
#   nova.sh install                                    fetch and unpack the packages (once)
#   nova.sh start [proxy|direct|xff] [uwsgi|eventlet]  (re)start Nova on 127.0.0.1:$PORT, freshly seeded
#   nova.sh agent                                      start Neutron's haproxy and agent on 127.0.0.1:$AGENT_PORT
#   nova.sh echo [uwsgi|eventlet]                      start only the web server, answering with the path it made
#   nova.sh stored <instance-id>                       the stored password of an instance, as JSON
#   nova.sh clear <instance-id>                        remove that password, as a rebuild does
#   nova.sh crawl [<url> [<source> [<header>...]]]     what cloud-init finds there, as JSON
#   nova.sh crawl_ec2 <url> <source> [aws]             what its EC2 data source finds there, as JSON
#   nova.sh ec2metadata [<option>...]                  Debian's ec2metadata, from 169.254.169.254
#   nova.sh decrypt <key file>                         the password that standard input is, by novaclient
#   nova.sh status | stop
#
# Settings are environment variables; README.md beside this file explains them.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
home=${NOVA_HOME:-${TMPDIR:-/tmp}/metaguard-nova}
root=$home/root
state=${NOVA_STATE:-$home/state}
PORT=${PORT:-8775} NEUTRON_PORT=${NEUTRON_PORT:-9696} AGENT_PORT=${AGENT_PORT:-9697}
SECRET=${SECRET:-s3cret} CACHE=${CACHE:-15} WORKERS=${WORKERS:-1} DEBUG=${DEBUG:-false} LIMIT=${LIMIT:-3600}
python=/usr/bin/python3
. "$here/../debian.sh"
export OS_NOVA_CONFIG_DIR=$state

# --- install ---------------------------------------------------------------

wanted=(python3-nova nova-common nova-api uwsgi-core uwsgi-plugin-python3
	python3-neutron neutron-metadata-agent haproxy
	cloud-init cloud-guest-utils python3-novaclient openssl)

# Whoever has unpacked an earlier list does it once more.
install_again() {
	[ "$(cat "$home/wanted" 2> /dev/null)" = "${wanted[*]}" ] || rm -f "$root/.done"
	install
	echo "${wanted[*]}" > "$home/wanted"
}

# Never unpacked: daemons, and what Nova imports only for hypervisors.
unwanted='^(systemd|libsystemd|libnss-|libpam|udev|libudev|dbus|open-iscsi|sudo|mariadb|mysql|mypy|libceph|librgw)'

# --- processes -------------------------------------------------------------

# Every daemon has a session of its own, ends by itself after $LIMIT seconds, and
# is known by pid and start time, so that stop never ends somebody else's.
daemon() {
	local name=$1
	shift
	setsid timeout --kill-after=5 "$LIMIT" "$@" > "$state/$name.log" 2>&1 < /dev/null &
	echo "$! $(started $!)" > "$state/$name.pid"
}

running() { # pid file
	local pid start
	read -r pid start < "$1" && [ "$(started "$pid")" = "$start" ]
}

stop() {
	local file pid groups=()
	for file in "$state"/*.pid; do
		[ -e "$file" ] || continue
		read -r pid _ < "$file"
		if running "$file"; then
			kill -- "-$pid" 2> /dev/null || true
			groups+=("$pid")
		fi
		rm -f "$file"
	done
	for pid in "${groups[@]}"; do
		for _ in $(seq 100); do
			kill -0 -- "-$pid" 2> /dev/null || break
			sleep 0.05
		done
		kill -9 -- "-$pid" 2> /dev/null || true
	done
}

status() {
	local file
	for file in "$state"/*.pid; do
		[ -e "$file" ] || continue
		running "$file" && echo "$(basename "$file" .pid) up" || echo "$(basename "$file" .pid) down"
	done
}

# answers tells whether something speaks HTTP on a port.
answers() {
	local line
	{ exec 3<> "/dev/tcp/127.0.0.1/$1"; } 2> /dev/null || return 1
	printf 'GET / HTTP/1.0\r\n\r\n' >&3
	read -r -t 5 line <&3 || line=
	exec 3>&-
	[[ $line == HTTP/1.* ]]
}

await() { # what, port
	local file
	for _ in $(seq 600); do
		! answers "$2" || { echo "$1 on 127.0.0.1:$2"; return 0; }
		for file in "$state"/*.pid; do
			running "$file" || break 2
		done
		sleep 0.1
	done
	echo "$1 did not come up on 127.0.0.1:$2" >&2
	tail -n 20 "$state"/*.log >&2
	return 1
}

# --- Nova ------------------------------------------------------------------

configure() { # mode
	local proxy=false forwarded=false
	case $1 in
		proxy) proxy=true ;;
		xff) forwarded=true ;;
		direct) ;;
		*) echo "no such mode: $1" >&2; return 2 ;;
	esac
	mkdir -p "$state"
	cp "$root/usr/share/nova-common/api-paste.ini" "$state/api-paste.ini"
	cat > "$state/nova.conf" <<CONF
[DEFAULT]
host = testhost
state_path = $state
log_file = $state/nova.log
debug = $DEBUG
enabled_apis = metadata
metadata_listen = 127.0.0.1
metadata_listen_port = $PORT
metadata_workers = $WORKERS
transport_url = fake:///
[api]
use_forwarded_for = $forwarded
metadata_cache_expiration = $CACHE
[api_database]
connection = sqlite:///$state/api.sqlite
sqlite_synchronous = false
[database]
connection = sqlite:///$state/cell1.sqlite
sqlite_synchronous = false
[neutron]
service_metadata_proxy = $proxy
metadata_proxy_shared_secret = $SECRET
auth_type = none
endpoint_override = http://127.0.0.1:$NEUTRON_PORT
[oslo_concurrency]
lock_path = $state
[wsgi]
api_paste_config = $state/api-paste.ini
CONF
}

# seed makes the databases once, which takes a while, and then copies them. The
# copies are told where they lie, since Nova keeps the place of each cell.
seed() {
	local template
	template=$home/seed-$(cat "$here/seed.py" "$root/.done" | sha256sum | cut -c1-12)
	if [ ! -e "$template/.done" ]; then
		rm -f "$state"/*.sqlite
		"$python" "$here/seed.py" --config-file "$state/nova.conf" > "$state/seed.log" 2>&1 \
			|| { tail -n 20 "$state/seed.log" >&2; return 1; }
		mkdir -p "$template.$$"
		cp "$state"/*.sqlite "$state/user.pem" "$template.$$/"
		touch "$template.$$/.done"
		mv -T "$template.$$" "$template" 2> /dev/null || rm -rf "$template.$$" # somebody was faster
	fi
	cp "$template"/*.sqlite "$template/user.pem" "$state/"
	"$python" "$here/database.py" "$state" moved
}

# uwsgi starts uWSGI with Debian's own settings, less what needs its user and its
# paths, and the number of processes.
uwsgi() { # wsgi-file
	local plugin
	plugin=$(basename "$(ls "$root"/usr/lib/uwsgi/plugins/python3*_plugin.so | head -n 1)" _plugin.so)
	sed -E '/^(uid|gid|chdir|logto|wsgi-file|processes|plugins|listen|threads|paste-logger)\b/d' \
		"$root/etc/nova/nova-api-metadata-uwsgi.ini" > "$state/uwsgi.ini"
	printf 'processes = %s\nthreads = 32\n' "$WORKERS" >> "$state/uwsgi.ini"
	daemon server "$root/usr/bin/uwsgi-core" --plugins-dir "$root/usr/lib/uwsgi/plugins" --plugin "$plugin" \
		--http-socket "127.0.0.1:$PORT" --ini "$state/uwsgi.ini" --wsgi-file "$1"
}

start() {
	local mode=${1:-proxy} server=${2:-uwsgi}
	install
	environment
	stop
	configure "$mode"
	seed
	daemon neutron "$python" "$here/neutron_stub.py" "$NEUTRON_PORT"
	case $server in
		uwsgi) uwsgi "$root/usr/bin/nova-metadata-wsgi" ;;
		eventlet) daemon server "$python" "$root/usr/bin/nova-api" --config-file "$state/nova.conf" ;;
		*) echo "no such server: $server" >&2; return 2 ;;
	esac
	await "Nova ($mode, $server)" "$PORT"
}

echo_paths() {
	local server=${1:-uwsgi}
	install
	environment
	stop
	configure direct
	case $server in
		uwsgi) uwsgi "$here/pathinfo.py" ;;
		eventlet) daemon server "$python" "$here/pathinfo.py" "$PORT" ;;
		*) echo "no such server: $server" >&2; return 2 ;;
	esac
	await "echo ($server)" "$PORT"
}

# --- Neutron ---------------------------------------------------------------

agent() {
	local settings
	install
	environment
	mkdir -p "$state"
	cat > "$state/agent.ini" <<CONF
[DEFAULT]
state_path = $state
metadata_proxy_socket = $state/metadata_proxy
nova_metadata_host = 127.0.0.1
nova_metadata_port = ${AGENT_NOVA_PORT:-$PORT}
metadata_proxy_shared_secret = $SECRET
metadata_workers = 0
transport_url = fake:///
CONF
	rm -f "$state/metadata_proxy"
	daemon agent "$python" "$here/agent.py" --config-file "$state/agent.ini"
	settings=$("$python" "$here/agent.py" haproxy "$state" "$AGENT_PORT" 2>> "$state/agent-haproxy.log")
	for _ in $(seq 600); do
		[ ! -S "$state/metadata_proxy" ] || break
		running "$state/agent.pid" || break
		sleep 0.1
	done
	local haproxy=$root/usr/sbin/haproxy
	[ -x "$haproxy" ] || haproxy=/usr/sbin/haproxy # which apt did not fetch: this machine has it
	daemon haproxy "$haproxy" -db -f "$settings"
	await "Neutron's agent" "$AGENT_PORT"
}

case ${1:-} in
	install) install_again ;;
	start) start "${2:-}" "${3:-}" ;;
	agent) agent ;;
	echo) echo_paths "${2:-}" ;;
	stored | clear) "$python" "$here/database.py" "$state" "$1" "$2" ;;
	ec2metadata) environment; PATH=$root/usr/bin:$PATH; "$python" "$(command -v ec2metadata)" "${@:2}" ;;
	decrypt) environment; PATH=$root/usr/bin:$PATH "$python" "$here/decrypt.py" "$2" ;;
	crawl) environment; "$python" "$here/crawl.py" "${@:2}" ;;
	crawl_ec2) environment; "$python" "$here/crawl_ec2.py" "${@:2}" ;;
	status) status ;;
	stop) stop ;;
	*) sed -n '4,18s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2 ;;
esac
