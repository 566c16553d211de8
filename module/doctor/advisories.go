// SPDX-License-Identifier: Apache-2.0

package doctor

// advisoriesAsOf is the day on which the table was taken from the Go
// vulnerability database, https://vuln.go.dev (repository golang/vulndb,
// data/reports).
const advisoriesAsOf = "2026-08-21"

// advisories holds all that is known there of Caddy 2 and of OPA, and of Go's
// library what reaches a server: net, net/http, net/textproto, net/url,
// crypto/tls, crypto/x509 and encoding/asn1, from Go 1.26 on, which Metaguard
// needs.
var advisories = []advisory{
	{caddyModule, "GO-2023-1567", []string{"GHSA-qpm3-vr34-h8w8", "CVE-2022-28923"}, []span{{"", "2.5.0-beta.1"}}, "open redirect"},
	{caddyModule, "GO-2026-4535", []string{"GHSA-4xrr-hq4w-6vf4", "CVE-2026-27585"}, []span{{"", "2.11.1"}}, "improper sanitization of glob characters"},
	{caddyModule, "GO-2026-4536", []string{"GHSA-5r3v-vc8m-m96g", "CVE-2026-27590"}, []span{{"", "2.11.1"}}, "unicode case-folding causes incorrect split_path index"},
	{caddyModule, "GO-2026-4537", []string{"GHSA-879p-475x-rqh2", "CVE-2026-27589"}, []span{{"", "2.11.1"}}, "is vulnerable to cross-origin config application via local admin API /load"},
	{caddyModule, "GO-2026-4538", []string{"GHSA-g7pc-pc7g-h8jh", "CVE-2026-27587"}, []span{{"", "2.11.1"}}, "MatchPath %xx branch skips case normalization"},
	{caddyModule, "GO-2026-4539", []string{"GHSA-hffm-g8v7-wrv7", "CVE-2026-27586"}, []span{{"", "2.11.1"}}, "mTLS authentication fails open"},
	{caddyModule, "GO-2026-4541", []string{"GHSA-x76f-jf84-rqj8", "CVE-2026-27588"}, []span{{"", "2.11.1"}}, "MatchHost becomes case-sensitive"},
	{caddyModule, "GO-2026-4639", []string{"GHSA-7r4p-vjf4-gxv4", "CVE-2026-30851"}, []span{{"2.10.0", "2.11.2"}}, "forward_auth copy_headers allows Identity Injection and Privilege Escalation"},
	{caddyModule, "GO-2026-4644", []string{"GHSA-m2w3-8f23-hxxf", "CVE-2026-30852"}, []span{{"2.7.5", "2.11.2"}}, "caddy's vars_regexp double-expands user input, leaking env vars and files"},
	{caddyModule, "GO-2026-5346", []string{"GHSA-f59h-q822-g45g", "CVE-2026-52845"}, []span{{"", "2.11.4"}}, "fastCGI header normalization bypass in forward_auth copy_headers"},
	{caddyModule, "GO-2026-5408", []string{"GHSA-gx7w-56w6-g48x"}, []span{{"", "2.11.3"}}, "remote Admin Authorization Bypass on PKI Endpoints via Prefix-Based Path Matching"},
	{caddyModule, "GO-2026-5492", []string{"GHSA-m675-2p33-xv9g", "CVE-2026-45135"}, []span{{"2.7.0", "2.11.3"}}, "unsafe Unicode Handling in FastCGI splitPos Allows Execution of Non-PHP Files"},
	{caddyModule, "GO-2026-5595", []string{"GHSA-qrp7-cvwr-j2c6", "CVE-2026-52844"}, []span{{"", "2.11.4"}}, "windows file server path authorization bypass via encoded backslash"},
	{caddyModule, "GO-2026-5660", []string{"GHSA-vcc4-2c75-vc9v", "CVE-2026-52846"}, []span{{"", "2.11.4"}}, "stripHTML template function bypass"},
	{caddyModule, "GO-2026-5730", []string{"GHSA-wwhq-w58m-w29c"}, []span{{"2.11.0", "2.11.3"}}, "CVE-2026-30852 Fix Bypass"},
	{caddyModule, "GO-2026-5743", []string{"GHSA-x5w9-xh9r-mvfc", "CVE-2026-45692"}, []span{{"2.4.0", "2.11.3"}}, "remote Admin Authorization Bypass in the /config API via Array Index Normalization"},
	// Not in that database yet: reported there as issue 6512.
	{caddyModule, "GHSA-j8px-rmrx-76h9", []string{"CVE-2026-77281"}, []span{{"", "2.11.4"}}, "placeholders in what clients send are expanded again, leaking env vars and files"},
	{opaModule, "GO-2022-0316", []string{"GHSA-hcw3-j74m-qc58", "CVE-2022-23628"}, []span{{"0.33.1", "0.37.2"}}, "incorrect calculation"},
	{opaModule, "GO-2022-0574", []string{"GHSA-2m4x-4q9j-w97g", "CVE-2022-33082"}, []span{{"", "0.42.0"}}, "denial of service"},
	{opaModule, "GO-2022-0587", []string{"GHSA-x7f3-62pm-9p38", "CVE-2022-28946"}, []span{{"", "0.40.0"}}, "out of bounds memory access"},
	{opaModule, "GO-2022-0978", []string{"GHSA-f524-rf33-2jjr", "CVE-2022-36085"}, []span{{"0.40.0", "0.44.0"}}, "protection bypass"},
	{opaModule, "GO-2024-3141", []string{"GHSA-c77r-fh37-x2px", "CVE-2024-8260"}, []span{{"", "0.68.0"}}, "OPA for Windows has an SMB force-authentication vulnerability"},
	{opaModule, "GO-2025-3660", []string{"GHSA-6m8w-jc87-6cr7", "CVE-2025-46569"}, []span{{"", "1.4.0"}}, "OPA server Data API HTTP path injection of Rego"},
	{goLibrary, "GO-2026-4337", []string{"CVE-2025-68121"}, []span{{"1.25.0-0", "1.25.7"}, {"1.26.0-rc.1", "1.26.0-rc.3"}}, "unexpected session resumption"},
	{goLibrary, "GO-2026-4599", []string{"CVE-2026-27137"}, []span{{"1.26.0-0", "1.26.1"}}, "incorrect enforcement of email constraints"},
	{goLibrary, "GO-2026-4600", []string{"CVE-2026-27138"}, []span{{"1.26.0-0", "1.26.1"}}, "panic in name constraint checking for malformed certificates"},
	{goLibrary, "GO-2026-4601", []string{"CVE-2026-25679"}, []span{{"", "1.25.8"}, {"1.26.0-0", "1.26.1"}}, "incorrect parsing of IPv6 host literals"},
	{goLibrary, "GO-2026-4866", []string{"CVE-2026-33810"}, []span{{"1.26.0-0", "1.26.2"}}, "case-sensitive excludedSubtrees name constraints cause Auth Bypass"},
	{goLibrary, "GO-2026-4870", []string{"CVE-2026-32283"}, []span{{"", "1.25.9"}, {"1.26.0-0", "1.26.2"}}, "unauthenticated TLS 1.3 KeyUpdate record can cause persistent connection retention and DoS"},
	{goLibrary, "GO-2026-4918", []string{"CVE-2026-33814"}, []span{{"", "1.25.10"}, {"1.26.0-0", "1.26.3"}}, "infinite loop in HTTP/2 transport when given bad SETTINGS_MAX_FRAME_SIZE"},
	{goLibrary, "GO-2026-4946", []string{"CVE-2026-32281"}, []span{{"", "1.25.9"}, {"1.26.0-0", "1.26.2"}}, "inefficient policy validation"},
	{goLibrary, "GO-2026-4947", []string{"CVE-2026-32280"}, []span{{"", "1.25.9"}, {"1.26.0-0", "1.26.2"}}, "unexpected work during chain building"},
	{goLibrary, "GO-2026-4971", []string{"CVE-2026-39836"}, []span{{"", "1.25.10"}, {"1.26.0-0", "1.26.3"}}, "panic in Dial and LookupPort when handling NUL byte on Windows"},
	{goLibrary, "GO-2026-4981", []string{"CVE-2026-33811"}, []span{{"", "1.25.10"}, {"1.26.0-0", "1.26.3"}}, "crash when handling long CNAME response"},
	{goLibrary, "GO-2026-5026", []string{"CVE-2026-39821"}, []span{{"", "1.25.13"}, {"1.26.0-0", "1.26.6"}, {"1.27.0-0", "1.27.0-rc.3"}}, "failure to reject ASCII-only Punycode-encoded labels"},
	{goLibrary, "GO-2026-5037", []string{"CVE-2026-27145"}, []span{{"", "1.25.11"}, {"1.26.0-0", "1.26.4"}}, "inefficient candidate hostname parsing"},
	{goLibrary, "GO-2026-5039", []string{"CVE-2026-42507"}, []span{{"", "1.25.11"}, {"1.26.0-0", "1.26.4"}}, "arbitrary inputs are included in errors without any escaping"},
	{goLibrary, "GO-2026-5856", []string{"CVE-2026-42505"}, []span{{"", "1.25.12"}, {"1.26.0-0", "1.26.5"}, {"1.27.0-0", "1.27.0-rc.2"}}, "encrypted Client Hello privacy leak"},
	{goLibrary, "GO-2026-5942", []string{"CVE-2026-46600"}, []span{{"1.26.0-0", "1.26.6"}, {"1.27.0-0", "1.27.0-rc.3"}}, "parsing an invalid SVCB or HTTPS RR can panic"},
	{goLibrary, "GO-2026-5972", []string{"CVE-2026-33818"}, []span{{"", "1.25.13"}, {"1.26.0-0", "1.26.6"}, {"1.27.0-0", "1.27.0-rc.3"}}, "enforce maximum recursion depth"},
	{goLibrary, "GO-2026-6089", []string{"CVE-2026-56853"}, []span{{"", "1.25.13"}, {"1.26.0-0", "1.26.6"}, {"1.27.0-0", "1.27.0-rc.3"}}, "apply ReadHeaderTimeout when doing unencrypted HTTP/2 check"},
	{goLibrary, "GO-2026-6090", []string{"CVE-2026-56862"}, []span{{"", "1.25.13"}, {"1.26.0-0", "1.26.6"}, {"1.27.0-0", "1.27.0-rc.3"}}, "limit handshake messages we are willing to accept post-handshake"},
	{goLibrary, "GO-2026-6218", []string{"CVE-2026-56860"}, []span{{"", "1.25.13"}, {"1.26.0-0", "1.26.6"}, {"1.27.0-0", "1.27.0-rc.3"}}, "avoid quadratic complexity in resolvePath"},
}
