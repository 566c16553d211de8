// SPDX-License-Identifier: Apache-2.0

package nova_test

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
)

// TestCloudbaseInit replays what cloudbase-init does in a Windows machine, and
// lets novaclient decrypt what came of it. The sequence is
// SetUserPasswordPlugin.execute and _set_metadata_password
// (cloudbaseinit/plugins/common/setuserpassword.py) over HttpService
// (cloudbaseinit/metadata/services/httpservice.py), in 1.1.8:
//
//	GET  /openstack/2013-04-04/meta_data.json  can_post_password
//	GET  /openstack/2013-04-04/password        is_password_set: more than 0 bytes
//	     encrypt for one of the keys of meta_data.json (utils/crypt.py: RSA, PKCS #1 v1.5; base64)
//	POST /openstack/2013-04-04/password        post_password
//
// What it does on a status from 400 on:
//
//   - can_post_password: 404 is "not supported by this service", and the plugin is
//     done. Any other is asked again five times, four seconds apart
//     (services/base.py, _exec_with_retry), and is then an error.
//   - is_password_set: an error at once, 404 as well.
//   - post_password: asked again as above, 404 as well, and then an error, but for
//     409: there is a password already. It catches that as urllib's HTTPError.
//     Since 0.9.10 it is requests that asks, whose HTTPError is another, so that
//     409 is asked again, too, and is then an error.
//
// An error ends the plugin, is logged, and lets it run again at the next boot
// (init.py, _exec_plugin), which sets another password in the machine first. A
// second run is therefore good only where is_password_set can tell, which it
// cannot in a machine that may not read its own password.
func TestCloudbaseInit(t *testing.T) {
	t.Parallel()
	onUWSGI, onEventlet := novaUnder(t, uwsgi), novaUnder(t, eventlet)
	behindAgent := guardBefore(t, onEventlet.address, setup{})
	agent := agentBefore(t, behindAgent.address)
	readers := map[*server]*guard{
		onUWSGI:    guardBefore(t, onUWSGI.address, setup{grants: mayRead(onTheWire)}),
		onEventlet: guardBefore(t, onEventlet.address, setup{grants: mayRead(onTheWire, lifeOfAgent, overwritten)}),
	}
	machines := []*windows{
		{name: "requests", nova: onUWSGI, as: onTheWire, asks: requests},
		{name: "urllib", nova: onEventlet, as: onTheWire, asks: urllib},
		{name: "requests through the agent", nova: onEventlet, as: lifeOfAgent, agent: agent, asks: requests},
		{name: "urllib through the agent", nova: onEventlet, as: overwritten, agent: agent, asks: urllib},
	}
	for _, w := range machines {
		g := behindAgent
		if w.agent == nil {
			g = guardBefore(t, w.nova.address, byAddress(map[string]rune{address(w.as): w.as}))
		}
		w.at = g.address
		w.password = "P4ssw0rd-" + rand.Text()
		w.sealed = w.seal(t, w.password)
		g.hide(w.password, w.sealed)
		readers[w.nova].hide(w.password, w.sealed)

		writing.Lock()
		w.run(t, g, w.sealed, 200)
		writing.Unlock()
		if sent := posts(t, g); len(sent) != 1 || sent[0].body != w.sealed {
			t.Errorf("%s: upstream saw %q", w.name, sent)
		}
		w.run(t, g, w.seal(t, "of the second run"), 409)
		w.run(t, g, w.sealed, 409) // which is what is asked again
		if sent := posts(t, g); len(sent) > 0 {
			t.Errorf("%s: of the second run upstream saw %q", w.name, sent)
		}
	}
	for _, w := range machines {
		if got, rows := w.nova.stored(t, w.as); got != w.sealed {
			t.Errorf("%s: stored is %q, want %q", w.name, rows, w.sealed)
		}
		// Where it may be read, is_password_set is true.
		var got reply
		eventually(t, "Nova shows the password", func() bool {
			got = get(t, readers[w.nova].address, passwordPath, w.as)
			return got.status != 200 || got.body != ""
		})
		if got.status != 200 || got.body != w.sealed || len(got.body) != 344 {
			t.Fatalf("%s: read back: %v", w.name, got)
		}
		if opened := decrypt(t, w.nova, got.body); opened != w.password {
			t.Errorf("%s: novaclient decrypts %q, want %q", w.name, opened, w.password)
		}
	}
}

