// SPDX-License-Identifier: Apache-2.0

package clients_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/metaguard/metaguard/tests/harness"
)

// ec2Network is a network of its own in which 169.254.169.254 is this machine.
// ec2metadata gets its token there, whatever --url says.
func ec2Network(t *testing.T, name string) string {
	t.Helper()
	namespace := fmt.Sprintf("mgec2%d%s", os.Getpid(), name)
	t.Cleanup(func() { _ = exec.Command("ip", "netns", "delete", namespace).Run() }) // not there if a step failed
	script := strings.ReplaceAll("ip netns add N && ip -n N link set lo up && ip -n N addr add 169.254.169.254/32 dev lo", "N ", namespace+" ")
	if output, err := exec.Command("sh", "-c", script).CombinedOutput(); err != nil {
		if os.Getenv(harness.NamespacesVariable) == "required" {
			t.Fatalf("no network namespaces: %v\n%s", err, output)
		}
		t.Skipf("left out: needs root and `ip netns` (%s=required makes this a failure): %v\n%s", harness.NamespacesVariable, err, output)
	}
	return namespace
}

// ec2Shipped is the shipped Caddyfile, which answers at port 80 of a network.
func ec2Shipped(t *testing.T, service, caller string) *harness.Process {
	t.Helper()
	files := make(map[string]string)
	for _, name := range []string{"loggers.caddy", "logging.caddy", "ec2.Caddyfile", "ec2/inventory.json"} {
		content, err := os.ReadFile(filepath.Join("..", "..", "caddyfiles", name))
		if err != nil {
			t.Fatal(err)
		}
		files[name] = string(content)
	}
	files["Caddyfile"] = strings.ReplaceAll(files["ec2.Caddyfile"], "unix//run/metaguard/admin.sock|0600", harness.NewAdmin(t).Listen)
	files["ec2/inventory.json"] = strings.ReplaceAll(files["ec2/inventory.json"], "192.0.2.5", caller)
	return harness.Start(t, "169.254.169.254:80", files, "METAGUARD_UPSTREAM="+service)
}

// ec2metadata of Debian's cloud-guest-utils, unmodified, where it always asks,
// through the shipped Caddyfile, which wants a session.
func TestEC2Metadata(t *testing.T) {
	need(t)
	harness.Binary(t) // which cannot be built there
	harness.Inside(t, ec2Network(t, "a"), func() {
		service := harness.NewEC2(t, harness.EC2Values(), false)
		ec2Shipped(t, service.Address, "169.254.169.254")
		output := run(t, "ec2metadata") // everything, in the version of 2009
		for _, line := range []string{
			"ami-id: ami-0abcdef1234567890", "instance-id: i-1234567890abcdef0", "availability-zone: us-west-2a", "region: us-west-2",
			"block-device-mapping: ami\nroot", "local-ipv4: 10.251.50.12", "mac: 02:29:96:8f:6a:2d", "profile: default-hvm",
			"public-keys: ['ssh-rsa AAAA my-public-key']", "security-groups: default\nweb servers", "kernel-id: unavailable", "user-data: b'#cloud-config\\n{}\\n'",
		} {
			if !strings.Contains("\n"+output, "\n"+line+"\n") {
				t.Errorf("no %q in\n%s", line, output)
			}
		}
		if output := run(t, "ec2metadata", "--instance-id", "--user-data"); output != "i-1234567890abcdef0\n#cloud-config\n{}\n" {
			t.Errorf("%q", output)
		}
		if output := run(t, "ec2metadata", "--url", "http://169.254.169.254/latest", "--local-hostname"); output != "ip-10-251-50-12.ec2.internal\n" {
			t.Errorf("%q", output)
		}
		for _, request := range service.Requests() {
			if strings.Contains(strings.ToLower(request), "x-aws-ec2") || strings.Contains(request, "/api/token") {
				t.Errorf("the service saw %q", request)
			}
		}
	})
}

// The same before Amazon's mock, which has the version "latest" only, with and
// without Metaguard. The mock lists keys in a way that ec2metadata does not read.
func TestEC2MetadataMock(t *testing.T) {
	need(t)
	harness.Binary(t)
	harness.NeedEC2Mock(t)
	options := strings.Fields("--url http://169.254.169.254/latest --ami-id --ami-launch-index --ami-manifest-path --ancestor-ami-ids --availability-zone " +
		"--availability-zone-id --block-device-mapping --group-name --host-id --instance-action --instance-id --instance-type --kernel-id --local-hostname " +
		"--local-ipv4 --mac --partition-number --product-codes --profile --public-hostname --public-ipv4 --ramdisk-id --region --reservation-id --security-groups --user-data")
	var direct, guarded string
	harness.Inside(t, ec2Network(t, "b"), func() {
		harness.EC2MockAt(t, "169.254.169.254:80")
		direct = run(t, "ec2metadata", options...)
	})
	harness.Inside(t, ec2Network(t, "c"), func() {
		ec2Shipped(t, harness.EC2Mock(t), "169.254.169.254")
		guarded = run(t, "ec2metadata", options...)
	})
	if direct != guarded || !strings.Contains(direct, "i-1234567890abcdef0") || !strings.Contains(direct, "unavailable") {
		t.Errorf("%s\ndirectly\n%s", guarded, direct)
	}
}
