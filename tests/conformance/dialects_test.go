// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	// The binary is made of these; importing them tells Go's test cache.
	_ "github.com/metaguard/metaguard/module"
	_ "github.com/metaguard/metaguard/module/legacy"
	"github.com/metaguard/metaguard/tests/harness"
)

func TestMain(m *testing.M) {
	code := m.Run()
	harness.RemoveBinary()
	os.Exit(code)
}

const instance = "11111111-1111-4111-8111-111111111111"

// site is a Metaguard in front of a server of one dialect.
type site struct {
	*harness.Process
	url string
}

// globalOptions are what a dialect needs in the global options: Caddy drops
// headers with an underscore unless they are named.
var globalOptions = map[string]string{
	"cloudstack": "servers {\n\t\texpected_underscore_headers DomU_Request\n\t}",
}

// newSite runs one. A grant such as "credentials:read" is the instance's own.
func newSite(t *testing.T, dialect, upstream, settings string, grants ...string) *site {
	t.Helper()
	guard, server := harness.FreePort(t), ""
	if upstream == "" {
		legacy := harness.FreePort(t)
		upstream = fmt.Sprintf("127.0.0.1:%d", legacy)
		server = fmt.Sprintf("http://:%d {\n\tbind 127.0.0.1\n\tmetaguard_legacy\n}\n", legacy)
	}
	quoted := make([]string, len(grants))
	for i, grant := range grants {
		quoted[i] = fmt.Sprintf("%q", grant)
	}
	process := harness.Start(t, fmt.Sprintf("127.0.0.1:%d", guard), map[string]string{
		"inventory.json":   fmt.Sprintf(`[{"address": "127.0.0.1", "instance_id": %q, "project_id": "aaaaaaaaaaaa4aaa8aaaaaaaaaaaaaaa"}]`, instance),
		"policy/data.json": fmt.Sprintf(`{"metaguard": {"grants": {"instance_id": {%q: [%s]}}}}`, instance, strings.Join(quoted, ", ")),
		"Caddyfile": fmt.Sprintf(`{
	admin off
	persist_config off
	%s
}
http://:%d {
	bind 127.0.0.1
	metaguard {
		upstream %s
		dialect %s
		identify remote_ip inventory.json
		policy policy
		%s
	}
}
%s`, globalOptions[dialect], guard, upstream, dialectLines(t, dialect), settings, server),
	})
	return &site{Process: process, url: fmt.Sprintf("http://127.0.0.1:%d", guard)}
}

// dialectLines is what stands behind the setting dialect: for generic that of
// the Caddyfile that is shipped.
func dialectLines(t *testing.T, dialect string) string {
	t.Helper()
	if dialect != "generic" {
		return dialect
	}
	shipped, err := os.ReadFile(filepath.Join(harness.Root(t), "caddyfiles", "generic.Caddyfile"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(shipped), "\n\t\tdialect ")
	block, _, found := strings.Cut(rest, "\n\t\t}\n")
	if !found {
		t.Fatal("generic.Caddyfile describes no server")
	}
	return block + "\n\t\t}"
}

// played is what the command gave.
type played struct {
	code     int
	out, err string
}

func play(t *testing.T, arguments ...string) played {
	t.Helper()
	var out, errOut bytes.Buffer
	code := run(context.Background(), arguments, &out, &errOut)
	return played{code: code, out: out.String(), err: errOut.String()}
}

// row gives the table's line of a step.
func (p played) row(client, step string) string {
	for line := range strings.Lines(p.out) {
		fields := strings.SplitN(line, "  ", 2)
		if fields[0] == client && len(fields) == 2 && strings.HasPrefix(strings.TrimLeft(fields[1], " "), step+"  ") {
			return line
		}
	}
	return ""
}

// check fails the test unless every step was played and passed, but for those
// that the client itself would not do.
func (p played) check(t *testing.T) {
	t.Helper()
	if p.code != exitPassed {
		t.Errorf("exit code %d\n%s%s", p.code, p.out, p.err)
	}
	for line := range strings.Lines(p.out) {
		if strings.Contains(line, "needs --have") || strings.Contains(line, "nothing was saved") {
			t.Errorf("left out: %s", line)
		}
	}
}

// TestOpenStack plays the clients of OpenStack against the binary in front of
// a server that is as faulty as Nova.
func TestOpenStack(t *testing.T) {
	// ec2metadata asks for keys that Nova never had, and lives with 404 alone.
	s := newSite(t, "openstack", "", "session optional")
	arguments := []string{"--target", s.url, "--dialect", "openstack", "--have", "session"}

	careful := play(t, arguments...)
	careful.check(t)
	if row := careful.row("openstack/cloudbase-init", "post_password"); !strings.Contains(row, "needs --write") {
		t.Errorf("a password is set without --write: %s", row)
	}
	if row := careful.row("openstack/cloud-init", "EC2 tree"); !strings.Contains(row, "answered") || !strings.Contains(row, "ok") {
		t.Errorf("no crawl: %s", row)
	}

	writing := play(t, append(arguments, "--write")...)
	writing.check(t)
	if row := writing.row("openstack/cloudbase-init", "post_password"); !strings.Contains(row, "200") {
		t.Errorf("no password is set: %s", row)
	}

	// Set is set: cloudbase-init would find it out by asking, but may not read it here.
	again := play(t, append(arguments, "--write", "--client", "cloudbase-init")...)
	row := again.row("openstack/cloudbase-init", "post_password")
	if again.code != exitFailed || !strings.Contains(row, "409 password_already_set (decision ") {
		t.Errorf("a second password: exit code %d, %s", again.code, row)
	}
}

// TestDialects plays the clients of the other dialects, first against the
// scripted server alone, which shows that the transcripts and it agree, and
// then through the binary.
func TestDialects(t *testing.T) {
	modules := listModules(t)
	for _, tt := range []struct {
		dialect, settings string
		arguments         []string
		grants            []string
	}{
		{
			dialect: "ec2", settings: "session optional",
			arguments: []string{"--have", "session,v1,identity_document,credentials"},
			grants:    []string{"credentials:read", "metadata:read"},
		},
		{dialect: "cloudstack", arguments: []string{"--have", "password_server"}, grants: []string{"password:read"}},
		{dialect: "gce", arguments: []string{"--have", "credentials", "--var", "hang=1"}, grants: []string{"credentials:read"}},
		{dialect: "generic"},
		{dialect: "azure", arguments: []string{"--have", "credentials"}, grants: []string{"credentials:read"}},
	} {
		t.Run(tt.dialect, func(t *testing.T) {
			server := newScripted(t, tt.dialect)
			arguments := append([]string{"--dialect", tt.dialect, "--write"}, tt.arguments...)
			t.Run("server", func(t *testing.T) {
				play(t, append(arguments, "--target", server.url)...).check(t)
			})
			t.Run("guarded", func(t *testing.T) {
				if !strings.Contains(modules, "metaguard.dialects."+tt.dialect+"\n") {
					if os.Getenv("METAGUARD_DIALECTS") == "required" {
						t.Fatalf("the binary has no dialect %s", tt.dialect)
					}
					t.Skipf("the binary has no dialect %s", tt.dialect)
				}
				s := newSite(t, tt.dialect, server.address, tt.settings, tt.grants...)
				play(t, append(arguments, "--target", s.url)...).check(t)
			})
		})
	}
}

func listModules(t *testing.T) string {
	t.Helper()
	output, err := exec.Command(harness.Binary(t), "list-modules").Output()
	if err != nil {
		t.Fatal(err)
	}
	return string(output)
}
