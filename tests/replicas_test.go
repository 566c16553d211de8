// SPDX-License-Identifier: Apache-2.0

package tests

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/metaguard/metaguard/tests/harness"
)

// unavailableStatus is what 503 becomes behind Neutron's agent, which would
// turn it into another one.
const unavailableStatus = 500

// redisPassword must stand in no log.
const redisPassword = "planted-password-of-redis"

// passwordServer is a legacy server that takes every password, and knows which
// it took for whom.
type passwordServer struct {
	*harness.Upstream
	mu    sync.Mutex
	taken map[string][]string
}

func newPasswordServer(t *testing.T) *passwordServer {
	t.Helper()
	s := &passwordServer{taken: make(map[string][]string)}
	s.Upstream = harness.NewUpstream(t, func(request string) string {
		head, body, _ := strings.Cut(request, "\r\n\r\n")
		instance := ""
		for line := range strings.SplitSeq(head, "\r\n") {
			if name, value, _ := strings.Cut(line, ": "); strings.EqualFold(name, "X-Instance-ID") {
				instance = value
			}
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		switch {
		case strings.HasPrefix(head, "POST "):
			s.taken[instance] = append(s.taken[instance], body)
			return harness.OK("")
		case strings.Contains(head, "/password ") && len(s.taken[instance]) > 0:
			return harness.OK(s.taken[instance][len(s.taken[instance])-1])
		case strings.Contains(head, ".json "):
			return harness.OK("{}")
		}
		return harness.OK("")
	})
	return s
}

// accepted gives the passwords that were taken for an instance.
func (s *passwordServer) accepted(instance string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.taken[instance]...)
}

// replica is one of several Metaguards before one server.
type replica struct {
	*harness.Process
	address string
}

// sharing is what replicas share: the setting `latch`, and the environment.
type sharing struct {
	latch string
	env   []string
}

func sharedDirectory(t *testing.T) (sharing, string) {
	t.Helper()
	directory := filepath.Join(t.TempDir(), "latch")
	return sharing{latch: "file " + directory}, directory
}

func sharedRedis(t *testing.T) (sharing, *harness.Redis) {
	t.Helper()
	server := harness.StartRedis(t, "--requirepass", redisPassword)
	return sharing{
		latch: "redis {env.METAGUARD_REDIS_URL}",
		env:   []string{"METAGUARD_REDIS_URL=redis://:" + redisPassword + "@" + server.Address},
	}, server
}

// newReplicas starts n replicas; instance 1 may read its password.
func newReplicas(t *testing.T, n int, shared sharing, upstream *passwordServer) []*replica {
	t.Helper()
	replicas := make([]*replica, n)
	for i := range replicas {
		r := prepareReplica(t, shared, upstream.Address)
		r.Run(r.address)
		replicas[i] = r
	}
	t.Cleanup(func() {
		for _, r := range replicas {
			checkLog(t, r.Log())
		}
	})
	return replicas
}

func prepareReplica(t *testing.T, shared sharing, upstream string) *replica {
	t.Helper()
	address := fmt.Sprintf("127.0.0.1:%d", harness.FreePort(t))
	settings := neutronFrom("127.0.0.0/8") + "\npolicy policy {\ntimeout 10s\n}\npassword {\nwrite_once 10m\nlatch " + shared.latch + "\nfingerprint_key {env.METAGUARD_FINGERPRINT}\n}"
	env := append([]string{
		"METAGUARD_NEUTRON_SECRET=" + secret, "METAGUARD_FINGERPRINT=0123456789abcdef0123456789abcdef",
	}, shared.env...)
	return &replica{
		Process: harness.New(t, map[string]string{
			"Caddyfile": caddyfile(address, upstream, settings), "policy/data.json": grant(instance1, "password:read"),
		}, env...),
		address: address,
	}
}

// checkLog fails if a line comes from elsewhere than Caddy's log, or shows the
// password of Redis.
func checkLog(t *testing.T, log string) {
	t.Helper()
	if strings.Contains(log, redisPassword) {
		t.Error("the password of Redis is in the log")
	}
	for line := range strings.Lines(log) {
		if strings.Contains(strings.ToLower(line), "redis") && !strings.HasPrefix(line, "{") {
			t.Errorf("not of Caddy's log: %s", line)
		}
	}
}

