// SPDX-License-Identifier: Apache-2.0

package legacy

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	_ "github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// adapt makes JSON of a site's directives, as `caddy adapt` does.
func adapt(t *testing.T, directives string) (string, error) {
	t.Helper()
	adapted, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte("http://:8775 {\n"+directives+"\n}\n"), map[string]any{"filename": "Caddyfile"})
	return string(adapted), err
}

func TestCaddyfile(t *testing.T) {
	for name, tt := range map[string]struct{ directives, want string }{
		"shortest": {"metaguard_legacy", `{"handler":"metaguard_legacy"}`},
		"all": {
			`metaguard_legacy {
	server eventlet
	cache 0
	secret {env.SHARED_SECRET}
	instance ` + noPassword + ` {
		project p
		name vm
		address 10.0.0.11 10.0.0.12
		address 10.0.0.13
		user_data "two words"
		meta role web
		meta admin_pass x
		password password_0 a
		password password_evil b
	}
	instance ` + withOne + ` {
		project q
	}
}`,
			`{"cache":0,"handler":"metaguard_legacy","instances":[{"addresses":["10.0.0.11","10.0.0.12","10.0.0.13"],` +
				`"id":"` + noPassword + `","meta":{"admin_pass":"x","role":"web"},"name":"vm","project":"p",` +
				`"system_metadata":{"password_0":"a","password_evil":"b"},"user_data":"two words"},` +
				`{"id":"` + withOne + `","project":"q"}],"secret":"{env.SHARED_SECRET}","server":"eventlet"}`,
		},
		"before respond": {"respond late\nmetaguard_legacy", `{"handler":"metaguard_legacy"},{"body":"late","handler":"static_response"}`},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := adapt(t, tt.directives)
			if err != nil {
				t.Fatal(err)
			}
			// The order of members does not matter.
			var config struct {
				Apps struct {
					HTTP struct {
						Servers map[string]struct {
							Routes []struct{ Handle []any }
						}
					}
				}
			}
			if err := json.Unmarshal([]byte(got), &config); err != nil {
				t.Fatal(err)
			}
			handlers, err := json.Marshal(config.Apps.HTTP.Servers["srv0"].Routes[0].Handle)
			if err != nil || string(handlers) != "["+tt.want+"]" {
				t.Errorf("got  %s\nwant [%s] (%v)", handlers, tt.want, err)
			}
		})
	}
}

