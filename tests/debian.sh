# Packages of Debian for tests, unpacked and not installed: sourced by the scripts
# that need them. They say, before they call anything of it:
#
#   home      a folder for everything
#   root      where the packages are unpacked, below home
#   python    the interpreter
#   wanted    the packages, a list
#   unwanted  those among what they need that are left out, an expression

# What the unpacked programs need to find each other. They would send requests
# through a proxy from the environment.
environment() {
	local triplet
	triplet=$("$python" -c 'import sysconfig; print(sysconfig.get_config_var("MULTIARCH"))')
	export PYTHONPATH=$root/usr/lib/python3/dist-packages PYTHONWARNINGS=ignore PYTHONPYCACHEPREFIX=$home/pycache
	export LD_LIBRARY_PATH=$root/usr/lib/$triplet:$root/lib/$triplet
	export PATH=/usr/sbin:/usr/bin:/sbin:/bin
	unset http_proxy https_proxy all_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY
}

# apt with lists of its own where the machine has none, or old ones, so that
# neither root nor a changed machine is needed.
own_lists=()
refresh() {
	mkdir -p "$home/apt/lists/partial" "$home/apt/archives/partial"
	own_lists=(-o "Dir::State::Lists=$home/apt/lists" -o "Dir::Cache=$home/apt" -o "APT::Sandbox::User=$(id -un)")
	apt-get -qq "${own_lists[@]}" update
}

download() {
	# All that this machine lacks. Nothing is installed: -s only says what would be.
	apt-get "${own_lists[@]}" -s --no-install-recommends install "${wanted[@]}" \
		| awk '/^Inst/ {print $2}' | grep -vE "$unwanted" > "$home/packages" || return
	(cd "$home/debs" && xargs -a "$home/packages" apt-get -qq "${own_lists[@]}" download)
}

install() {
	[ ! -e "$root/.done" ] || return 0
	mkdir -p "$home/debs" "$root"
	download 2> /dev/null || { refresh && download; }
	find "$home/debs" -name '*.deb' -print0 | xargs -0 -n 8 -P "$(nproc)" \
		sh -c 'root=$1; shift; for deb; do dpkg -x "$deb" "$root"; done' unpack "$root"
	rm -rf "$home/debs" "$home/apt"
	touch "$root/.done"
}

# started is when a process began, which tells it from a later one with its number.
started() { sed 's/.*) //' "/proc/$1/stat" 2> /dev/null | cut -d' ' -f20; }