// ask sends a request of an instance and gives status and reason, or the error
// of a replica that died.
func (r *replica) ask(instance, method, path, body string) (status int, why string, err error) {
	conn, err := net.DialTimeout("tcp", r.address, 10*time.Second)
	if err != nil {
		return 0, "", err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	request := fmt.Sprintf("%s %s HTTP/1.1\r\nHost: m\r\nConnection: close\r\n%s", method, path, agentHeaders(instance, sign(instance)))
	if method == "POST" {
		request += fmt.Sprintf("Content-Length: %d\r\n", len(body))
	}
	if _, err := io.WriteString(conn, request+"\r\n"+body); err != nil {
		return 0, "", err
	}
	answer := harness.ReadAnswer(bufio.NewReader(conn), method+" ")
	if answer.Err != nil {
		return 0, "", answer.Err
	}
	if answer.Status == 200 {
		return answer.Status, answer.Body, nil
	}
	return answer.Status, reason(answer), nil
}

const guestPath = "/openstack/latest/password"

func (r *replica) write(instance, body string) (int, string, error) {
	return r.ask(instance, "POST", guestPath, body)
}

// race is what became of the writers to one instance.
type race struct {
	instance string
	won      []string // passwords that were answered with 200
	refused  int      // 409
	died     int      // their replica did
	retried  int      // 503 for want of the latch, and tried again
	other    []string
}

// raceReplicas lets eight writers at once write to each instance, spread over
// the replicas, eight instances at a time.
func raceReplicas(replicas []*replica, instances int, done *atomic.Int32) []*race {
	const writers = 8
	races := make([]*race, instances)
	next := make(chan int)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for i := range next {
				result := &race{instance: fmt.Sprintf("%08d-0000-4000-8000-000000000000", i)}
				races[i] = result
				start := make(chan struct{})
				var mu sync.Mutex
				var one sync.WaitGroup
				for w := range writers {
					one.Go(func() {
						<-start
						body := fmt.Sprintf("password %d of %d", w, i)
						status, why, err := replicas[w%len(replicas)].write(result.instance, body)
						mu.Lock()
						defer mu.Unlock()
						switch {
						case err != nil:
							result.died++
						case status == 200:
							result.won = append(result.won, body)
						case status == 409 && strings.HasPrefix(why, "password_"):
							result.refused++
						default:
							result.other = append(result.other, fmt.Sprint(status, " ", why))
						}
					})
				}
				close(start)
				one.Wait()
				done.Add(1)
			}
		})
	}
	for i := range instances {
		next <- i
	}
	close(next)
	all.Wait()
	return races
}

// Replicas on one latch never let two passwords of one instance through, and
// exactly one writer is told that it won (I7).
func TestReplicasRace(t *testing.T) {
	t.Parallel()
	for _, n := range []int{2, 4} {
		for name, share := range map[string]func(t *testing.T) sharing{
			"directory": func(t *testing.T) sharing { shared, _ := sharedDirectory(t); return shared },
			"Redis":     func(t *testing.T) sharing { shared, _ := sharedRedis(t); return shared },
		} {
			t.Run(fmt.Sprintf("%d replicas on one %s", n, name), func(t *testing.T) {
				upstream := newPasswordServer(t)
				replicas := newReplicas(t, n, share(t), upstream)
				for _, r := range raceReplicas(replicas, 200, new(atomic.Int32)) {
					accepted := upstream.accepted(r.instance)
					if len(accepted) != 1 || len(r.won) != 1 || accepted[0] != r.won[0] || r.refused != 7 {
						t.Errorf("%s: the server took %q, %+v", r.instance, accepted, r)
					}
				}
			})
		}
	}
}

