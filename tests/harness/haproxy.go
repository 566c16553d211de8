// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"bytes"
	"encoding/csv"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
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
	stats   string // the socket where it tells of itself
	ready   string
	command *exec.Cmd
	output  *syncBuffer
}

// StartHAProxy starts an haproxy and waits until it listens on an address, and on its
// own socket, which comes after that.
func StartHAProxy(tb testing.TB, config, ready string) *HAProxy {
	tb.Helper()
	dir := tb.TempDir()
	h := &HAProxy{tb: tb, config: filepath.Join(dir, "haproxy.cfg"), stats: filepath.Join(dir, "s"), ready: ready, output: new(syncBuffer)}
	config = "global\n\tstats socket " + h.stats + " mode 600\n" + config
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
		if listens("tcp", h.ready) && listens("unix", h.stats) {
			return
		}
	}
	h.tb.Fatalf("HAProxy does not listen on %s:\n%s", h.ready, h.output.String())
}

func listens(network, address string) bool {
	conn, err := net.Dial(network, address)
	if err == nil {
		_ = conn.Close()
	}
	return err == nil
}

// Checked gives what its checks found of a server: the state ("UP", "DOWN", …)
// and the last check's status ("L7OK", "L7STS" for a wrong answer, "L4CON" for none).
func (h *HAProxy) Checked(backend, server string) (state, check string) {
	h.tb.Helper()
	conn, err := net.Dial("unix", h.stats)
	if err != nil {
		h.tb.Fatalf("%v\n%s", err, h.output.String())
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "show stat\n"); err != nil {
		h.tb.Fatal(err)
	}
	rows, err := csv.NewReader(conn).ReadAll()
	if err != nil || len(rows) == 0 {
		h.tb.Fatalf("HAProxy's statistics: %v", err)
	}
	column := func(row []string, name string) string { return row[slices.Index(rows[0], name)] }
	for _, row := range rows[1:] {
		if row[0] == backend && column(row, "svname") == server {
			return column(row, "status"), column(row, "check_status")
		}
	}
	h.tb.Fatalf("HAProxy knows no server %s of %s", server, backend)
	return "", ""
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
