// SPDX-License-Identifier: Apache-2.0

package tests

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/metaguard/metaguard/tests/harness"
)

// everyFile is a configuration that names a file wherever one can be named.
const everyFile = `
import snippets/*.caddy

http://:PORT1 {
	bind 127.0.0.1
	metaguard {
		upstream 127.0.0.1:1 {
			transport http {
				tls_trust_pool file DIR/upstream-ca.pem
				tls_client_auth DIR/upstream.pem DIR/upstream.key
			}
		}
		dialect openstack
		identify neutron {
			secret {file.DIR/neutron-secret}
			trust 192.0.2.1
		}
		identify jwt {
			issuer https://issuer.invalid
			audience here
			jwks jwks.json
			target request target.json
		}
		identify keystone {
			url https://keystone.invalid/v3
			ca keystone-ca.pem
		}
		identify remote_ip inventory.json
		assert neutron {file.DIR/assert-secret}
		policy policy {
			candidate candidate
			opa opa.yaml
		}
		session optional {
			key {file.DIR/session-key}
		}
		password {
			latch redis {file.DIR/redis-url}
			fingerprint_key {file.DIR/fingerprint-key}
		}
	}
}

https://:PORT2 {
	bind 127.0.0.1
	tls DIR/server.pem DIR/server.key {
		client_auth {
			mode verify_if_given
			trust_pool file DIR/clients.pem
		}
	}
	import guarded
}
`

const guardedSnippet = `(guarded) {
	metaguard {
		upstream 127.0.0.1:1
		dialect openstack
		identify mtls
		identify jwt {
			issuer https://issuer.invalid
			audience here
			jwks https://issuer.invalid/keys {
				ca jwks-ca.pem
				token {file.DIR/jwks-token}
			}
		}
	}
}
`

// Whatever a configuration is made of, an edit of it makes `metaguard reload` a
// real one, and without an edit there is none.
func TestReloadNoticesEveryFile(t *testing.T) {
	t.Parallel()
	authorities := [2]*harness.Authority{harness.NewAuthority(t), harness.NewAuthority(t)}
	var certificates, keys [2]string
	for i, authority := range authorities {
		certificates[i], keys[i] = authority.Server()
	}
	ca := [2]string{authorities[0].PEM(), authorities[1].PEM()}
	secrets := [2]string{strings.Repeat("first of the secrets ", 2), strings.Repeat("other of the secrets ", 2)}
	const jwk = `{"kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": %q, "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}`
	entry := `[{"address": "127.0.0.1", "instance_id": "` + instance1 + `", "project_id": "p"}]`
	edits := map[string][2]string{
		"neutron-secret":         secrets,
		"assert-secret":          secrets,
		"session-key":            secrets,
		"fingerprint-key":        {strings.Repeat("0", 64), strings.Repeat("1", 64)},
		"redis-url":              {"redis://:a@127.0.0.1:1?max_retries=-1", "redis://:b@127.0.0.1:1?max_retries=-1"},
		"jwks-token":             secrets,
		"snippets/jwks-ca.pem":   ca,
		"keystone-ca.pem":        ca,
		"upstream-ca.pem":        ca,
		"clients.pem":            ca,
		"server.pem":             {certificates[0], certificates[0] + "\n"},
		"server.key":             {keys[0], keys[0] + "\n"},
		"upstream.pem":           {certificates[0], certificates[0] + "\n"},
		"upstream.key":           {keys[0], keys[0] + "\n"},
		"jwks.json":              {fmt.Sprintf(`{"keys": [`+jwk+`]}`, "a"), fmt.Sprintf(`{"keys": [`+jwk+`]}`, "b")},
		"target.json":            {entry, inventory},
		"inventory.json":         {entry, inventory},
		"policy/team.rego":       {denyNothing, denyMetadata},
		"candidate/team.rego":    {denyMetadata, denyNothing},
		"opa.yaml":               {"labels: {generation: a}\n", "labels: {generation: b}\n"},
		"snippets/guarded.caddy": {guardedSnippet, strings.Replace(guardedSnippet, "identify mtls", "identify mtls\n\t\tdeny_status 404", 1)},
	}
	m := prepareManaged(t, byAddress, nil)
	files := strings.NewReplacer("DIR", m.Dir, "PORT1", fmt.Sprint(harness.FreePort(t)), "PORT2", fmt.Sprint(harness.FreePort(t)))
	for name, contents := range edits {
		m.Write(name, files.Replace(contents[0]))
	}
	m.Write("Caddyfile", m.read(t, "Caddyfile")+files.Replace(everyFile))
	m.edit(t, "Caddyfile", "persist_config off", "persist_config off\n\tauto_https disable_redirects")
	m.Run(m.address)

	const unchanged = "config is unchanged"
	reload := func() {
		t.Helper()
		if output, err := m.reload(t); err != nil {
			t.Fatalf("%v\n%s", err, output)
		}
	}
	for name, contents := range edits {
		before := strings.Count(m.Log(), unchanged)
		reload()
		m.Eventually("a reload without an edit does nothing", func() bool { return strings.Count(m.Log(), unchanged) == before+1 })
		running := m.admin.Get(t, "/config/")
		m.Write(name, files.Replace(contents[1]))
		reload()
		if m.admin.Get(t, "/config/") == running {
			t.Errorf("%s was edited, and the reload did not notice", name)
		}
	}
	for _, secret := range secrets {
		if strings.Contains(m.admin.Get(t, "/config/")+m.Log(), secret) {
			t.Error("a secret is in the configuration or in the log")
		}
	}
}

// A rotated secret counts from the reload on, and not before.
func TestReloadTakesARotatedSecret(t *testing.T) {
	t.Parallel()
	m := prepareManaged(t, byAddress, map[string]string{"secret": secret + "\n"})
	m.edit(t, "Caddyfile", byAddress, "identify neutron {\n\tsecret {file."+filepath.Join(m.Dir, "secret")+"}\n\ttrust 127.0.0.0/8\n}\npolicy policy")
	m.Run(m.address)
	ask := func(status int, signature string) {
		t.Helper()
		request := "GET " + metadataPath + " HTTP/1.1\r\nHost: m\r\nConnection: close\r\n" + agentHeaders(instance1, signature) + "\r\n"
		var answer harness.Answer
		m.Eventually("an answer", func() bool {
			answer = harness.Raw(t, m.address, request)
			return answer.Err == nil
		})
		if answer.Status != status {
			t.Errorf("%d %q, want %d", answer.Status, answer.Body, status)
		}
	}
	const other = "the-secret-after-the-rotation"
	ask(200, sign(instance1))
	m.Write("secret", other+"\n")
	ask(200, sign(instance1))
	ask(403, signWith(other, instance1))
	if output, err := m.reload(t); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	ask(403, sign(instance1))
	ask(200, signWith(other, instance1))
}