// The same while replicas are killed in the middle, one after the other, and
// started again.
func TestReplicasKilled(t *testing.T) {
	t.Parallel()
	const instances = 200
	for name, share := range map[string]func(t *testing.T) sharing{
		"directory": func(t *testing.T) sharing { shared, _ := sharedDirectory(t); return shared },
		"Redis":     func(t *testing.T) sharing { shared, _ := sharedRedis(t); return shared },
	} {
		t.Run(name, func(t *testing.T) {
			upstream := newPasswordServer(t)
			replicas := newReplicas(t, 4, share(t), upstream)
			var done atomic.Int32
			results := make(chan []*race, 1)
			go func() { results <- raceReplicas(replicas, instances, &done) }()
			for i, victim := range replicas {
				victim.Eventually("some more races are over", func() bool { return int(done.Load()) >= 20+30*i })
				victim.Kill()
				victim.Run(victim.address)
			}
			died := 0
			for i, r := range <-results {
				accepted := upstream.accepted(r.instance)
				died += r.died
				switch {
				case len(r.other) > 0:
					t.Errorf("%s: %+v", r.instance, r)
				case len(accepted) > 1 || len(r.won) > 1 || (len(r.won) == 1 && accepted[0] != r.won[0]):
					t.Errorf("%s: the server took %q, %+v", r.instance, accepted, r)
				case r.died == 0 && (len(r.won) != 1 || r.refused != 7):
					t.Errorf("%s: nobody died, the server took %q, %+v", r.instance, accepted, r)
				}
				// What was taken stays so, whoever is asked.
				status, why, err := replicas[i%4].write(r.instance, "late")
				if now := upstream.accepted(r.instance); err != nil || (len(accepted) == 1) != (status == 409) && status != 409 || len(now) > 1 {
					t.Errorf("%s: a late write got %d %s %v, the server took %q", r.instance, status, why, err, now)
				}
			}
			if died == 0 {
				t.Error("no replica died in the middle of anything")
			}
		})
	}
}

// What one replica has accepted another knows again, and nothing else passes.
func TestReplicasRead(t *testing.T) {
	t.Parallel()
	shared, _ := sharedRedis(t)
	upstream := newPasswordServer(t)
	replicas := newReplicas(t, 2, shared, upstream)
	if status, why, err := replicas[0].write(instance1, "the first"); status != 200 {
		t.Fatal(status, why, err)
	}
	if status, body, err := replicas[1].ask(instance1, "GET", guestPath, ""); status != 200 || body != "the first" {
		t.Errorf("%d %q %v", status, body, err)
	}
	upstream.mu.Lock()
	upstream.taken[instance1] = []string{"another"}
	upstream.mu.Unlock()
	if status, why, err := replicas[1].ask(instance1, "GET", guestPath, ""); status != 500 || why != "password_mismatch" {
		t.Errorf("%d %q %v", status, why, err)
	}
}

// While the latch is away passwords are refused, in time, and nothing else is;
// when it is back they are taken without a restart.
func TestLatchDown(t *testing.T) {
	t.Parallel()
	type latch struct {
		shared     sharing
		away, back func() error
	}
	redisWith := func(away, back func(*harness.Redis)) func(t *testing.T) latch {
		return func(t *testing.T) latch {
			shared, server := sharedRedis(t)
			return latch{shared, func() error { away(server); return nil }, func() error { back(server); return nil }}
		}
	}
	for name, test := range map[string]struct {
		latch  func(t *testing.T) latch
		within time.Duration
	}{
		"Redis is killed": {redisWith((*harness.Redis).Kill, (*harness.Redis).Run), 3 * time.Second},
		"Redis hangs": {redisWith(
			func(r *harness.Redis) { r.Signal(syscall.SIGSTOP) },
			func(r *harness.Redis) { r.Signal(syscall.SIGCONT) },
		), 7 * time.Second},
		"the directory is moved": {func(t *testing.T) latch {
			shared, directory := sharedDirectory(t)
			return latch{
				shared,
				func() error { return os.Rename(directory, directory+".away") },
				func() error { return os.Rename(directory+".away", directory) },
			}
		}, 3 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			latch := test.latch(t)
			upstream := newPasswordServer(t)
			r := newReplicas(t, 1, latch.shared, upstream)[0]
			if status, why, err := r.write(instance1, "first"); status != 200 {
				t.Fatal(status, why, err)
			}
			if err := latch.away(); err != nil {
				t.Fatal(err)
			}
			for what, send := range map[string]func() (int, string, error){
				"a write":  func() (int, string, error) { return r.write(instance2, "second") },
				"one more": func() (int, string, error) { return r.write(instance1, "second") },
				"a read":   func() (int, string, error) { return r.ask(instance1, "GET", guestPath, "") },
			} {
				began := time.Now()
				status, why, err := send()
				if took := time.Since(began); status != unavailableStatus || why != "latch_unavailable" || err != nil || took > test.within {
					t.Errorf("%s: %d %s %v after %s", what, status, why, err, took)
				}
			}
			if status, why, err := r.ask(instance1, "GET", "/openstack/latest/user_data", ""); status != 200 {
				t.Errorf("user_data: %d %s %v", status, why, err)
			}
			if taken := upstream.accepted(instance2); len(taken) > 0 {
				t.Errorf("the server took %q", taken)
			}
			if err := latch.back(); err != nil {
				t.Fatal(err)
			}
			r.Eventually("passwords are read again", func() bool {
				status, body, _ := r.ask(instance1, "GET", guestPath, "")
				return status == 200 && body == "first"
			})
			// The first write may have reached a Redis that hung, and holds.
			if status, why, _ := r.write("33333333-3333-4333-8333-333333333333", "third"); status != 200 {
				t.Errorf("a write: %d %s", status, why)
			}
			if status, why, _ := r.write(instance1, "second"); status != 409 {
				t.Errorf("a second write: %d %s", status, why)
			}
		})
	}
}

