// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tests

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const droppedLines = "caddy_metaguard_log_lines_dropped_total"

// stalledLog is a named pipe that a log goes to, and that nobody reads until the
// test says so.
type stalledLog struct {
	path string
	pipe *os.File

	mu   sync.Mutex
	text bytes.Buffer
}

func newStalledLog(t *testing.T) *stalledLog {
	t.Helper()
	l := &stalledLog{path: filepath.Join(t.TempDir(), "log")}
	if err := syscall.Mkfifo(l.path, 0o600); err != nil {
		t.Fatal(err)
	}
	pipe, err := os.OpenFile(l.path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // waits for no writer
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = pipe.Close() })
	l.pipe = pipe
	return l
}

// read reads from now on, while there is somebody who writes.
func (l *stalledLog) read() { go func() { _, _ = io.Copy(l, l.pipe) }() }

func (l *stalledLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *stalledLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// bufferedSite is a site whose lines about requests go to a buffered log besides the
// plain one, s.Log(), so that the two can be compared, byte for byte.
func bufferedSite(t *testing.T, output, settings string) *managed {
	t.Helper()
	m := prepareManaged(t, byAddress, nil)
	m.edit(t, "Caddyfile", "level DEBUG", "level INFO")
	include := "\t\tformat json\n\t\tinclude " + strings.TrimSuffix(aboutRequests, ".") + "\n\t}"
	m.edit(t, "Caddyfile", "persist_config off", "persist_config off\n"+
		"\tlog plain {\n\t\toutput stderr\n"+include+"\n"+
		"\tlog buffered {\n\t\toutput metaguard_buffered {\n\t\t\toutput "+output+"\n"+settings+"\n\t\t}\n"+include)
	return m
}

// aboutRequests is how the names of loggers begin that write about requests.
const aboutRequests = "http.handlers.metaguard."

// written gives the lines about requests that the plain log has.
func (m *managed) written() []string {
	var lines []string
	for line := range strings.Lines(m.Log()) {
		if strings.Contains(line, `"logger":"`+aboutRequests) && strings.HasSuffix(line, "\n") {
			lines = append(lines, line)
		}
	}
	return lines
}

// reloadForced loads the configuration anew, whether it was edited or not.
func (m *managed) reloadForced(t *testing.T) {
	t.Helper()
	if output, err := m.reload(t, "--force"); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
}

// isPart fails unless each of these lines is one that was written, whole, and once.
func isPart(t *testing.T, lines, written []string) {
	t.Helper()
	times := make(map[string]int)
	for _, line := range written {
		times[line]++
	}
	for _, line := range lines {
		if times[line]--; times[line] < 0 {
			t.Errorf("is no line, or there twice: %q", line)
		}
	}
}

// isWhole fails unless a log file has all that was written, each line once.
func isWhole(t *testing.T, path string, written []string) {
	t.Helper()
	log, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := slices.Collect(strings.Lines(string(log)))
	isPart(t, lines, written)
	if len(lines) != len(written) {
		t.Errorf("%d lines of %d", len(lines), len(written))
	}
}

// A log that nobody reads keeps no request waiting. Lines that find no room are
// dropped, and each is counted; when the reader goes on lines come again, and none
// was cut.
func TestStalledLogDropsLines(t *testing.T) {
	t.Parallel()
	log := newStalledLog(t)
	m := bufferedSite(t, "file "+log.path+" {\nroll_disabled\n}", "size 256KiB")
	m.Run(m.address)
	served := 0
	serve := func() {
		t.Helper()
		if answer := m.get(t, userdataPath); answer.Status != 200 {
			t.Fatalf("%d %q %v, after %d requests", answer.Status, answer.Body, answer.Err, served)
		}
		served++
	}
	dropped := func() int { return int(m.admin.Metrics(t, droppedLines)[`{reason="buffer_full"}`]) }
	for dropped() == 0 {
		for range 20 {
			serve()
		}
	}
	before := dropped()
	for range 20 {
		serve()
	}
	if now := dropped(); now < before+20 {
		t.Errorf("%d lines were dropped, and %d of 20 requests later", before, now)
	}
	log.read()
	last := func() string { // of the plain log, which has all
		lines := m.written()
		return lines[len(lines)-1]
	}
	m.Eventually("a request's line is in the log again", func() bool {
		serve()
		m.decisions(t, served)
		return strings.HasSuffix(log.String(), last())
	})
	if text := log.String(); !strings.Contains(text, m.written()[0]) {
		t.Error("what waited is lost")
	}
	m.decisions(t, served)
	m.Eventually("all that was not dropped is there", func() bool {
		return strings.Count(log.String(), "\n")+dropped() == len(m.written())
	})
	isPart(t, slices.Collect(strings.Lines(log.String())), m.written())
	if failed := m.admin.Metrics(t, droppedLines)[`{reason="write_failed"}`]; failed != 0 {
		t.Errorf("%v lines are counted as not written", failed)
	}
}

// With `full refuse`, a request whose lines would find no room is refused before the
// legacy server hears of it; what was forwarded is in the log. A reload with the same
// settings changes nothing of that, and loses no line.
func TestStalledLogRefusesRequests(t *testing.T) {
	t.Parallel()
	log := newStalledLog(t)
	m := bufferedSite(t, "file "+log.path+" {\nroll_disabled\n}", "size 256KiB\nfull refuse")
	m.Run(m.address)
	served, refused := 0, 0
	refuses := func() bool {
		t.Helper()
		switch answer := m.ask(t, userdataPath); {
		case answer.Status == 200:
			served++
			return false
		case answer.Status != 503 || reason(answer) != "log_full" || answer.Header.Get("Retry-After") == "":
			t.Fatalf("%d %v %q", answer.Status, answer.Header, answer.Body)
		}
		refused++
		return true
	}
	m.Eventually("a request is refused", refuses)
	for reloads := range 3 {
		for range 10 {
			if !refuses() {
				t.Errorf("a request was served while the log was full, after %d reloads", reloads)
			}
		}
		m.reloadForced(t)
	}
	if asked := len(m.upstream.Requests()); asked != served {
		t.Errorf("the server was asked %d times, and %d requests were served", asked, served)
	}
	log.read()
	m.Eventually("requests are served again", func() bool { return !refuses() })
	var forwarded []string
	for _, line := range m.decisions(t, served+refused) {
		if line["outcome"] == "forwarded" {
			forwarded = append(forwarded, `"decision_id":"`+line["decision_id"].(string)+`"`)
		}
	}
	if len(forwarded) != served {
		t.Errorf("%d requests were forwarded, and %d answered", len(forwarded), served)
	}
	m.Eventually("the lines of all that was forwarded are in the log", func() bool {
		text := log.String()
		return !slices.ContainsFunc(forwarded, func(id string) bool { return strings.Count(text, id) != 2 })
	})
	isPart(t, slices.Collect(strings.Lines(log.String())), m.written())
}

// A reload away from a log that takes no more ends what that log does to requests.
func TestReloadLeavesAStalledLog(t *testing.T) {
	t.Parallel()
	log := newStalledLog(t)
	output := "file " + log.path + " {\nroll_disabled\n}"
	m := bufferedSite(t, output, "size 256KiB\nfull refuse")
	m.Run(m.address)
	m.settles(t, userdataPath, 503)
	m.edit(t, "Caddyfile", output, "file "+filepath.Join(m.Dir, "requests.log"))
	m.reloads(t)
	m.settles(t, userdataPath, 200)
	if lost := m.admin.Metrics(t, droppedLines)[`{reason="write_failed"}`]; lost == 0 {
		t.Error("lines are lost, and not counted")
	}
}

// When the process has ended, however much waited and whoever was asking, the line of
// each request is in the file, once.
func TestStopWritesWhatWaits(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "requests.log")
	m := bufferedSite(t, "file "+path, "interval 10s")
	m.Run(m.address)
	answered := askMeanwhile(m, func() {
		m.decisions(t, 100)
		m.Signal(syscall.SIGTERM)
		m.Eventually("the process ends", m.Ended)
	})
	lines := m.written()
	isWhole(t, path, lines)
	if decisions := len(m.decisions(t, answered)); len(lines) != 2*decisions {
		t.Errorf("%d lines of %d requests", len(lines), decisions)
	}
}

