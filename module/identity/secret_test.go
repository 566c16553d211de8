// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCheckSecretPlaceholder(t *testing.T) {
	for _, good := range []string{"{env.X}", "{env.NEUTRON_SECRET}", "{file./run/secrets/neutron}", "{file.secret with blank}", `{file.C:\secrets\neutron}`} {
		if err := CheckSecretPlaceholder(good); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range []string{
		"", planted, "{}", "{env.}", "{file.}", "{env}", "env.X", "{env.X", "env.X}", " {env.X}", "{env.X} ", "{env.X}\n",
		planted + "{env.X}", "{env.X}" + planted, "{env.X}{env.Y}", "{env.{env.X}}", "{$X}", "{http.vars.x}", "{vault." + planted + "}",
		"{env.file.x}", `{env.X\}`, `\{env.X}`, "{ENV.X}", "{{env.X}}", "{env.X\x00}", "{system.hostname}",
	} {
		err := CheckSecretPlaceholder(bad)
		if err == nil {
			t.Errorf("%q is taken", bad)
			continue
		}
		noSecret(t, err)
	}
}

func TestResolveSecret(t *testing.T) {
	dir := t.TempDir()
	file := func(content string) string {
		path := filepath.Join(dir, "s"+strings.Repeat("x", len(content)%200))
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return "{file." + path + "}"
	}
	env := func(value string) string {
		t.Setenv("METAGUARD_TEST_RESOLVE", value)
		return "{env.METAGUARD_TEST_RESOLVE}"
	}
	for name, test := range map[string]struct {
		placeholder func() string
		want        string // empty: an error
	}{
		"env":                 {func() string { return env(planted) }, planted},
		"env, line end":       {func() string { return env(planted + "\n") }, planted},
		"env, DOS line end":   {func() string { return env(planted + "\r\n") }, planted},
		"env, one line end":   {func() string { return env(planted + "\n\n") }, planted + "\n"},
		"env, blank kept":     {func() string { return env(" " + planted + " ") }, " " + planted + " "},
		"env, not expanded":   {func() string { return env("{env.HOME}" + planted) }, "{env.HOME}" + planted},
		"env, empty":          {func() string { return env("") }, ""},
		"env, only line end":  {func() string { return env("\n") }, ""},
		"env, unset":          {func() string { return "{env.METAGUARD_TEST_UNSET}" }, ""},
		"env, too long":       {func() string { return env(strings.Repeat(planted, 1<<12)) }, ""},
		"file":                {func() string { return file(planted) }, planted},
		"file, line end":      {func() string { return file(planted + "\n") }, planted},
		"file, DOS line end":  {func() string { return file(planted + "\r\n") }, planted},
		"file, one line end":  {func() string { return file(planted + "\n\n") }, planted + "\n"},
		"file, empty":         {func() string { return file("") }, ""},
		"file, only line end": {func() string { return file("\n") }, ""},
		"file, missing":       {func() string { return "{file." + dir + "/missing}" }, ""},
		"file, directory":     {func() string { return "{file." + dir + "}" }, ""},
		"file, too long":      {func() string { return file(strings.Repeat(planted, 1<<16)) }, ""},
		"literal":             {func() string { return planted }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			secret, err := ResolveSecret(test.placeholder())
			if string(secret.Reveal()) != test.want || (err != nil) != (test.want == "") {
				t.Errorf("%d bytes, error %v", len(secret.Reveal()), err)
			}
			noSecret(t, err, secret)
		})
	}
}
