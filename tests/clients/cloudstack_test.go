// SPDX-License-Identifier: Apache-2.0

package clients_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/metaguard/metaguard/tests/harness"
)

const (
	cloudStackInstance = "5f1c0000-0000-4000-8000-000000000005"
	cloudStackPassword = "aB3dEf"
)

// cloudStackAddresses counts the addresses that tests here have tried, so that no
// two take one.
var cloudStackAddresses atomic.Int64

// cloudStackRouter is a loopback address whose port 8080 is free: cloud-init asks
// no other port for passwords.
func cloudStackRouter(t *testing.T) string {
	t.Helper()
	for range 200 {
		address := fmt.Sprintf("127.77.%d.%d", os.Getpid()%250+1, cloudStackAddresses.Add(1)%250+1)
		listener, err := net.Listen("tcp", address+":8080")
		if err == nil {
			_ = listener.Close()
			return address
		}
	}
	t.Fatal("port 8080 is taken on every loopback address")
	return ""
}

// cloudStackBehind is a Metaguard in front of both servers of a router, with the
// shipped policy, or with the built-in one alone.
func cloudStackBehind(t *testing.T, router *harness.CloudStack, shipped bool) (address, metadata string, guard *harness.Process) {
	t.Helper()
	address = cloudStackRouter(t)
	port := harness.FreePort(t)
	files := map[string]string{
		"inventory.json":   `[{"address": "127.0.0.1", "instance_id": "` + cloudStackInstance + `", "project_id": "p"}]`,
		"policy/data.json": "{}",
	}
	if shipped {
		for _, name := range []string{"policy/team.rego", "policy/data.json"} {
			content, err := os.ReadFile(filepath.Join(harness.Root(t), "caddyfiles", "cloudstack", name))
			if err != nil {
				t.Fatal(err)
			}
			files[name] = string(content)
		}
	}
	site := func(port int, upstream string) string {
		return fmt.Sprintf("http://:%d {\n\tbind %s\n\tmetaguard {\n\t\tupstream %s\n\t\tdialect cloudstack\n\t\tidentify remote_ip inventory.json\n\t\tpolicy policy\n\t}\n}\n",
			port, address, upstream)
	}
	files["Caddyfile"] = "{\n\tadmin off\n\tpersist_config off\n\tservers {\n\t\texpected_underscore_headers DomU_Request\n\t}\n}\n" +
		site(8080, router.Passwords.Address) + site(port, router.Metadata.Address)
	metadata = fmt.Sprintf("http://%s:%d/", address, port)
	return address, metadata, harness.Start(t, address+":8080", files)
}

func newCloudStackRouter(t *testing.T) *harness.CloudStack {
	t.Helper()
	router := harness.NewCloudStack(t)
	router.SetMetadata("127.0.0.1", "#cloud-config\nhostname: vm\n", map[string]string{
		"service-offering": "Small Instance", "availability-zone": "zone-1", "local-ipv4": "127.0.0.1", "local-hostname": "vm-1",
		"public-ipv4": "192.0.2.80", "public-hostname": "192.0.2.80", "instance-id": cloudStackInstance, "vm-id": cloudStackInstance,
		"public-keys": "ssh-ed25519 AAAAC3 one\nssh-ed25519 AAAAC3 two\n", "cloud-identifier": "CloudStack-{1f2e}",
		"hypervisor-host-name": "kvm-1", "role": "database",
	})
	return router
}

// A whole boot of cloud-init finds the same with Metaguard in front as without,
// and leaves the router without the password; under the built-in policy it finds
// all but the password.
func TestCloudStackCloudInit(t *testing.T) {
	need(t)
	t.Parallel()
	router := newCloudStackRouter(t)
	direct := cloudStackRouter(t)
	passwords := harness.NewUpstreamAt(t, direct+":8080", router.ServePassword)
	crawl := func(address, metadata string) string {
		t.Helper()
		router.SetPassword("127.0.0.1", cloudStackPassword)
		return run(t, "cloudstack.py", address, metadata)
	}
	want := crawl(direct, "http://"+router.Metadata.Address+"/")
	var found struct {
		Found    bool
		Metadata map[string]any
		Userdata string
		Config   struct{ Password string }
	}
	if err := json.Unmarshal([]byte(want), &found); err != nil || !found.Found || len(found.Metadata) != 12 ||
		found.Config.Password != cloudStackPassword || len(passwords.Requests()) != 2 || router.Password("127.0.0.1") != "" {
		t.Fatalf("without Metaguard: %v\n%s", err, want)
	}
	address, metadata, guard := cloudStackBehind(t, router, true)
	for range 2 { // a machine whose password was reset boots again
		router.Passwords.Forget()
		if got := crawl(address, metadata); got != want {
			t.Errorf("through Metaguard:\n%s\nwithout:\n%s\n%s", got, want, guard.Log())
		}
		if seen := router.Passwords.Requests(); len(seen) != 2 || router.Password("127.0.0.1") != "" {
			t.Errorf("the router saw %q", seen)
		}
	}
	address, metadata, _ = cloudStackBehind(t, router, false)
	router.Passwords.Forget()
	var hidden struct {
		Found    bool
		Metadata map[string]any
		Userdata string
		Config   map[string]any
	}
	got := crawl(address, metadata)
	if err := json.Unmarshal([]byte(got), &hidden); err != nil || !hidden.Found || len(hidden.Config) != 0 ||
		hidden.Userdata != found.Userdata || fmt.Sprint(hidden.Metadata) != fmt.Sprint(found.Metadata) || len(router.Passwords.Requests()) != 0 {
		t.Errorf("under the built-in policy: %v\n%s", err, got)
	}
}

// wget as CloudStack's own guest script calls it (setup/bindir/cloud-set-guest-password.in).
func TestCloudStackWget(t *testing.T) {
	need(t)
	t.Parallel()
	router := newCloudStackRouter(t)
	address, _, guard := cloudStackBehind(t, router, true)
	wget := func(word string) (string, int) {
		command := exec.CommandContext(t.Context(), "./clients.sh", "run", "wget", "-q", "-t", "3", "-T", "20", "-O", "-", "--header", "DomU_Request: "+word, address+":8080")
		output, err := command.Output()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		return string(output), command.ProcessState.ExitCode()
	}
	const serverError = 8 // wget(1): the server issued an error response
	for _, step := range []struct {
		word, want string
		exit       int
	}{
		{"saved_password", "", serverError}, // nobody has read
		{"send_my_password", cloudStackPassword, 0},
		{"saved_password", "saved_password", 0},
		{"saved_password", "saved_password", 0},
		{"send_my_password", "saved_password", 0},
		{"anything", "", serverError},
	} {
		if step.exit == serverError {
			router.SetPassword("127.0.0.1", cloudStackPassword)
		}
		if output, exit := wget(step.word); output != step.want || exit != step.exit {
			t.Errorf("%s: %q, exit %d, want %q, %d\n%s", step.word, output, exit, step.want, step.exit, guard.Log())
		}
	}
	if seen := router.Passwords.Requests(); len(seen) != 3 || !strings.Contains(seen[0], "User-Agent: Wget/") {
		t.Errorf("the router saw %q", seen)
	}
}
