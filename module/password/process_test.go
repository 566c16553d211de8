// SPDX-License-Identifier: Apache-2.0

package password

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/metaguard/metaguard/module/decision"
)

// childEnv makes the test binary a writer on the directory that it names.
const childEnv = "METAGUARD_TEST_LATCH_CHILD"

// processInstances is how many instances the processes race for.
const processInstances = 40

// child races for all instances whenever its parent names a round, and says
// which it won: "won <round> <instance>" each, then "done <round>". Rounds lie
// one pending term apart, so that each begins in the moment that the records
// of the one before run out.
func child() int {
	clock := newClock()
	latch := new(FileLatch)
	latch.prepare(os.Getenv(childEnv))
	keeper, err := NewKeeper(Config{
		Latch: latch, WriteOnce: testOnce, WriteTimeout: testTimeout,
		FingerprintKeys: []decision.Secret{firstKey}, Now: clock.Now,
	})
	if err != nil {
		fmt.Println("error", err)
		return 1
	}
	var out sync.Mutex
	base := clock.Now()
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		var round int
		if _, err := fmt.Sscan(lines.Text(), &round); err != nil {
			fmt.Println("error", err)
			return 1
		}
		clock.mu.Lock()
		clock.now = base.Add(time.Duration(round) * testPending)
		clock.mu.Unlock()
		var all sync.WaitGroup
		for worker := range 4 {
			all.Go(func() {
				for i := worker; i < processInstances; i += 4 {
					_, refusal := keeper.Reserve(context.Background(), fmt.Sprint("instance ", i), []byte("x"))
					out.Lock()
					switch {
					case refusal == nil:
						fmt.Println("won", round, i)
					case refusal.Reason != decision.PasswordWritePending:
						fmt.Println("error", refusal)
					}
					out.Unlock()
				}
			})
		}
		all.Wait()
		fmt.Println("done", round)
	}
	return 0
}

// process is a running child.
type process struct {
	cmd   *exec.Cmd
	in    io.WriteCloser
	lines *bufio.Scanner
}

func startProcess(t *testing.T, root string) *process {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+root)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return &process{cmd: cmd, in: in, lines: bufio.NewScanner(out)}
}

// race sends a round to a child and collects what it won. After that many
// wins the child is killed; never, if negative.
func (p *process) race(t *testing.T, round, killAfter int, won func(instance int)) {
	if killAfter == 0 {
		_ = p.cmd.Process.Kill()
	}
	_, _ = fmt.Fprintln(p.in, round) // a killed child does not take it
	for p.lines.Scan() {
		line := p.lines.Text()
		var of, instance int
		switch {
		case line == fmt.Sprint("done ", round):
			return
		case strings.HasPrefix(line, "won "):
			if _, err := fmt.Sscanf(line, "won %d %d", &of, &instance); err != nil || of != round {
				t.Errorf("a child says %q in round %d", line, round)
				return
			}
			won(instance)
			if killAfter--; killAfter == 0 {
				_ = p.cmd.Process.Kill()
			}
		default:
			t.Errorf("a child says %q", line)
			return
		}
	}
}

func (p *process) end() {
	_ = p.in.Close()
	_ = p.cmd.Wait()
}

// TestRacingProcesses: three processes race for the same instances in the
// moment that the records of the round before run out. Exactly one wins each.
// In every second round one of them is killed in the middle: then nobody wins
// an instance twice, and the next round goes on over what it left.
func TestRacingProcesses(t *testing.T) {
	const processes, rounds = 3, 12
	root := t.TempDir()
	var running [processes]*process
	for i := range running {
		running[i] = startProcess(t, root)
	}
	defer func() {
		for _, p := range running {
			p.end()
		}
	}()
	for round := range rounds {
		victim := -1
		if round%2 == 1 {
			victim = round / 2 % processes
		}
		var mu sync.Mutex
		var wins [processInstances]int
		var all sync.WaitGroup
		for i, p := range running {
			killAfter := -1
			if i == victim {
				killAfter = round / 2 // from before the first win on
			}
			all.Go(func() {
				p.race(t, round, killAfter, func(instance int) {
					mu.Lock()
					defer mu.Unlock()
					wins[instance]++
				})
			})
		}
		all.Wait()
		lost := 0
		for instance, n := range wins {
			switch {
			case n > 1:
				t.Errorf("round %d: instance %d was won %d times", round, instance, n)
			case n == 0 && victim < 0:
				t.Errorf("round %d: nobody won instance %d", round, instance)
			case n == 0:
				lost++
			}
		}
		// The victim can have won what it had no time to tell: one per worker
		// and what lay in its output.
		if lost == processInstances {
			t.Errorf("round %d: nobody won anything", round)
		}
		if victim >= 0 {
			running[victim].end()
			running[victim] = startProcess(t, root)
		}
	}
}
