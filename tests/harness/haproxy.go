// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// HasHAProxy tells whether there is an haproxy. METAGUARD_HAPROXY is required,
// off, or empty for "if it is installed"; CI=true requires it, too.
func HasHAProxy(tb testing.TB) bool {
	tb.Helper()
	setting := os.Getenv("METAGUARD_HAPROXY")
	if setting == "off" {
		return false
	}
	_, err := exec.LookPath("haproxy")
	if err != nil && (setting == "required" || os.Getenv("CI") == "true") {
		tb.Fatal("no haproxy; Debian has it in haproxy")
	}
	return err == nil
}

// NeedHAProxy skips a test where there is none, and says what was left out.
func NeedHAProxy(tb testing.TB) {
	tb.Helper()
	if !HasHAProxy(tb) {
		tb.Skip("left out: tests against a real HAProxy: there is none, or METAGUARD_HAPROXY is off; Debian has it in haproxy")
	}
}

// HAProxy is a running haproxy of the test's own.
type HAProxy struct {
	tb      testing.TB
	config  string
	ready   string
	command *exec.Cmd
	output  *syncBuffer
}

// StartHAProxy starts an haproxy and waits until it listens on an address.
func StartHAProxy(tb testing.TB, config, ready string) *HAProxy {
	tb.Helper()
	h := &HAProxy{tb: tb, config: filepath.Join(tb.TempDir(), "haproxy.cfg"), ready: ready, output: new(syncBuffer)}
	if err := os.WriteFile(h.config, []byte(config), 0o600); err != nil {
		tb.Fatal(err)
	}
	if output, err := exec.Command("haproxy", "-c", "-f", h.config).CombinedOutput(); err != nil || bytes.Contains(output, []byte("WARNING")) {
		tb.Fatalf("the configuration of HAProxy: %v\n%s", err, output)
	}
	h.Run()
	tb.Cleanup(h.Kill)
	return h
}

// Run starts it, at first or anew.
func (h *HAProxy) Run() {
	h.tb.Helper()
	h.command = exec.Command("haproxy", "-db", "-f", h.config)
	h.command.Stdout, h.command.Stderr = h.output, h.output
	if err := h.command.Start(); err != nil {
		h.tb.Fatal(err)
	}
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if conn, err := net.Dial("tcp", h.ready); err == nil {
			_ = conn.Close()
			return
		}
	}
	h.tb.Fatalf("HAProxy does not listen on %s:\n%s", h.ready, h.output.String())
}

// Kill ends it at once, if it runs.
func (h *HAProxy) Kill() {
	if h.command == nil {
		return
	}
	_ = h.command.Process.Kill()
	_ = h.command.Wait()
	h.command = nil
}
