// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// bench is all that runs.
type bench struct {
	options
	dir      string
	programs map[string]string // where nginx and opa are
	upstream string            // its address
	server   *process          // the upstream
	subjects []*subject
	missing  []string // titles of what this machine has not
	crowd    *crowd
	others   float64 // the share of the machine that other programs used
}

// prepare builds what is needed and starts the upstream.
func prepare(ctx context.Context, o *options) (_ *bench, err error) {
	b := &bench{options: *o, crowd: newCrowd(1, callerCount, callerCount), programs: map[string]string{"opa": o.opa}}
	if b.dir, err = os.MkdirTemp("", "metaguard-bench-"); err != nil {
		return nil, err
	}
	if err := b.build(ctx); err != nil {
		b.close()
		return nil, err
	}
	return b, nil
}

func (b *bench) build(ctx context.Context) (err error) {
	if b.metaguard == "" {
		b.metaguard = filepath.Join(b.dir, "metaguard")
		say("building metaguard")
		build := exec.CommandContext(ctx, "go", "build", "-o", b.metaguard, "github.com/metaguard/metaguard/cmd/metaguard")
		if output, err := build.CombinedOutput(); err != nil {
			return fmt.Errorf("building metaguard: %w\n%s", err, output)
		}
	}
	for _, path := range []*string{&b.metaguard, &b.before} {
		if *path == "" {
			continue
		}
		if *path, err = filepath.Abs(*path); err != nil { // each runs in a directory of its own
			return err
		}
	}
	b.upstream, b.server, err = b.startUpstream(ctx, bodySize)
	return err
}

func (b *bench) startUpstream(ctx context.Context, size int) (string, *process, error) {
	program, err := os.Executable()
	if err != nil {
		return "", nil, err
	}
	address, err := freeAddress(ctx)
	if err != nil {
		return "", nil, err
	}
	server, err := startProcess(ctx, b.dir, program, upstreamCommand, address, strconv.Itoa(size))
	if err != nil {
		return "", nil, err
	}
	return address, server, server.waitFor(ctx, address)
}

// startAll starts the chosen variants, and those that they are compared with.
func (b *bench) startAll(ctx context.Context) error {
	for _, v := range variants {
		if v.name != plain && v.name != plainLogged && !b.only.MatchString(v.name) {
			continue
		}
		missing, err := b.find(ctx, &v)
		if err != nil {
			return err
		}
		if missing != "" {
			say("there is no %s here, so no %q", missing, v.title)
			b.missing = append(b.missing, v.title)
			continue
		}
		if _, err := b.start(ctx, v, b.metaguard); err != nil {
			return err
		}
		if b.before != "" && v.guarded {
			v.name += "@before"
			v.title += " (before)"
			if _, err := b.start(ctx, v, b.before); err != nil {
				return err
			}
		}
	}
	return nil
}

// start starts a variant and waits until it is listened at.
func (b *bench) start(ctx context.Context, v variant, binary string) (s *subject, err error) {
	s = &subject{variant: v, binary: binary, right: expect(v.guarded), place: place{dir: filepath.Join(b.dir, v.name), upstream: b.upstream}}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return nil, err
	}
	if s.address, err = freeAddress(ctx); err != nil {
		return nil, err
	}
	s.admin = filepath.Join(s.dir, "admin.sock")
	if v.logs != "" {
		s.log = filepath.Join(s.dir, "counted.log")
	}
	b.subjects = append(b.subjects, s) // with what of it runs when something fails
	if slices.Contains(v.needs, "opa") {
		if err := b.startOPA(ctx, s); err != nil {
			return nil, err
		}
	}
	if slices.Contains(v.needs, "nginx") {
		return s, b.startNginx(ctx, s)
	}
	return s, s.startCaddy(ctx)
}

// drop ends a subject for good.
func (b *bench) drop(s *subject) {
	s.stop()
	b.subjects = slices.DeleteFunc(b.subjects, func(other *subject) bool { return other == s })
	_ = os.RemoveAll(s.dir)
}

func (b *bench) close() {
	for _, s := range b.subjects {
		s.stop()
	}
	if b.server != nil {
		b.server.stop()
	}
	_ = os.RemoveAll(b.dir)
}

// shippedLogging is the fragment that every shipped Caddyfile imports in its logs.
func shippedLogging(ctx context.Context) (string, error) {
	root, err := moduleRoot(ctx)
	if err != nil {
		return "", err
	}
	content, err := os.ReadFile(filepath.Join(root, "caddyfiles", "logging.caddy"))
	return string(content), err
}

func moduleRoot(ctx context.Context) (string, error) {
	root, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/metaguard/metaguard").Output()
	if err != nil {
		return "", fmt.Errorf("finding the module (run this in its directory): %w", err)
	}
	return strings.TrimSpace(string(root)), nil
}