// A Redis that is not there yet keeps nothing but passwords from being served.
func TestRedisComesLater(t *testing.T) {
	t.Parallel()
	shared, server := sharedRedis(t)
	server.Kill()
	upstream := newPasswordServer(t)
	r := newReplicas(t, 1, shared, upstream)[0]
	if status, why, err := r.ask(instance1, "GET", "/openstack/latest/user_data", ""); status != 200 {
		t.Errorf("user_data: %d %s %v", status, why, err)
	}
	if status, why, err := r.write(instance1, "first"); status != unavailableStatus || why != "latch_unavailable" {
		t.Errorf("a write: %d %s %v", status, why, err)
	}
	r.Eventually("it is said", func() bool { return strings.Contains(r.Log(), "the latch is unavailable, passwords are refused") })
	server.Run()
	r.Eventually("passwords are taken", func() bool {
		status, _, _ := r.write(instance1, "first")
		return status == 200
	})
}

// validate opens no connection (I8), and neither it nor a start that fails says
// more of the URL than where it stands.
func TestRedisMisconfigured(t *testing.T) {
	t.Parallel()
	harness.NeedRedis(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	var connections atomic.Int32
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			connections.Add(1)
			_ = conn.Close()
		}
	}()
	server := harness.StartRedis(t, "--requirepass", "another")
	for name, test := range map[string]struct{ command, url, want string }{
		"validate":              {"validate", "redis://:" + redisPassword + "@" + listener.Addr().String() + "?min_idle_conns=3", ""},
		"validate a bad URL":    {"validate", "redis://:" + redisPassword, "it is not a URL"},
		"validate an option":    {"validate", "redis://:" + redisPassword + "@h?read_only=true", "a replica may show an old record"},
		"validate an empty one": {"validate", "", "METAGUARD_REDIS_URL"},
		"run":                   {"run", "redis://:" + redisPassword + "@" + server.Address, "does not take the user and password of the URL"},
	} {
		t.Run(name, func(t *testing.T) {
			shared := sharing{latch: "redis {env.METAGUARD_REDIS_URL}", env: []string{"METAGUARD_REDIS_URL=" + test.url}}
			r := prepareReplica(t, shared, "127.0.0.1:1")
			output, err := r.Command(test.command, "--config", filepath.Join(r.Dir, "Caddyfile"), "--adapter", "caddyfile")
			if (err == nil) != (test.want == "") || !strings.Contains(output, test.want) {
				t.Errorf("%v\n%s", err, output)
			}
			checkLog(t, output)
		})
	}
	if n := connections.Load(); n != 0 {
		t.Errorf("validate connected %d times", n)
	}
}