// Reloads lose no line and write none twice, whether they go on with the buffer or
// end it and begin another one.
func TestReloadsKeepBufferedLines(t *testing.T) {
	t.Parallel()
	for name, edit := range map[string][2]string{
		"the same settings": {"level INFO", "level INFO"},
		"another size":      {"size 1MiB", "size 2MiB"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "requests.log")
			m := bufferedSite(t, "file "+path, "interval 10s\nsize 1MiB")
			m.Run(m.address)
			askMeanwhile(m, func() {
				for i := range 6 {
					m.decisions(t, 20*(i+1))
					m.edit(t, "Caddyfile", edit[i%2], edit[1-i%2])
					m.reloadForced(t)
				}
			})
			if dropped := m.admin.Total(t, droppedLines); dropped != 0 {
				t.Errorf("%v lines were dropped", dropped)
			}
			m.Signal(syscall.SIGTERM)
			m.Eventually("the process ends", m.Ended)
			isWhole(t, path, m.written())
		})
	}
}

// A standard error that nobody reads keeps no request waiting, and does not keep the
// process from ending.
func TestStalledStandardError(t *testing.T) {
	t.Parallel()
	m := prepareManaged(t, byAddress, nil)
	m.edit(t, "Caddyfile", "level DEBUG", "level DEBUG\n\t\toutput metaguard_buffered {\n\t\t\tsize 256KiB\n\t\t}")
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	m.WriteTo(writer)
	m.Run(m.address)
	_ = writer.Close() // ours
	for m.admin.Total(t, droppedLines) == 0 {
		for range 20 {
			if answer := m.get(t, userdataPath); answer.Status != 200 {
				t.Fatalf("%d %q %v", answer.Status, answer.Body, answer.Err)
			}
		}
	}
	m.Signal(syscall.SIGTERM)
	m.Eventually("the process ends", m.Ended)
}

// askMeanwhile has two clients ask while something happens, and tells how many of
// their requests were answered.
func askMeanwhile(m *managed, happens func()) (answered int) {
	var all sync.WaitGroup
	counts, over := make(chan int, 2), make(chan struct{})
	for range cap(counts) {
		all.Go(func() {
			count := 0
			defer func() { counts <- count }()
			pace := time.NewTicker(10 * time.Millisecond) // a log of moderate length
			defer pace.Stop()
			for {
				select {
				case <-over:
					return
				case <-pace.C:
				}
				conn, err := net.Dial("tcp", m.address)
				if err != nil {
					continue // the process was told to end
				}
				fmt.Fprint(conn, "GET "+userdataPath+" HTTP/1.1\r\nHost: m\r\nConnection: close\r\n\r\n")
				if answer, err := io.ReadAll(conn); err == nil && bytes.HasPrefix(answer, []byte("HTTP/1.1 200 ")) {
					count++
				}
				_ = conn.Close()
			}
		})
	}
	happens()
	close(over)
	all.Wait()
	for range cap(counts) {
		answered += <-counts
	}
	return answered
}
