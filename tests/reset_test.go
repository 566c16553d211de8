// SPDX-License-Identifier: Apache-2.0

package tests

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/metaguard/metaguard/tests/harness"
)

// adminSite is a site with an admin API of its own.
func adminSite(t *testing.T, listen string, files map[string]string) *site {
	t.Helper()
	s := prepareSite(t, byAddress, files)
	s.edit(t, "Caddyfile", "admin off", "admin "+listen)
	s.Run(s.address)
	return s
}

// A reset forgets state and fingerprints: the next write is forwarded, and what
// the server held before counts as written elsewhere.
func TestPasswordReset(t *testing.T) {
	t.Parallel()
	admin := harness.NewAdmin(t)
	s := adminSite(t, admin.Listen, map[string]string{"policy/data.json": grant(instance1, "password:read")})
	caddyfile := filepath.Join(s.Dir, "Caddyfile")
	for round, flags := range [][]string{{"--address", admin.Address}, {"--config", caddyfile}} {
		password := fmt.Sprint("password of round ", round)
		if answer := s.post(t, "", password); answer.Status != 200 {
			t.Fatalf("%d %q", answer.Status, answer.Body)
		}
		if answer := s.post(t, "", "another"); answer.Status != 409 {
			t.Fatalf("%d %q", answer.Status, answer.Body)
		}
		s.upstream.Script(func(string) string { return harness.OK(password) })
		if answer := s.get(t, "/openstack/latest/password"); answer.Status != 200 || answer.Body != password {
			t.Errorf("%d %q", answer.Status, answer.Body)
		}
		output, err := s.Command(append([]string{"password", "reset", instance1}, flags...)...)
		if err != nil || !strings.Contains(output, "forgot the password of instance "+instance1+" in 1 of 1 site") {
			t.Fatalf("%v: %v %s", flags, err, output)
		}
		if answer := s.get(t, "/openstack/latest/password"); answer.Status != 502 || reason(answer) != "password_unverified" {
			t.Errorf("after the reset: %d %q", answer.Status, answer.Body)
		}
	}
	if answer := s.post(t, "127.0.0.2", "another instance's"); answer.Status != 200 {
		t.Errorf("%d %q", answer.Status, answer.Body)
	}
	if output, err := s.Command("password", "reset", instance1, "--address", admin.Address); err != nil || !strings.Contains(output, "nothing was known") {
		t.Errorf("a second time: %v %s", err, output)
	}
	if answer := s.post(t, "127.0.0.2", "a reset of another"); answer.Status != 409 {
		t.Errorf("%d %q", answer.Status, answer.Body)
	}
	if !strings.Contains(s.Log(), `"msg":"password reset"`) {
		t.Error("the log does not say who was reset")
	}
}

// What does not work says what is wrong.
func TestPasswordResetRefuses(t *testing.T) {
	t.Parallel()
	admin := harness.NewAdmin(t)
	s := adminSite(t, admin.Listen, nil)
	for name, test := range map[string]struct {
		args []string
		want string
	}{
		"no instance":    {[]string{"password", "reset", "--address", admin.Address}, "accepts 1 arg"},
		"two":            {[]string{"password", "reset", "a", "b", "--address", admin.Address}, "accepts 1 arg"},
		"empty":          {[]string{"password", "reset", "", "--address", admin.Address}, "instance_id: no instance id"},
		"nobody there":   {[]string{"password", "reset", instance1, "--address", "unix//nowhere/admin.sock"}, "no such file"},
		"TCP":            {[]string{"password", "reset", instance1, "--address", "127.0.0.1:2019"}, "no Unix socket"},
		"TCP by default": {[]string{"password", "reset", instance1}, "no Unix socket"},
		"no such config": {[]string{"password", "reset", instance1, "--config", "nowhere"}, "nowhere"},
		"unknown verb":   {[]string{"password", "show", instance1}, "unknown command"},
	} {
		if output, err := s.Command(test.args...); err == nil || !strings.Contains(output, test.want) {
			t.Errorf("%s: %v %s", name, err, output)
		}
	}
	socket := strings.TrimPrefix(admin.Address, "unix/")
	for name, test := range map[string]struct {
		method, body string
		status       int
	}{
		"GET":            {http.MethodGet, "", 405},
		"no body":        {http.MethodPost, "", 400},
		"no JSON":        {http.MethodPost, instance1, 400},
		"unknown member": {http.MethodPost, `{"instance": "x"}`, 400},
		"two objects":    {http.MethodPost, `{"instance_id": "x"} {}`, 400},
		"too long an id": {http.MethodPost, `{"instance_id": "` + strings.Repeat("x", 300) + `"}`, 400},
		"too long":       {http.MethodPost, `{"instance_id": "` + strings.Repeat("x", 5000) + `"}`, 400},
		"fine":           {http.MethodPost, `{"instance_id": "x"}`, 200},
	} {
		if status, body := askAdmin(t, "unix", socket, test.method, test.body); status != test.status {
			t.Errorf("%s: %d %s", name, status, body)
		}
	}
}

