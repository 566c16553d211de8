// SPDX-License-Identifier: Apache-2.0

package main

// Caddy's modules, chosen for what a guard's operators use: Caddy's
// modules/standard less what serves files and pages (fileserver, templates,
// fastcgi, push, brotli), an ACME server, a file system abstraction, and shared
// keys for TLS tickets. The README says how to build with more.
import (
	_ "github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"                      // the Caddyfile
	_ "github.com/caddyserver/caddy/v2/modules/caddyevents"                        // events, which Metaguard emits
	_ "github.com/caddyserver/caddy/v2/modules/caddyevents/eventsconfig"           // the global option events
	_ "github.com/caddyserver/caddy/v2/modules/caddyhttp"                          // sites, matchers, respond, vars
	_ "github.com/caddyserver/caddy/v2/modules/caddyhttp/caddyauth"                // basic_auth, before metrics for example
	_ "github.com/caddyserver/caddy/v2/modules/caddyhttp/encode"                   // encode, of metrics for example
	_ "github.com/caddyserver/caddy/v2/modules/caddyhttp/encode/gzip"              // … with gzip
	_ "github.com/caddyserver/caddy/v2/modules/caddyhttp/encode/zstd"              // … with zstd
	_ "github.com/caddyserver/caddy/v2/modules/caddyhttp/headers"                  // header, request_header
	_ "github.com/caddyserver/caddy/v2/modules/caddyhttp/intercept"                // intercept
	_ "github.com/caddyserver/caddy/v2/modules/caddyhttp/logging"                  // log_append
	_ "github.com/caddyserver/caddy/v2/modules/caddyhttp/map"                      // map
	_ "github.com/caddyserver/caddy/v2/modules/caddyhttp/proxyprotocol"            // the PROXY protocol, behind a load balancer
	_ "github.com/caddyserver/caddy/v2/modules/caddyhttp/requestbody"              // request_body
	_ "github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"             // upstream's, and sites without a guard
	_ "github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy/forwardauth" // forward_auth
	_ "github.com/caddyserver/caddy/v2/modules/caddyhttp/rewrite"                  // rewrite, uri, method
	_ "github.com/caddyserver/caddy/v2/modules/caddyhttp/timeouts"                 // timeouts of a route
	_ "github.com/caddyserver/caddy/v2/modules/caddyhttp/tracing"                  // tracing
	_ "github.com/caddyserver/caddy/v2/modules/caddypki"                           // tls internal
	_ "github.com/caddyserver/caddy/v2/modules/caddytls"                           // TLS, client certificates, ACME as a client
	_ "github.com/caddyserver/caddy/v2/modules/caddytls/standardstek"              // keys for TLS tickets
	_ "github.com/caddyserver/caddy/v2/modules/filestorage"                        // storage in files
	_ "github.com/caddyserver/caddy/v2/modules/logging"                            // log writers and encoders
	_ "github.com/caddyserver/caddy/v2/modules/metrics"                            // metrics
)
