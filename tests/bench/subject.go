// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// subject is a variant that runs, and what was measured of it.
type subject struct {
	variant
	place
	binary    string
	right     *expectation
	processes []*process // the proxy is the last one

	idle, busy     int64 // resident bytes
	cpu, rate      []float64
	p50, p99, p999 []float64 // microseconds
	late           []float64 // of the generator itself
	machine        []float64 // share of the machine that was used meanwhile
	last           int       // how many requests the last round had
}

// proxy is the process that is asked.
func (s *subject) proxy() *process { return s.processes[len(s.processes)-1] }

// write puts files into the subject's directory.
func (s *subject) write(files map[string]string) error {
	for name, content := range files {
		path := filepath.Join(s.dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(path+".new", []byte(content), 0o600); err != nil {
			return err
		}
		if err := os.Rename(path+".new", path); err != nil { // whole, for who watches it
			return err
		}
	}
	return nil
}

// stage writes files beside the subject's directory, to the disk, and gives what puts them
// into it: to make them would else be measured, too.
func (s *subject) stage(files map[string]string) (swap func() error, err error) {
	beside := subject{place: place{dir: s.dir + ".next"}}
	if err := beside.write(files); err != nil {
		return nil, err
	}
	for name := range files {
		file, err := os.OpenFile(filepath.Join(beside.dir, name), os.O_RDWR, 0)
		if err != nil {
			return nil, err
		}
		if err := errors.Join(file.Sync(), file.Close()); err != nil {
			return nil, err
		}
	}
	names := slices.Collect(maps.Keys(files))
	return func() error {
		for _, name := range names {
			if err := os.Rename(filepath.Join(beside.dir, name), filepath.Join(s.dir, name)); err != nil {
				return err
			}
		}
		return nil
	}, nil
}

// startCaddy starts Caddy, with Metaguard or without.
func (s *subject) startCaddy(ctx context.Context) error {
	files := map[string]string{"policy/data.json": "{}"}
	if s.files != nil {
		files = s.files()
	}
	files["Caddyfile"] = s.caddyfile(&s.place)
	var err error
	if files["logging.caddy"], err = shippedLogging(ctx); err != nil {
		return err
	}
	if err := s.write(files); err != nil {
		return err
	}
	server, err := startProcess(ctx, s.dir, s.binary, "run", "--config", "Caddyfile")
	if err != nil {
		return err
	}
	s.processes = append(s.processes, server)
	return server.waitFor(ctx, s.address)
}

// total adds up what a reading of each process says.
func total[T int64 | time.Duration](s *subject, read func(pid int) (T, error)) (sum T, err error) {
	for _, p := range s.processes {
		value, err := read(p.pid())
		if err != nil {
			return 0, err
		}
		sum += value
	}
	return sum, nil
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

func (s *subject) stop() {
	for _, p := range slices.Backward(s.processes) {
		p.stop()
	}
}
