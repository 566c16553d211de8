// SPDX-License-Identifier: Apache-2.0

package module

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
)

// JSON comes past the Caddyfile's checks and is checked all the same.
func TestUpstreamJSON(t *testing.T) {
	for config, problem := range map[string]string{
		`{}`:                                  "",
		`{"load_balancing": {"retries": 2}}`:  "",
		`{"rewrite": {"uri": "/x"}}`:          "rewrite",
		`{"handle_response": [{}]}`:           "handle_response",
		`{"trusted_proxies": ["10.0.0.0/8"]}`: "trusted_proxies",
		`{"request_buffers": 1}`:              "request_buffers",
		`{"response_buffers": -1}`:            "response_buffers",
		`{"load_balancing": {"retry_match": [{"method": ["POST"]}]}}`:                                             "lb_retry_match",
		`{"headers": {"request": {"set": {"X-Forwarded-For": ["1.2.3.4"]}}}}`:                                     "X-Forwarded-For",
		`{"headers": {"request": {"add": {"x-instance-id": ["evil"]}}}}`:                                          "x-instance-id",
		`{"headers": {"request": {"delete": ["X-*"]}}}`:                                                           "pattern",
		`{"headers": {"request": {"replace": {"Host": [{"replace": "x"}]}}}}`:                                     "Host",
		`{"headers": {"response": {"set": {"X-A": ["b"]}}}}`:                                                      "header_down",
		`{"headers": {"request": {"set": {"X-Site": ["a"]}}}}`:                                                    "",
		`{"upstreams": [{"dial": "{http.request.host}:80"}]}`:                                                     "placeholder",
		`{"upstreams": [{"dial": "{chosen}"}]}`:                                                                   "placeholder",
		`{"upstreams": [{"dial": "{env.NOVA}:8775"}]}`:                                                            "",
		`{"upstreams": [null]}`:                                                                                   "empty",
		`{"dynamic_upstreams": {"source": "a", "name": "{http.request.host}"}}`:                                   "placeholder",
		`{"transport": {"protocol": "http", "network_proxy": {"from": "url", "url": "{http.request.header.X}"}}}`: "placeholder",
		`{"headers": {"request": {"set": {"X-Site": ["{http.request.uri}"]}}}}`:                                   "placeholder",
		`{"headers": {"request": {"set": {"X-Site": ["{http.reverse_proxy.upstream.host} {env.SITE}"]}}}}`:        "",
		`{"health_checks": {"active": {"uri": "/openstack/latest/password"}}}`:                                    "health",
		`{"health_checks": {"passive": {"max_fails": 2}}}`:                                                        "",
	} {
		var proxy reverseproxy.Handler
		if err := json.Unmarshal([]byte(config), &proxy); err != nil {
			t.Fatal(err)
		}
		err := checkUpstream(&proxy)
		if (err == nil) != (problem == "") || (err != nil && !strings.Contains(err.Error(), problem)) {
			t.Errorf("%s: %v, want %q", config, err, problem)
		}
	}
}

func TestTransportDefaults(t *testing.T) {
	filled, err := withTransportDefaults(json.RawMessage(`{"protocol": "http", "dial_timeout": 1000000000, "keep_alive": {"enabled": true}}`))
	if err != nil {
		t.Fatal(err)
	}
	var transport reverseproxy.HTTPTransport
	if err := json.Unmarshal([]byte(strings.Replace(string(filled), `"protocol":"http",`, "", 1)), &transport); err != nil {
		t.Fatal(err)
	}
	if transport.DialTimeout != 1e9 || !*transport.KeepAlive.Enabled {
		t.Errorf("what the operator says is lost: %s", filled)
	}
	if *transport.Compression || transport.ResponseHeaderTimeout == 0 || transport.ReadTimeout == 0 || string(transport.NetworkProxyRaw) != `{"from":"none"}` ||
		len(transport.Versions) != 1 || transport.Versions[0] != "1.1" {
		t.Errorf("a default is missing: %s", filled)
	}
	// Only `keepalive <duration>` asks for connections that serve several
	// requests.
	for settings, reused := range map[string]bool{`{"probe_interval": 1}`: false, `{"idle_timeout": 1}`: true, `{"enabled": false, "idle_timeout": 1}`: false} {
		filled, err := withTransportDefaults(json.RawMessage(`{"keep_alive": ` + settings + `}`))
		if err != nil || strings.Contains(string(filled), `"enabled":true`) != reused || !strings.Contains(string(filled), `"max_idle_conns_per_host":512`) {
			t.Errorf("%s: %s %v", settings, filled, err)
		}
	}
	for _, bad := range []string{`{"protocol": "fastcgi"}`, `[]`} {
		if _, err := withTransportDefaults(json.RawMessage(bad)); err == nil {
			t.Errorf("%s is taken", bad)
		}
	}
}
