// SPDX-License-Identifier: Apache-2.0

package nova_test

import (
	"os"
	"strings"
	"testing"
)

// TestNothingSecretIsLogged makes Metaguard say as much as it can: at debug
// level, with an access log, under the logging snippet of every Caddyfile that
// is shipped. Every guard of these tests is searched at its end; this one for
// more.
func TestNothingSecretIsLogged(t *testing.T) {
	t.Parallel()
	nova := novaUnder(t, uwsgi)
	snippet, err := os.ReadFile("../../caddyfiles/logging.caddy")
	if err != nil {
		t.Fatal(err)
	}
	g := guardBefore(t, nova.address, setup{
		grants: mayRead(withPassword),
		global: "debug",
		log:    "output stderr\n\t\timport logging.caddy",
		site:   "log {\n\t\timport logging.caddy\n\t}",
		files:  map[string]string{"logging.caddy": string(snippet)},
	})
	tokens := []string{
		"X-Auth-Token: planted-token-1", "X-aws-ec2-metadata-token: planted-token-2", "Authorization: planted-token-3",
		"Cookie: planted=token-4", "X-Metadata-Token: planted-token-5",
	}
	for _, target := range []string{
		"/openstack/latest/password", "/openstack/latest/meta_data.json", "/openstack/latest/", "/nowhere",
		"/openstack/latest/user_data?token=planted-token-6", "/openstack/latest/%2fplanted",
	} {
		send(t, "", g.address, request("GET", target, append(signed(withPassword), tokens...), nil))
		send(t, "", g.address, request("POST", target, append(signed(withPassword), tokens...), []byte("planted-password-7")))
		wrong := signed('3')
		wrong[3] = "X-Instance-ID-Signature: " + signature('2')
		send(t, "", g.address, request("GET", target, append(wrong, tokens...), nil))
	}
	if got := get(t, g.address, "/openstack/latest/password", withPassword); got.body != passwordOf2 {
		t.Errorf("%v, want the password", got)
	}
	g.Stop()
	for _, want := range []string{`"level":"debug"`, "handled request", "policy_allow", "identity_invalid"} {
		if !strings.Contains(g.Log(), want) {
			t.Errorf("the log does not say %s, so it is no proof", want)
		}
	}
	g.hide("planted-token-1", "planted-token-2", "planted-token-3", "planted=token-4", "planted-token-5", "planted-token-6", "planted-password-7")
}
