// SPDX-License-Identifier: Apache-2.0

package doctor

import "context"

// check is one question, and what its findings have in common.
type check struct {
	id       string
	severity Severity
	needs    need
	asks     string // what it looks at, for the list in help and README
	why, do  string
	run      func(context.Context, *examination, *finder)
}

// need is what a check cannot do without.
type need int

const (
	static need = iota // a configuration
	live               // servers to ask, or a process to look at
	around             // addresses that the operator gave
)

// checks are all checks, in the order in which they are made and, of one
// severity, reported.
var checks = []check{
	{
		"no_guard", Problem, static, "a configuration without the directive metaguard",
		"nothing is guarded", "write a site with metaguard, or examine the right configuration", checkNoGuard,
	},
	{
		"upstream_elsewhere", Problem, static, "everything outside metaguard that leads to an upstream's address",
		"requests on that way are neither identified nor judged", "take it out; whoever needs the legacy server goes through metaguard", checkElsewhere,
	},
	{
		"upstream_alias", Note, static, "the same port at a name that may be an upstream's",
		"if it is the same server, requests on that way are not judged", "make sure that it is another server; with --live the names are resolved", checkPerhaps,
	},
	{
		"upstream_loop", Problem, static, "upstreams that are a guarded site of this configuration",
		"requests come back to a guard, as callers that they are not, until nothing is left to serve them with", "name the legacy server's own address; where both have the same port, the server listens on 127.0.0.1 and the site on another address", checkLoop,
	},
	{
		"guard_proxied", Warning, static, "everything outside metaguard that leads to a guarded site",
		"the guard sees whoever connects there as the caller: this host, for every client of the proxy", "let clients connect to the guarded site itself; where a proxy is meant, see the README on balancers", checkProxied,
	},
	{
		"destination_unknown", Note, static, "proxies whose destination is known only when they run",
		"they could lead to an upstream, and nothing here can tell", "name the destination, or make sure that it is never an upstream", checkUnknownDestination,
	},
	{
		"site_host", Problem, static, "guarded sites with a host name",
		"Caddy answers a request for another Host with an empty 200, which a machine that posts its password takes for success", "write the site without a host, such as http://:8775, and use require_host", checkSiteHost,
	},
	{
		"guard_matched", Problem, static, "metaguard inside of handle, route or a matcher",
		"the legacy server reads paths otherwise than Caddy's matchers, so that spellings of a path get past the guard", "give the guard a site of its own without matchers", checkMatched,
	},
	{
		"route_beside", Warning, static, "handlers that answer in a guarded site beside metaguard",
		"what they answer is not judged, and which requests they get depends on a matcher", "give the guard a site of its own", checkBeside,
	},
	{
		"files_served", Note, static, "file_server anywhere",
		"a root that holds secrets, policies or state would show them", "serve files from another process, or make sure of the root", checkFiles,
	},
	{
		"metrics_public", Warning, static, "metrics on an address that is not loopback",
		"they tell who asks for what, and how often", "bind the site to loopback or to the network of the monitoring", checkPublicMetrics,
	},
	{
		"legacy_public", Problem, static, "metaguard_legacy on an address that is not loopback",
		"it is as faulty as it is to try things, and gives any password to anybody", "take it out, or bind it to 127.0.0.1", checkPublicLegacy,
	},
	{
		"upstream_served", Problem, static, "upstreams that this configuration serves itself, on an address that is not loopback",
		"other machines reach what stands behind the guard without it", "bind that site to 127.0.0.1, or to a Unix socket", checkServedHere,
	},
	{
		"admin_tcp", Problem, static, "the admin API on a TCP port of this host",
		"every process of this host can exchange the configuration, and so turn the guard off; it also shows memory (pprof)", "write `admin unix//run/metaguard/admin.sock|0600` or `admin off` in the global options", checkAdminTCP,
	},
	{
		"admin_public", Problem, static, "the admin API where other machines or users reach it",
		"whoever reaches it can exchange the configuration, and so turn the guard off", "write `admin unix//run/metaguard/admin.sock|0600` or `admin off` in the global options", checkAdminPublic,
	},
	{
		"admin_socket", Problem, live, "the mode of the admin API's socket on disk",
		"whoever can write to it can exchange the configuration, and so turn the guard off", "write the mode: `admin unix//run/metaguard/admin.sock|0600`", checkAdminSocket,
	},
	{
		"admin_remote", Problem, static, "remote administration without access control",
		"a certificate alone lets somebody do everything", "give access_control with paths and methods", checkAdminRemote,
	},
	{
		"log_unfiltered", Problem, static, "every log, for the filter of logging.caddy",
		"Caddy's own lines hold signatures and tokens in request headers", "import logging.caddy in every `log` block, and write one in the global options", checkLogs,
	},
	{
		"log_debug", Warning, static, "logs at level DEBUG",
		"debug lines hold what is sent upstream, and there are many", "take `debug` out when the search is over", checkDebug,
	},
	{
		"log_readable", Note, static, "the modes of log files",
		"logs tell who asked for what", "write `mode 0640` in the log's output", checkLogFiles,
	},
	{
		"config_persisted", Note, static, "persist_config",
		"what was loaded over the admin API outlives the Caddyfile with `run --resume`", "write `persist_config off` in the global options", checkPersist,
	},
	{
		"underscore_headers", Problem, static, "expected_underscore_headers that the dialect does not need",
		"servers that follow CGI read a_b as a-b, so that such a header passes for another", "name only what the dialect needs: DomU_Request for cloudstack", checkUnderscores,
	},
	{
		"header_timeout", Note, static, "how long a client may take to send a header",
		"connections of slow clients add up", "write `timeouts { read_header 5s }` in the global option servers", checkTimeouts,
	},
	{
		"grace_period", Note, static, "grace_period",
		"without it Caddy waits for ever for requests when it is stopped", "write `grace_period 30s` in the global options", checkGrace,
	},
	{
		"trusted_proxies_wide", Problem, static, "trusted_proxies that hold more or less everybody",
		"a client of theirs chooses its own address", "name the addresses of the proxies", checkTrustedProxies,
	},
	{
		"neutron_trust_wide", Problem, static, "identify neutron { trust } that holds more or less everybody",
		"Neutron's signature never expires, and counts from there", "name the networks of the agents", checkNeutronTrust,
	},
	{
		"client_ip_address", Note, static, "callers known by an address that a proxy gives",
		"who the caller is depends on trusted_proxies, or on who can connect to the listener", "make sure that only the proxies can reach the site", checkClientIP,
	},
	{
		"upstream_unverified", Warning, static, "tls_insecure_skip_verify to an upstream",
		"whoever is on the way can answer for the server, and read what is signed", "give the authority with tls_trust_pool", checkUpstreamTLS,
	},
	{
		"mode_audit", Warning, static, "sites in audit mode",
		"the policy protects nothing there", "write `mode enforce` when the would_deny lines are understood", checkAudit,
	},
	{
		"policy_candidate", Note, static, "candidates",
		"it costs as much as a policy, and one that was forgotten tells nothing", "put it in the place of the live policy, or take it out", checkCandidate,
	},
	{
		"policy_allows", Problem, static, "what the policy allows or shows beyond the built-in one",
		"somebody gets what is not theirs without a grant", "write the rule more narrowly, or accept it by its name as the finding says", checkPolicyAllows,
	},
	{
		"policy_accepts", Note, static, "what data.metaguard.settings.accept names",
		"it is allowed on purpose, and the reason may be gone", "take out what is no longer meant", checkPolicyAccepts,
	},
	{
		"policy_stale", Warning, live, "policies that could not be loaded anew",
		"what was edited is not in force, and a restart would fail", "mend the files; `metaguard policy check` says the same", checkPolicyStale,
	},
	{
		"deny_status", Warning, static, "a deny_status that the dialect's clients take badly",
		"clients fail, or ask again and again, where they would go on", "take deny_status out: the dialect has its own", checkDenyStatus,
	},
	{
		"deny_status_cloudbase", Note, static, "403 for what OpenStack's clients may not have",
		"a Windows instance does without that plugin", "write `deny_status 404` if instances run cloudbase-init and a policy refuses files", checkCloudbase,
	},
	{
		"secret_readable", Problem, static, "files with secrets that everybody can read",
		"every process of this host can claim to be anybody", "chmod 0600, owned by the server's user", checkSecretReadable,
	},
	{
		"secret_writable", Problem, static, "files with secrets, and their directories, that others can change",
		"whoever exchanges a secret can claim to be anybody", "chmod 0600 the file and 0755 its directory, owned by root or the server's user", checkSecretWritable,
	},
	{
		"secret_weak", Problem, static, "secrets that are short or well known",
		"who guesses it can claim to be anybody", "make a new one: `openssl rand -hex 32`", checkSecretWeak,
	},
	{
		"secret_reused", Warning, static, "one secret for two purposes",
		"who learns it in one place has it in the other, and it cannot be rotated alone", "give each purpose its own", checkSecretReused,
	},
	{
		"secret_environment", Note, static, "secrets in environment variables",
		"/proc/<pid>/environ shows them to root and to processes of the same user, and child processes get them", "prefer {file.…}, such as systemd's LoadCredential", checkSecretEnvironment,
	},
	{
		"file_writable", Problem, static, "inventories, policies and authorities that others can change",
		"whoever changes them decides who is who and who may do what", "chmod go-w the file and its directory", checkDecidingFiles,
	},
	{
		"state_writable", Problem, static, "the data directory and the latch's that others can change",
		"whoever removes a record lets a second password through", "chmod 0700, owned by the server's user", checkState,
	},
	{
		"config_differs", Warning, live, "whether the running configuration is the one of --config",
		"what was examined is not what runs", "`metaguard reload`, or find out who loaded another one", checkDiffers,
	},
	{
		"upstream_listens_widely", Warning, live, "on which addresses of this host upstreams listen",
		"unless a firewall stops them, other machines reach the legacy server around the guard", "bind it to 127.0.0.1 or a Unix socket, or close the port, and see with --around", checkWidely,
	},
	{
		"upstream_remote", Note, live, "upstreams on other machines",
		"nothing on this host can keep others from it", "let its firewall take connections of the guards only, and see with --around from where clients are", checkRemote,
	},
	{
		"upstream_around", Problem, around, "whether the legacy server answers at the addresses of --around",
		"it answers there without the guard", "bind the server to loopback, or close the port to all but the guards", checkAround,
	},
	{
		"upstream_anyone", Warning, live, "whether upstreams give anything without an identity",
		"nothing but its address protects it: all of this host's processes get the same", "let it require signed headers where it can (Nova: service_metadata_proxy), and let only the guard reach it", checkAnyone,
	},
	{
		"upstream_unsigned", Problem, live, "whether an OpenStack upstream believes an unsigned X-Instance-ID",
		"whoever reaches it is any instance", "set metadata_proxy_shared_secret in Nova, and restart it", checkUnsigned,
	},
	{
		"upstream_forwarded", Warning, live, "whether upstreams believe X-Forwarded-For",
		"whoever reaches it is any instance; behind the guard it is what tells it who calls", "let only the guard reach it; where the server knows addresses of connections, use `assert address`", checkForwarded,
	},
	{
		"guard_absent", Problem, live, "whether the guard answers at its sites' addresses",
		"something else has the port, or a part of the site's requests", "see what listens there, and whether the site has a host name", checkGuardThere,
	},
	{
		"guard_believes", Problem, live, "whether the guard's sites believe forged identity headers",
		"whoever reaches the site is any instance", "see identify, trusted_proxies and what stands before metaguard in the site", checkGuardBelieves,
	},
	{
		"clock_off", Warning, live, "this host's clock against the Date of upstreams and identity servers, and Redis's time",
		"tokens, sessions and write_once go by the clock, and replicas must agree on it", "run chrony or systemd-timesyncd here and there", checkClock,
	},
	{
		"clock_unsynchronised", Note, live, "whether the kernel's clock is kept right",
		"tokens, sessions and write_once go by the clock, and replicas must agree on it", "run chrony or systemd-timesyncd; in a virtual machine the host may do it unseen", checkSynchronised,
	},
	{
		"known_vulnerability", Problem, static, "Caddy, OPA and Go in the running process, or in this program, against a table of advisories",
		"the way in is public", "build or install a Metaguard with the fixed version", checkVersions,
	},
	{
		"tcp_migrate_req", Note, static, "net.ipv4.tcp_migrate_req",
		"a reload resets connections that wait in the old listener's queue", "sysctl -w net.ipv4.tcp_migrate_req=1; about one connection a reload, whose request Go's server has just read, is closed all the same, and clients ask again", checkMigrate,
	},
	{
		"open_files", Warning, live, "the limit of open files, for dialects whose requests wait",
		"beyond it connections are refused", "raise it: LimitNOFILE=65536 in the systemd unit, or ulimit -n", checkFileLimit,
	},
}
