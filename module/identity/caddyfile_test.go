// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// adapt reads what stands after `identify`, as the module does, and gives the JSON.
func adapt(tb testing.TB, d *caddyfile.Dispenser) (string, error) {
	tb.Helper()
	if !d.Next() || !d.NextArg() {
		tb.Fatal("want identify <source>")
	}
	source, err := caddyfile.UnmarshalModule(d, "metaguard.identities."+d.Val())
	if err != nil {
		return "", err
	}
	if d.Next() {
		tb.Errorf("%q is left over", d.Val())
	}
	document, err := json.Marshal(source)
	if err != nil {
		tb.Fatal(err)
	}
	return string(document), nil
}

func TestCaddyfileGood(t *testing.T) {
	working, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		"identify anonymous":                                          `{}`,
		"identify neutron {\n secret {env.S}\n}":                      `{"secrets":["{env.S}"]}`,
		"identify neutron {\n secret {env.S} {file./run/old}\n}":      `{"secrets":["{env.S}","{file./run/old}"]}`,
		"identify neutron {\n trust 10.0.0.1 ::1\n secret {env.S}\n}": `{"secrets":["{env.S}"],"trust":["10.0.0.1","::1"]}`,
		"identify neutron {\n secret {env.S}\n trust 10.2.0.0/16\n}":  `{"secrets":["{env.S}"],"trust":["10.2.0.0/16"]}`,
		"identify remote_ip /no/such.json":                            `{"inventory":"/no/such.json"}`,
		"identify remote_ip no/such.json":                             `{"inventory":"` + working + `/no/such.json"}`,
		"identify remote_ip /no/such.json {\n address client_ip\n}":   `{"inventory":"/no/such.json","address":"client_ip"}`,
		"identify mtls": `{}`,
		"identify mtls {\n target claim instance project\n}":                 `{"target":{"by":"claim","claim":"instance","project_claim":"project"}}`,
		"identify mtls {\n target claim instance\n}":                         `{"target":{"by":"claim","claim":"instance"}}`,
		"identify mtls {\n target request no/such.json\n}":                   `{"target":{"by":"request","inventory":"` + working + `/no/such.json"}}`,
		"identify mtls {\n target remote_ip /no/such.json proxy_protocol\n}": `{"target":{"by":"remote_ip","inventory":"/no/such.json","address":"proxy_protocol"}}`,
	} {
		if got, err := adapt(t, caddyfile.NewTestDispenser(text)); err != nil || got != want {
			t.Errorf("%s\ngave %s, %v\nwant %s", text, got, err, want)
		}
	}
}