func TestCaddyfileErrors(t *testing.T) {
	instance := "instance " + noPassword + " {\n"
	for directives, want := range map[string]string{
		"metaguard_legacy {\n nonsense\n}":                                                   `unrecognized subdirective "nonsense", at Caddyfile:3`,
		"metaguard_legacy a b":                                                               "Caddyfile:2",
		"metaguard_legacy {\n server\n}":                                                     "Caddyfile:3",
		"metaguard_legacy {\n server uwsgi\n server uwsgi\n}":                                "server is given twice, at Caddyfile:4",
		"metaguard_legacy {\n server apache\n}":                                              `unknown server "apache": it is uwsgi or eventlet, at Caddyfile:3`,
		"metaguard_legacy {\n cache soon\n}":                                                 "reading cache: ",
		"metaguard_legacy {\n cache -1s\n}":                                                  "cache must not be negative, at Caddyfile:3",
		"metaguard_legacy {\n secret s3cret\n}":                                              "secret must be {env.NAME} or {file.PATH}, since a literal would stand in the running configuration, at Caddyfile:3",
		"metaguard_legacy {\n secret {env.}\n}":                                              "secret must be",
		"metaguard_legacy {\n secret {vars.x}\n}":                                            "secret must be",
		"metaguard_legacy {\n secret {env.A}{env.B}\n}":                                      "secret must be",
		"metaguard_legacy {\n instance x {\n  project p\n }\n}":                              "the id must be a UUID in lower case",
		"metaguard_legacy {\n " + strings.ToUpper(instance) + "}\n}":                         "unrecognized subdirective",
		"metaguard_legacy {\n " + instance + "}\n}":                                          "a project is required, at Caddyfile:4",
		"metaguard_legacy {\n " + instance + "project p\n}\n" + instance + "project p\n}\n}": "is given twice, at Caddyfile:8",
		"metaguard_legacy {\n " + instance + "project p\nproject q\n}\n}":                    "project is given twice, at Caddyfile:5",
		"metaguard_legacy {\n " + instance + "project p\nmeta a\n}\n}":                       "Caddyfile:5",
		"metaguard_legacy {\n " + instance + "project p\nmeta a b\nmeta a c\n}\n}":           "a is given twice, at Caddyfile:6",
		"metaguard_legacy {\n " + instance + "project p\npassword password_0 a b\n}\n}":      "Caddyfile:5",
		"metaguard_legacy {\n " + instance + "project p\naddress\n}\n}":                      "Caddyfile:5",
		"metaguard_legacy {\n " + instance + "project p\naddress a a\n}\n}":                  "address a belongs to two instances",
		"metaguard_legacy {\n " + instance + "project p\nnonsense\n}\n}":                     `unrecognized subdirective "nonsense", at Caddyfile:5`,
		"metaguard_legacy {\n instance " + noPassword + " more {\n project p\n}\n}":          "Caddyfile:3",
		"metaguard_legacy {\n " + instance + "project p\naddress a\n}\n instance " + withOne +
			" {\nproject p\naddress a\n}\n}": "address a belongs to two instances",
	} {
		if _, err := adapt(t, directives); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "Caddyfile:") {
			t.Errorf("%s\n gives %v\n want %s", directives, err, want)
		} else if strings.Contains(err.Error(), "s3cret") {
			t.Errorf("the secret stands in %v", err)
		}
	}
}

func TestProvision(t *testing.T) {
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte("s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file+".blank", []byte("\r\n\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("LEGACY_TEST_SECRET", "s3cret")
	t.Setenv("LEGACY_TEST_EMPTY", "")
	for name, tt := range map[string]struct{ config, err string }{
		"defaults":         {`{}`, ""},
		"environment":      {`{"secret": "{env.LEGACY_TEST_SECRET}"}`, ""},
		"file":             {`{"secret": "{file.` + file + `}"}`, ""},
		"missing variable": {`{"secret": "{env.LEGACY_TEST_NONE}"}`, "reading the secret: "},
		"empty variable":   {`{"secret": "{env.LEGACY_TEST_EMPTY}"}`, "reading the secret: "},
		"missing file":     {`{"secret": "{file.` + file + `.none}"}`, "reading the secret: "},
		"blank file":       {`{"secret": "{file.` + file + `.blank}"}`, "is empty"},
		"literal":          {`{"secret": "s3cret"}`, "secret must be"},
		"unknown server":   {`{"server": "apache"}`, "unknown server"},
		"bad instance":     {`{"instances": [{"id": "x", "project": "p"}]}`, "UUID"},
		"no project":       {`{"instances": [{"id": "` + noPassword + `"}]}`, "a project is required"},
		"negative cache":   {`{"cache": -1}`, "negative"},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := caddy.NewContext(caddy.Context{Context: t.Context()})
			defer cancel()
			loaded, err := ctx.LoadModuleByID("http.handlers.metaguard_legacy", json.RawMessage(tt.config))
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) || strings.Contains(err.Error(), "s3cret") {
					t.Fatalf("%v, want %s", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			h := loaded.(caddyhttp.MiddlewareHandler).(*Handler)
			if h.Secret != "" && string(h.secret.Reveal()) != "s3cret" {
				t.Error("the secret is another")
			}
			if len(h.store.byID) != 3 {
				t.Errorf("%d instances", len(h.store.byID))
			}
		})
	}
}
