// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// EC2MockVariable says what happens where Amazon's mock cannot be built:
// `required` fails the tests, `off` does not even try.
const EC2MockVariable = "METAGUARD_EC2_MOCK"

// mockDirectory holds the built mock, if it was built.
var mockDirectory string

// buildMock builds Amazon's mock of EC2's metadata service from a module of its
// own, so that what it depends on stays out of ours.
var buildMock = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "metaguard-ec2mock-")
	if err != nil {
		return "", err
	}
	mockDirectory = dir
	root, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "ec2-metadata-mock")
	command := exec.Command("go", "build", "-o", path, "github.com/aws/amazon-ec2-metadata-mock/cmd/ec2-metadata-mock")
	command.Dir = filepath.Join(string(bytes.TrimSpace(root)), "tests", "ec2mock")
	if output, err := command.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building Amazon's mock: %w\n%s", err, output)
	}
	return path, nil
})

// EC2Mock starts Amazon's mock of EC2's metadata service and gives its address,
// or leaves the test out. It is asked one thing after the other: its own look-up
// table breaks if two use it at a time.
func EC2Mock(tb testing.TB, arguments ...string) string {
	tb.Helper()
	address := fmt.Sprintf("127.0.0.1:%d", FreePort(tb))
	EC2MockAt(tb, address, arguments...)
	return address
}

// EC2MockAt is EC2Mock at an address.
func EC2MockAt(tb testing.TB, address string, arguments ...string) {
	tb.Helper()
	setting := os.Getenv(EC2MockVariable)
	if setting == "off" || testing.Short() && setting != "required" {
		tb.Skipf("left out: Amazon's mock of EC2: %s=%s or -short", EC2MockVariable, setting)
	}
	path, err := buildMock()
	switch {
	case err != nil && setting == "required":
		tb.Fatal(err)
	case err != nil:
		tb.Skipf("left out: Amazon's mock of EC2 (%s=required makes this a failure): %v", EC2MockVariable, err)
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		tb.Fatal(err)
	}
	var output syncBuffer
	command := exec.CommandContext(tb.Context(), path, append([]string{"--hostname", host, "--port", port}, arguments...)...)
	home := tb.TempDir()
	command.Dir, command.Env = home, []string{"HOME=" + home}
	command.Stdout, command.Stderr = &output, &output
	if err := command.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		_ = command.Process.Kill()
		_ = command.Wait()
	})
	for deadline := time.Now().Add(patience); ; {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			_ = conn.Close()
			return
		}
		if time.Now().After(deadline) {
			tb.Fatalf("Amazon's mock does not listen: %v\n%s", err, output.String())
		}
		time.Sleep(20 * time.Millisecond)
	}
}