// {$NAME} is expanded before anyone reads the file, so Parse is needed to see it.
func TestCaddyfileExpandedSecret(t *testing.T) {
	t.Setenv("METAGUARD_TEST_SECRET", planted)
	blocks, err := caddyfile.Parse("Testfile", []byte("site {\n identify neutron {\n  secret {$METAGUARD_TEST_SECRET}\n }\n}"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = adapt(t, caddyfile.NewDispenser(blocks[0].Segments[0]))
	if err == nil || !strings.Contains(err.Error(), "{$NAME}") || !strings.Contains(err.Error(), "at Testfile:3") {
		t.Errorf("error %v", err)
	}
	noSecret(t, err)
}

func TestCaddyfileBad(t *testing.T) {
	for text, want := range map[string]string{
		"identify anonymous all":                                                 "takes neither an argument nor a block, at Testfile:1",
		"identify anonymous {\n all\n}":                                          "takes neither an argument nor a block, at Testfile:2",
		"identify neutron":                                                       "needs a secret",
		"identify neutron {\n}":                                                  "needs a secret",
		"identify neutron " + planted:                                            "takes a block, not an argument, at Testfile:1",
		"identify neutron {\n secret\n}":                                         "secret needs an argument; a {$NAME} that is not set leaves none, at Testfile:2",
		"identify neutron {\n secret " + planted + "\n}":                         "secret: a secret is given as {env.NAME} or {file.PATH}; a literal, which {$NAME} is too, would stand in the running configuration, at Testfile:2",
		"identify neutron {\n secret {env.S} " + planted + "\n}":                 "a literal",
		"identify neutron {\n secret x{env.S}\n}":                                "a literal",
		"identify neutron {\n secret {http.request.header.x}\n}":                 "other placeholders",
		"identify neutron {\n secret \"\"\n}":                                    "a literal",
		"identify neutron {\n secret {env.S} {env.S}\n}":                         "{env.S} is given twice, at Testfile:2",
		"identify neutron {\n secret {env.S}\n secret {env.T}\n}":                "secret is given twice: write all on one line, at Testfile:3",
		"identify neutron {\n secret {env.S} {\n  x\n }\n}":                      "takes no block",
		"identify neutron {\n trust 127.0.0.1\n}":                                "needs a secret",
		"identify neutron {\n secret {env.S}\n trust\n}":                         "trust needs an argument",
		"identify neutron {\n secret {env.S}\n trust ::1\n trust ::2\n}":         "trust is given twice: write all on one line, at Testfile:4",
		"identify neutron {\n secret {env.S}\n trust ::1 ::1\n}":                 "::1 is given twice",
		"identify neutron {\n secret {env.S}\n trust 0.0.0.0/0\n}":               `trust: "0.0.0.0/0" covers every address: name the ones that you mean, at Testfile:3`,
		"identify neutron {\n secret {env.S}\n trust 10.2.0.0/0\n}":              "covers every address",
		"identify neutron {\n secret {env.S}\n trust ::/0\n}":                    "covers every address",
		"identify neutron {\n secret {env.S}\n trust ::ffff:0:0/96\n}":           "covers every address",
		"identify neutron {\n secret {env.S}\n trust ::ffff:0:0/0\n}":            "covers every address",
		"identify neutron {\n secret {env.S}\n trust 10.2.3.0/16\n}":             "write 10.2.0.0/16",
		"identify neutron {\n secret {env.S}\n trust private_ranges\n}":          "neither an address",
		"identify neutron {\n secret {env.S}\n trust 10.0.0.0/33\n}":             "neither an address",
		"identify neutron {\n secret {env.S}\n trust fe80::1%eth0\n}":            "has a zone",
		"identify neutron {\n secret {env.S}\n retries 3\n}":                     `unknown setting "retries" of identify neutron: it has secret and trust, at Testfile:3`,
		"identify remote_ip":                                                     "needs an inventory file: identify remote_ip <inventory-file>, at Testfile:1",
		"identify remote_ip \"\"":                                                "needs an inventory file",
		"identify remote_ip a.json b.json":                                       "takes one inventory file, at Testfile:1",
		"identify remote_ip a.json {\n every 1s\n}":                              `unknown setting "every" of identify remote_ip: it has address, at Testfile:2`,
		"identify remote_ip a.json {\n address\n}":                               "address needs one argument",
		"identify remote_ip a.json {\n address header\n}":                        `address "header": it is connection, client_ip or proxy_protocol, at Testfile:2`,
		"identify remote_ip a.json {\n address client_ip x\n}":                   "address needs one argument",
		"identify remote_ip a.json {\n address client_ip\n address client_ip\n}": "address of identify remote_ip is given twice; it may stand once, at Testfile:3",
		"identify mtls x":                                      "takes a block, not an argument, at Testfile:1",
		"identify mtls {\n ca x\n}":                            `unknown setting "ca" of identify mtls: it has target, at Testfile:2`,
		"identify mtls {\n target\n}":                          "it is `target remote_ip <inventory-file>",
		"identify mtls {\n target nobody x\n}":                 "it is `target remote_ip <inventory-file>",
		"identify mtls {\n target claim\n}":                    "it is `target remote_ip <inventory-file>",
		"identify mtls {\n target claim a b c\n}":              "it is `target remote_ip <inventory-file>",
		"identify mtls {\n target request a.json client_ip\n}": "it is `target remote_ip <inventory-file>",
		"identify mtls {\n target remote_ip a.json header\n}":  `address "header"`,
		"identify mtls {\n target claim a {\n  b\n }\n}":       "target takes no block",
		"identify mtls {\n target claim a\n target claim b\n}": "target of identify mtls is given twice; it may stand once, at Testfile:3",
		"identify nobody":                                      "nobody",
	} {
		_, err := adapt(t, caddyfile.NewTestDispenser(text))
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "Testfile:") {
			t.Errorf("%s\ngave %v\nwant %s", text, err, want)
		}
		noSecret(t, err)
	}
}

func TestCaddyfileInventoryBesideIt(t *testing.T) {
	dir := t.TempDir()
	inventory := filepath.Join(dir, "inventory.json")
	writeFile(t, inventory, exampleInventory)
	tokens, err := caddyfile.Tokenize([]byte("identify remote_ip inventory.json"), filepath.Join(dir, "Caddyfile"))
	if err != nil {
		t.Fatal(err)
	}
	document, err := adapt(t, caddyfile.NewDispenser(tokens))
	if err != nil {
		t.Fatal(err)
	}
	// Caddy loads the guest from that JSON, decoding strictly.
	ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
	defer cancel()
	loaded, err := ctx.LoadModuleByID("metaguard.identities.remote_ip", json.RawMessage(document))
	if err != nil {
		t.Fatal(err)
	}
	source := loaded.(*RemoteIP)
	if status := source.Status(); source.Inventory != inventory || source.Digest == "" || source.Digest != status.Digest {
		t.Errorf("%s: status %+v", document, status)
	}
	writeFile(t, inventory, "[]")
	again, err := adapt(t, caddyfile.NewDispenser(tokens))
	if err != nil || again == document {
		t.Errorf("an edit leaves the configuration as it was: %s, %v", again, err)
	}
}

// The configuration that is served holds placeholders, never what they stand for.
func TestLoadedNeutronServesPlaceholders(t *testing.T) {
	t.Setenv("METAGUARD_TEST_SECRET", planted)
	document, err := adapt(t, caddyfile.NewTestDispenser("identify neutron {\n secret {env.METAGUARD_TEST_SECRET}\n}"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
	defer cancel()
	loaded, err := ctx.LoadModuleByID("metaguard.identities.neutron", json.RawMessage(document))
	if err != nil {
		t.Fatal(err)
	}
	served, err := json.Marshal(loaded)
	if err != nil || string(served) != document {
		t.Errorf("%s, %v, want %s", served, err, document)
	}
	noSecret(t, loaded, document)
	if caller, refusal := loaded.(Source).Identify(request(signed(planted)), loopback); caller == nil {
		t.Error(refusal)
	}
}
