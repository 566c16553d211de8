// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"context"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

func TestKeystoneCaddyfileGood(t *testing.T) {
	working, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		"url https://k": `{"url":"https://k"}`,
		"url http://127.0.0.1:5000/v3\n cache 1m":                           `{"url":"http://127.0.0.1:5000/v3","cache":60000000000}`,
		"url https://k\n cache off":                                         `{"url":"https://k","cache":-1}`,
		"url https://k\n cache 0":                                           `{"url":"https://k","cache":-1}`,
		"url https://k\n cache 0s":                                          `{"url":"https://k","cache":-1}`,
		"url https://k\n cache 5m\n cache_size 5\n timeout 10s\n ca ca.pem": `{"url":"https://k","ca":"` + working + `/ca.pem","cache":300000000000,"cache_size":5,"timeout":10000000000}`,
		"url https://k\n target claim vm":                                   `{"url":"https://k","target":{"by":"claim","claim":"vm"}}`,
		"target remote_ip /i.json client_ip\n url https://k":                `{"url":"https://k","target":{"by":"remote_ip","inventory":"/i.json","address":"client_ip"}}`,
	} {
		if got, err := adapt(t, caddyfile.NewTestDispenser("identify keystone {\n "+text+"\n}")); err != nil || got != want {
			t.Errorf("%s\ngave %s, %v\nwant %s", text, got, err, want)
		}
	}
}

func TestKeystoneCaddyfileBad(t *testing.T) {
	for text, want := range map[string]string{
		"identify keystone":                                                        "needs Keystone's endpoint: url https://<host>:5000/v3, at Testfile:1",
		"identify keystone https://k":                                              "takes a block, not an argument, at Testfile:1",
		"identify keystone {\n}":                                                   "needs Keystone's endpoint",
		"identify keystone {\n cache 1m\n}":                                        "needs Keystone's endpoint",
		"identify keystone {\n url\n}":                                             "url needs one argument; a {$NAME} that is not set leaves none, at Testfile:2",
		"identify keystone {\n url https://a https://b\n}":                         "url needs one argument",
		"identify keystone {\n url https://k\n url https://l\n}":                   "url of identify keystone is given twice; it may stand once, at Testfile:3",
		"identify keystone {\n url http://keystone.example:5000/v3\n}":             "it must be https, except on the loopback address: tokens would go over the network in the clear, at Testfile:2",
		"identify keystone {\n url https://u:" + planted + "@k\n}":                 "without a user",
		"identify keystone {\n url https://k {\n  x\n }\n}":                        "url takes no block, at Testfile:3",
		"identify keystone {\n url https://k\n cache\n}":                           "cache needs one argument",
		"identify keystone {\n url https://k\n cache long\n}":                      "it is a duration such as 30s, or off, at Testfile:3",
		"identify keystone {\n url https://k\n cache -1s\n}":                       "it is a duration",
		"identify keystone {\n url https://k\n cache 6m\n}":                        "at most 5m0s, since a revoked token is believed for so long, at Testfile:3",
		"identify keystone {\n url https://k\n cache_size 0\n}":                    "to believe none, write cache off, at Testfile:3",
		"identify keystone {\n url https://k\n cache_size 2000000\n}":              "1 to 1000000 tokens",
		"identify keystone {\n url https://k\n cache_size many\n}":                 "1 to 1000000 tokens",
		"identify keystone {\n url https://k\n timeout 0\n}":                       "at most 1m0s, at Testfile:3",
		"identify keystone {\n url https://k\n timeout 61s\n}":                     "at most 1m0s",
		"identify keystone {\n url https://k\n ca\n}":                              "ca needs one argument",
		"identify keystone {\n url https://k\n target\n}":                          "it is `target remote_ip",
		"identify keystone {\n url https://k\n target claim a\n target claim b\n}": "target of identify keystone is given twice; it may stand once, at Testfile:4",
		"identify keystone {\n url https://k\n insecure\n}":                        `unknown setting "insecure" of identify keystone: it has url, ca, cache, cache_size, timeout and target, at Testfile:3`,
	} {
		_, err := adapt(t, caddyfile.NewTestDispenser(text))
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "Testfile:") {
			t.Errorf("%s\ngave %v\nwant %s", text, err, want)
		}
		noSecret(t, err)
	}
}

// Caddy loads the guest from the adapted JSON, decoding strictly.
func TestKeystoneLoads(t *testing.T) {
	document, err := adapt(t, caddyfile.NewTestDispenser("identify keystone {\n url https://keystone.example:5000\n cache off\n target claim vm\n}"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
	defer cancel()
	loaded, err := ctx.LoadModuleByID("metaguard.identities.keystone", json.RawMessage(document))
	if err != nil {
		t.Fatal(err)
	}
	k := loaded.(*Keystone)
	if k.client.service.Endpoint != "https://keystone.example:5000/v3/" || k.Cache != -1 || k.CacheSize != defaultKeystoneCacheSize {
		t.Errorf("%+v", k)
	}
}

func TestKeystoneEndpoint(t *testing.T) {
	for address, want := range map[string]string{
		"https://keystone.example:5000":     "https://keystone.example:5000/v3/",
		"https://keystone.example:5000/":    "https://keystone.example:5000/v3/",
		"https://keystone.example:5000/v3":  "https://keystone.example:5000/v3/",
		"https://keystone.example:5000/v3/": "https://keystone.example:5000/v3/",
		"https://cloud.example/identity/v3": "https://cloud.example/identity/v3/",
		"http://127.0.0.1:5000/v3":          "http://127.0.0.1:5000/v3/",
		"http://[::1]:5000":                 "http://[::1]:5000/v3/",
		"http://localhost:5000":             "http://localhost:5000/v3/",
	} {
		if got, err := keystoneEndpoint(address); got != want || err != nil {
			t.Errorf("%s: %s, %v", address, got, err)
		}
	}
	for address, want := range map[string]string{
		"":                                        "v3 endpoint",
		"keystone.example":                        "v3 endpoint",
		"keystone.example:5000/v3":                "v3 endpoint",
		"https:///v3":                             "v3 endpoint",
		"https://{env.KEYSTONE}/v3":               "v3 endpoint",
		"ftp://keystone.example/v3":               "the scheme is https",
		"http://keystone.example:5000/v3":         "must be https",
		"http://127.0.0.1.example/v3":             "must be https",
		"https://admin:" + planted + "@k/v3":      "without a user",
		"https://k/v3?token=" + planted:           "without a query",
		"https://k/v3#x":                          "without a query, a fragment",
		"https://k/identity":                      "must end in /v3",
		"https://k/v2.0":                          "must end in /v3",
		"https://k/a%2Fv3":                        "anything encoded",
		"https://admin:" + planted + "@k:port/v3": "v3 endpoint",
	} {
		got, err := keystoneEndpoint(address)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %s, %v, want %s", address, got, err, want)
		}
		noSecret(t, err)
	}
}