// pythonLibrary is how a library of Python asks. The header is as that library
// sends it, less the connection, which send wants closed.
type pythonLibrary struct{ header, post []string }

var (
	// requests, as HttpService uses it: bytes have no type.
	requests = pythonLibrary{header: []string{"User-Agent: python-requests/2.28.1", "Accept-Encoding: gzip, deflate", "Accept: */*"}}
	// urllib, as it did before 0.9.10.
	urllib = pythonLibrary{
		header: []string{"Accept-Encoding: identity", "User-Agent: Python-urllib/2.7"},
		post:   []string{"Content-Type: application/x-www-form-urlencoded"},
	}
)

// windows is a machine with cloudbase-init.
type windows struct {
	name             string
	nova             *server
	as               rune
	asks             pythonLibrary
	agent            *agent // through which it asks, if it does
	at               string // the guard, if not
	password, sealed string
}

func (w *windows) ask(t *testing.T, method, path string, header []string, body []byte) reply {
	t.Helper()
	to := w.at
	if w.agent != nil {
		to = w.agent.address
	}
	return send(t, address(w.as), to, request(method, path, slices.Concat(w.asks.header, header), body))
}

// run is one run of the plugin where nothing may be read, which ends with the
// answer to its POST.
func (w *windows) run(t *testing.T, g *guard, sealed string, want int) {
	t.Helper()
	if got := w.ask(t, "GET", "/openstack/2013-04-04/meta_data.json", nil, nil); got.status != 200 {
		t.Errorf("%s: can_post_password: %v", w.name, got)
	}
	if got := w.ask(t, "GET", passwordPath, nil, nil); got.status != 200 || got.body != "" {
		t.Errorf("%s: is_password_set: %v", w.name, got)
	}
	g.upstream.take(t)
	got := w.ask(t, "POST", passwordPath, w.asks.post, []byte(sealed))
	if got.status != want {
		t.Errorf("%s: post_password: %v, want %d", w.name, got, want)
	}
}

// seal encrypts a password as cloudbaseinit/utils/crypt.py does, for the key
// that BaseOpenStackService.get_public_keys finds.
func (w *windows) seal(t *testing.T, password string) string {
	t.Helper()
	var document struct {
		PublicKeys map[string]string `json:"public_keys"`
	}
	if err := json.Unmarshal([]byte(w.ask(t, "GET", "/openstack/latest/meta_data.json", nil, nil).body), &document); err != nil || len(document.PublicKeys) != 1 {
		t.Fatalf("%v, keys %q", err, document.PublicKeys)
	}
	for _, line := range document.PublicKeys {
		public, _, _, _, err := ssh.ParseAuthorizedKey([]byte(line))
		if err != nil {
			t.Fatal(err)
		}
		key := public.(ssh.CryptoPublicKey).CryptoPublicKey().(*rsa.PublicKey)
		sealed, err := rsa.EncryptPKCS1v15(rand.Reader, key, []byte(password)) //nolint:staticcheck // what cloudbase-init uses
		if err != nil {
			t.Fatal(err)
		}
		return base64.StdEncoding.EncodeToString(sealed)
	}
	return ""
}

// decrypt lets novaclient open a password with the user's key.
func decrypt(t *testing.T, nova *server, sealed string) string {
	t.Helper()
	command := exec.Command("./nova.sh", "decrypt", filepath.Join(nova.state, "user.pem"))
	command.Stdin = strings.NewReader(sealed)
	output, err := command.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	return string(output)
}
