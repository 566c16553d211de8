// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// patience is how long anything may take before it counts as hanging.
const patience = 10 * time.Second

// process is one that was started for the measurement.
type process struct {
	command *exec.Cmd
	began   time.Time
	output  string // a file
	ended   chan struct{}
}

// startProcess starts a program in dir. All have the same Go runtime settings, whatever
// this program was started with. Its output is in a file there.
func startProcess(ctx context.Context, dir string, argv ...string) (*process, error) {
	p := &process{
		command: exec.CommandContext(ctx, argv[0], argv[1:]...),
		output:  filepath.Join(dir, filepath.Base(argv[0])+".out"), ended: make(chan struct{}),
	}
	output, err := os.OpenFile(p.output, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer output.Close()
	p.command.Dir, p.command.Stdout, p.command.Stderr = dir, output, output
	p.command.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "XDG_DATA_HOME=" + dir, "XDG_CONFIG_HOME=" + dir,
		"GOGC=100", "METAGUARD_NEUTRON_SECRET=" + neutronSecret,
	}
	p.command.SysProcAttr = orphanless() // it must not outlive a bench that is killed
	p.began = time.Now()
	if err := p.command.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", argv[0], err)
	}
	go func() {
		_ = p.command.Wait()
		close(p.ended)
	}()
	return p, nil
}

func (p *process) pid() int { return p.command.Process.Pid }

// waitFor waits until address accepts connections.
func (p *process) waitFor(ctx context.Context, address string) error {
	return p.until(ctx, address+" is not listened at", func() bool {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
		if err != nil {
			return false
		}
		return conn.Close() == nil
	})
}

// until asks again and again, until something is done.
func (p *process) until(ctx context.Context, otherwise string, done func() bool) error {
	for deadline := time.Now().Add(30 * patience); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if done() {
			return nil
		}
		select {
		case <-p.ended:
			return p.explain(errors.New("it ended"))
		case <-ctx.Done():
			return ctx.Err()
		default:
		}
	}
	return p.explain(errors.New(otherwise))
}

// explain adds the end of what the process said.
func (p *process) explain(err error) error {
	said, _ := os.ReadFile(p.output)
	const tail = 4000
	return fmt.Errorf("%s: %w\n%s", strings.Join(p.command.Args, " "), err, said[max(0, len(said)-tail):])
}

// stop ends the process and waits for it.
func (p *process) stop() {
	_ = p.command.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.ended:
	case <-time.After(patience):
		_ = p.command.Process.Kill()
		<-p.ended
	}
}

// freeAddress is one on loopback that nobody listens at, and none that the kernel
// would give to a connection (ip_local_port_range begins at 32768).
func freeAddress(ctx context.Context) (string, error) {
	for range 100 {
		listener, err := new(net.ListenConfig).Listen(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", 10_000+rand.IntN(22_000)))
		if err != nil {
			continue
		}
		return listener.Addr().String(), listener.Close()
	}
	return "", errors.New("no port is free on 127.0.0.1")
}
