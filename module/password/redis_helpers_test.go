// SPDX-License-Identifier: Apache-2.0

package password

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/metaguard/metaguard/tests/harness"
)

// plantedPassword must stand in no error and no log line.
const plantedPassword = "hunter2-planted"

var redisVariables atomic.Int64

// redisVariable puts a URL into a variable of its own and gives its placeholder.
func redisVariable(tb testing.TB, url string) string {
	tb.Helper()
	name := fmt.Sprintf("METAGUARD_TEST_REDIS_%d", redisVariables.Add(1))
	if err := os.Setenv(name, url); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = os.Unsetenv(name) })
	return "{env." + name + "}"
}

// newRedisLatch is a latch as one replica has it. Replicas with URLs that
// differ have clients of their own.
func newRedisLatch(tb testing.TB, url string) *RedisLatch {
	tb.Helper()
	latch := &RedisLatch{URL: redisVariable(tb, url)}
	if err := latch.Provision(caddy.Context{}); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := latch.Cleanup(); err != nil {
			tb.Error(err)
		}
		// go-redis looks for a lost server once a second, also a last time.
		eventually(tb, "go-redis has noticed that its client is closed", func() bool {
			stacks := make([]byte, 1<<20)
			return !strings.Contains(string(stacks[:runtime.Stack(stacks, true)]), "ConnPool).tryDial")
		})
	})
	return latch
}

// redisURL is the URL of a server; options make it a client of its own.
func redisURL(server *harness.Redis, options ...string) string {
	return "unix://" + server.Socket + "?" + strings.Join(options, "&")
}

// redisClient is a client that the latch knows nothing of.
func redisClient(tb testing.TB, server *harness.Redis) *redis.Client {
	tb.Helper()
	client := redis.NewClient(&redis.Options{Network: "unix", Addr: server.Socket})
	tb.Cleanup(func() { _ = client.Close() })
	return client
}

// observeRedis collects the latch's log lines, of all levels.
func observeRedis(tb testing.TB) *observer.ObservedLogs {
	tb.Helper()
	core, logs := observer.New(zapcore.DebugLevel)
	before := redisLog
	redisLog = func() *zap.Logger { return zap.New(core) }
	tb.Cleanup(func() { redisLog = before })
	return logs
}

// logText is all that was logged.
func logText(logs *observer.ObservedLogs) string {
	var text strings.Builder
	for _, entry := range logs.All() {
		fmt.Fprintln(&text, entry.Level, entry.Message, entry.ContextMap())
	}
	return text.String()
}

// redisProxy stands before a Redis and loses answers.
type redisProxy struct {
	address string
	target  string
	mu      sync.Mutex
	// swallow is called for what a client sends; true has it forwarded, and
	// the answer lost together with the connection.
	swallow func(sent string) bool
	// hold is waited for before anything is sent back.
	hold  chan struct{}
	conns []net.Conn
}

func newRedisProxy(tb testing.TB, server *harness.Redis) *redisProxy {
	tb.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	p := &redisProxy{address: listener.Addr().String(), target: server.Socket}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			all.Go(func() { p.serve(conn) })
		}
	})
	tb.Cleanup(func() {
		_ = listener.Close()
		p.cut()
		all.Wait()
	})
	return p
}

func (p *redisProxy) set(swallow func(string) bool, hold chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.swallow, p.hold = swallow, hold
}

// cut closes all connections.
func (p *redisProxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, conn := range p.conns {
		_ = conn.Close()
	}
	p.conns = nil
}

// serve passes one command and its answer at a time, as the client does.
func (p *redisProxy) serve(conn net.Conn) {
	defer conn.Close()
	server, err := net.Dial("unix", p.target)
	if err != nil {
		return
	}
	defer server.Close()
	p.mu.Lock()
	p.conns = append(p.conns, conn, server)
	p.mu.Unlock()
	buffer := make([]byte, 64<<10)
	for {
		n, err := conn.Read(buffer)
		if err != nil {
			return
		}
		p.mu.Lock()
		lose := p.swallow != nil && p.swallow(string(buffer[:n]))
		hold := p.hold
		p.mu.Unlock()
		if _, err := server.Write(buffer[:n]); err != nil {
			return
		}
		if n, err = server.Read(buffer); err != nil || lose {
			return
		}
		if hold != nil {
			<-hold
		}
		if _, err := conn.Write(buffer[:n]); err != nil {
			return
		}
	}
}

// silentListener takes connections and never says anything.
func silentListener(tb testing.TB) string {
	tb.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		var conns []net.Conn
		for {
			conn, err := listener.Accept()
			if err != nil {
				break
			}
			conns = append(conns, conn)
			all.Go(func() { _, _ = io.Copy(io.Discard, conn) })
		}
		for _, conn := range conns {
			_ = conn.Close()
		}
	})
	tb.Cleanup(func() {
		_ = listener.Close()
		all.Wait()
	})
	return listener.Addr().String()
}

// loadState loads a record and fails if that fails.
func loadState(tb testing.TB, latch Latch, key Key) (Record, Version) {
	tb.Helper()
	record, version, err := latch.Load(context.Background(), key)
	if err != nil {
		tb.Fatal(err)
	}
	return record, version
}

// eventually polls for at most twenty seconds.
func eventually(tb testing.TB, what string, condition func() bool) {
	tb.Helper()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if condition() {
			return
		}
	}
	tb.Fatal("not within 20 s: " + what)
}

// holders is how many references the pool has for a latch's client.
func holders(latch *RedisLatch) int {
	n, _ := redisClients.References(latch.key)
	return n
}
