// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// process is one that was started for the measurement.
type process struct {
	command *exec.Cmd
	output  string // a file
	ended   chan struct{}
}

// startProcess starts a program in dir. All have the same Go runtime settings, whatever
// this program was started with. Its output is in a file there.
func startProcess(dir string, argv ...string) (*process, error) {
	p := &process{command: exec.Command(argv[0], argv[1:]...), output: filepath.Join(dir, "output.log"), ended: make(chan struct{})}
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
	// It must not outlive a bench that is killed.
	p.command.SysProcAttr = orphanless()
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
func (p *process) waitFor(address string) error {
	for deadline := time.Now().Add(6 * patience); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if conn, err := net.Dial("tcp", address); err == nil {
			return conn.Close()
		}
		select {
		case <-p.ended:
			return p.explain(errors.New("it ended"))
		default:
		}
	}
	return p.explain(fmt.Errorf("%s is not listened at", address))
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
func freeAddress() (string, error) {
	for range 100 {
		listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 10_000+time.Now().UnixNano()/1000%22_000))
		if err != nil {
			continue
		}
		return listener.Addr().String(), listener.Close()
	}
	return "", errors.New("no port is free on 127.0.0.1")
}
