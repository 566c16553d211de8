// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// subject is a variant that runs, and what was measured of it.
type subject struct {
	variant
	*process
	place
	idle int64 // bytes
	cpu  []float64
	rate []float64
	// last is how many requests the last round had.
	last int
}

// bench is all that runs.
type bench struct {
	options
	dir      string
	upstream *process
	subjects []*subject
	crowd    *crowd
}

// prepare builds and starts everything.
func prepare(ctx context.Context, o *options) (_ *bench, err error) {
	b := &bench{options: *o, crowd: newCrowd(1)}
	if b.dir, err = os.MkdirTemp("", "metaguard-bench-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			b.close()
		}
	}()
	if b.metaguard == "" {
		b.metaguard = filepath.Join(b.dir, "metaguard")
		say("building metaguard")
		build := exec.CommandContext(ctx, "go", "build", "-o", b.metaguard, "github.com/metaguard/metaguard/cmd/metaguard")
		if output, err := build.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("building metaguard: %w\n%s", err, output)
		}
	}
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	if b.upstream, err = startProcess(b.dir, program, upstreamCommand, address); err != nil {
		return nil, err
	}
	if err := b.upstream.waitFor(address); err != nil {
		return nil, err
	}
	for _, v := range variants {
		compared := v.name == plain || v.name == plainLogged
		if !compared && !b.only.MatchString(v.name) {
			continue
		}
		if err := b.start(v, b.metaguard, address); err != nil {
			return nil, err
		}
		if b.before != "" && v.guarded {
			v.name += "@before"
			v.title += " (before)"
			if err := b.start(v, b.before, address); err != nil {
				return nil, err
			}
		}
	}
	return b, nil
}

// start starts a variant and lets it see all that will be asked.
func (b *bench) start(v variant, binary, upstream string) (err error) {
	s := &subject{variant: v, place: place{dir: filepath.Join(b.dir, v.name), upstream: upstream}}
	if s.address, err = freeAddress(); err != nil {
		return err
	}
	s.admin = filepath.Join(s.dir, "admin.sock")
	if v.logs != "" {
		s.log = filepath.Join(s.dir, "counted.log")
	}
	files := map[string]string{"policy/data.json": "{}"}
	if v.files != nil {
		files = v.files()
	}
	files["Caddyfile"] = v.caddyfile(&s.place)
	if files["logging.caddy"], err = shippedLogging(); err != nil {
		return err
	}
	for name, content := range files {
		path := filepath.Join(s.dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			return err
		}
	}
	if s.process, err = startProcess(s.dir, binary, "run", "--config", "Caddyfile"); err != nil {
		return err
	}
	b.subjects = append(b.subjects, s)
	if err := s.waitFor(s.address); err != nil {
		return err
	}
	if s.idle, err = residentSize(s.pid()); err != nil {
		return err
	}
	return nil
}

// settling is how many requests a proxy gets before it is measured whose decisions are
// not remembered, so that what is made once is made.
const settling = 4000

// warm lets the runtime settle, and asks for everything once where it shall have been seen.
func (b *bench) warm(ctx context.Context, s *subject) error {
	say("warming %s", s.name)
	var from source = newStrangers(settling)
	if s.from == again && s.guarded {
		from = &everyone{crowd: b.crowd}
	}
	result, err := closedLoop(ctx, s.address, s.guarded, b.connections, 60*patience, from)
	if err != nil {
		return s.explain(err)
	}
	s.last = int(float64(result.requests) / result.elapsed.Seconds() * b.duration.Seconds())
	return s.counted(result.requests)
}

// measure runs the rounds.
func (b *bench) measure(ctx context.Context) error {
	for _, s := range b.subjects {
		if err := b.warm(ctx, s); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	for n := range b.rounds {
		say("round %d of %d", n+1, b.rounds)
		for _, s := range b.subjects {
			if err := b.round(ctx, s); err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
			if ctx.Err() != nil {
				return errors.New("interrupted")
			}
		}
	}
	return nil
}

// round measures one variant for a while.
func (b *bench) round(ctx context.Context, s *subject) error {
	var from source = b.crowd
	if s.from == always {
		from = newStrangers(s.last * 2)
	}
	before, err := cpuTime(s.pid())
	if err != nil {
		return err
	}
	result, err := closedLoop(ctx, s.address, s.guarded, b.connections, b.duration, from)
	if err != nil {
		return s.explain(err)
	}
	if result.requests == 0 {
		return errors.New("not one request was answered in this round")
	}
	if err := s.counted(result.requests); err != nil {
		return err
	}
	after, err := cpuTime(s.pid())
	if err != nil {
		return err
	}
	s.last = result.requests
	s.cpu = append(s.cpu, float64((after-before).Nanoseconds())/1e3/float64(result.requests))
	s.rate = append(s.rate, float64(result.requests)/result.elapsed.Seconds())
	return nil
}

// counted waits until the log has a line for each request, looks whether there is one
// too many, and empties it.
func (s *subject) counted(requests int) error {
	if s.log == "" {
		return nil
	}
	want := requests
	if s.events {
		want *= 2
	}
	got := 0
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		var err error
		if got, err = countLines(s.log); err != nil {
			return err
		}
		if got >= want {
			break
		}
	}
	if got != want {
		return fmt.Errorf("%d requests have %d lines in the log in the place of %d", requests, got, want)
	}
	return os.Truncate(s.log, 0)
}

func countLines(path string) (lines int, err error) {
	file, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer file.Close()
	buffer := make([]byte, 1<<20)
	for {
		n, err := file.Read(buffer)
		lines += bytes.Count(buffer[:n], []byte("\n"))
		if errors.Is(err, io.EOF) {
			return lines, nil
		}
		if err != nil {
			return 0, err
		}
	}
}

func (b *bench) close() {
	for _, s := range b.subjects {
		s.stop()
	}
	if b.upstream != nil {
		b.upstream.stop()
	}
	_ = os.RemoveAll(b.dir)
}

// shippedLogging is the fragment that every shipped Caddyfile imports in its logs.
func shippedLogging() (string, error) {
	root, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/metaguard/metaguard").Output()
	if err != nil {
		return "", fmt.Errorf("finding the module: %w", err)
	}
	content, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(root)), "caddyfiles", "logging.caddy"))
	return string(content), err
}

func say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, time.Now().Format("15:04:05 ")+format+"\n", args...)
}