// The endpoint changes nothing for whoever merely reaches the admin API: not on
// TCP, and not on a socket that others may use.
func TestPasswordResetNeedsAnOwnersSocket(t *testing.T) {
	t.Parallel()
	port := harness.FreePort(t)
	dir, err := os.MkdirTemp("", "mg-") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket := filepath.Join(dir, "admin.sock")
	for listen, dial := range map[string][2]string{
		fmt.Sprintf("127.0.0.1:%d", port): {"tcp", fmt.Sprintf("127.0.0.1:%d", port)},
		"unix/" + socket + "|0660":        {"unix", socket},
		"unix/" + socket + "|0666":        {"unix", socket},
		"unix/@" + filepath.Base(dir):     {"unix", "@" + filepath.Base(dir)},
	} {
		s := adminSite(t, listen, nil)
		if name := dial[1]; name[0] == '@' {
			s.plant(t, name) // for who takes any file for the socket
		}
		if answer := s.post(t, "", "password"); answer.Status != 200 {
			t.Fatalf("%d %q", answer.Status, answer.Body)
		}
		status, body := askAdmin(t, dial[0], dial[1], http.MethodPost, `{"instance_id": "`+instance1+`"}`)
		if status != 403 || !strings.Contains(body, "0600") {
			t.Errorf("%s: %d %s", listen, status, body)
		}
		if answer := s.post(t, "", "password"); answer.Status != 409 {
			t.Errorf("%s: it was reset: %d %q", listen, answer.Status, answer.Body)
		}
		s.Stop()
	}
}

// askAdmin sends a request to the reset endpoint.
func askAdmin(t *testing.T, network, address, method, body string) (int, string) {
	t.Helper()
	client := &http.Client{Transport: harness.DialTransport(network, address)}
	host := address
	if network == "unix" {
		host = "127.0.0.1"
	}
	request, err := http.NewRequest(method, "http://"+host+"/metaguard/password/reset", bytes.NewReader([]byte(body)))
	if err != nil {
		t.Fatal(err)
	}
	answer, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	if answer.StatusCode != 200 {
		var problem struct{ Error string }
		if err := json.Unmarshal(text, &problem); err != nil || problem.Error == "" {
			t.Errorf("%d without a reason: %s", answer.StatusCode, text)
		}
	}
	return answer.StatusCode, string(text)
}

// The key of the fingerprints never lies beside them.
func TestFingerprintKeyLiesApart(t *testing.T) {
	t.Parallel()
	s := prepareSite(t, byAddress, nil)
	for name, settings := range map[string]string{
		"stored":   "password {\n\tlatch file " + s.Data + "/caddy/metaguard\n}",
		"given":    "password {\n\tlatch file " + s.Dir + "/latch\n\tfingerprint_key {file." + s.Dir + "/latch/key}\n}",
		"far away": "password {\n\tlatch file " + s.Dir + "/latch\n}",
	} {
		s.Write("latch/key", strings.Repeat("k", 40))
		s.Write("Caddyfile", caddyfile(s.address, s.upstream.Address, byAddress+"\n"+settings))
		output, err := s.Command("validate", "--config", s.Dir+"/Caddyfile")
		if (err == nil) != (name == "far away") || (err != nil && !strings.Contains(output, "keep the two apart")) {
			t.Errorf("%s: %v %s", name, err, output)
		}
	}
}

// plant puts a file of mode 0600 into the process's working directory.
func (s *site) plant(t *testing.T, name string) {
	t.Helper()
	working, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", s.Pid()))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(working, name)
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Remove(path) })
}
