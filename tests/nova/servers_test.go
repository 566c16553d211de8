// SPDX-License-Identifier: Apache-2.0

package nova_test

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/metaguard/metaguard/tests/harness"
)

// The web servers that Nova is run with.
const (
	uwsgi    = "uwsgi"
	eventlet = "eventlet"
)

var webServers = []string{uwsgi, eventlet}

// secret is what Nova, Neutron's agent and Metaguard share. It is another one
// in every run, so that a search for it finds only itself.
var secret = "shared-" + rand.Text()

// passwordOf2 is the password of instance 2, as seed.py makes it: in base64 what
// RSA with 2048 bits gives.
var passwordOf2 = func() string {
	value := make([]byte, 256)
	for n := range value {
		value[n] = byte(n)
	}
	return base64.StdEncoding.EncodeToString(value)
}()

// The instances, each a hexadecimal digit, and what uses each. Nova's caches and
// databases are shared by all tests against one server, so a test that writes
// has instances of its own.
const (
	overwritten  = '1' // written without Metaguard
	withPassword = '2' // has passwordOf2
	withExtras   = '3' // stored keys that only begin like a password's
	withAdmin    = '4' // an admin_pass in clear in its metadata
	lifeOf       = '5'
	chunked      = '6'
	lifeOfAgent  = '7'
	restarted    = '8'
	unknown      = '9' // signed, but Nova does not have it
	bytesOf      = "abcd"
	onTheWire    = 'e'
	lostByAgent  = 'f' // written without Metaguard
)

const digits = "123456789abcdef"

func repeat(digit rune, count int) string { return strings.Repeat(string(digit), count) }

func instanceID(digit rune) string {
	return fmt.Sprintf("%s-%s-4%s-8%s-%s", repeat(digit, 8), repeat(digit, 4), repeat(digit, 3), repeat(digit, 3), repeat(digit, 12))
}

func projectID(digit rune) string {
	if digit == withPassword {
		return repeat('b', 12) + "4bbb8" + repeat('b', 15)
	}
	return repeat('a', 12) + "4aaa8" + repeat('a', 15)
}

// address is where Neutron's agent takes an instance to be.
func address(digit rune) string {
	n, err := strconv.ParseInt(string(digit), 16, 0)
	if err != nil {
		panic(err)
	}
	return fmt.Sprintf("127.0.0.%d", n*11)
}

func signature(digit rune) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(instanceID(digit)))
	return hex.EncodeToString(mac.Sum(nil))
}

// signed are the headers with which Neutron's agent vouches for an instance.
func signed(digit rune) []string {
	return []string{
		"X-Forwarded-For: " + address(digit),
		"X-Instance-ID: " + instanceID(digit),
		"X-Tenant-ID: " + projectID(digit),
		"X-Instance-ID-Signature: " + signature(digit),
	}
}

// server is what nova.sh started.
type server struct {
	address string
	state   string
	port    int
}

// novaScript runs nova.sh in a state directory.
func novaScript(state string, env []string, args ...string) (string, error) {
	command := exec.Command("./nova.sh", args...)
	command.Env = append(os.Environ(), append([]string{"NOVA_STATE=" + state, "SECRET=" + secret, "LIMIT=1200"}, env...)...)
	output, err := command.Output()
	if err != nil {
		var failed *exec.ExitError
		if errors.As(err, &failed) {
			output = append(output, failed.Stderr...)
		}
		return "", fmt.Errorf("nova.sh %s: %w\n%s", strings.Join(args, " "), err, output)
	}
	return string(output), nil
}

// launch starts something with nova.sh, to be stopped at the end of all tests.
func launch(tb testing.TB, env []string, args ...string) (*server, error) {
	state, err := os.MkdirTemp("", "nova-")
	if err != nil {
		return nil, err
	}
	servers.Started(state)
	port := harness.FreePort(tb)
	_, err = novaScript(state, append(env, fmt.Sprint("PORT=", port)), args...)
	return &server{address: fmt.Sprint("127.0.0.1:", port), state: state, port: port}, err
}

// once starts a server when the first test asks for it.
type once struct {
	start  func(tb testing.TB) (*server, error)
	do     sync.Once
	server *server
	err    error
}

func (o *once) get(tb testing.TB) *server {
	tb.Helper()
	need(tb)
	o.do.Do(func() { o.server, o.err = o.start(tb) })
	if o.err != nil {
		tb.Fatal(o.err)
	}
	return o.server
}

var novas = map[string]*once{
	uwsgi:    {start: func(tb testing.TB) (*server, error) { return launchNova(tb, uwsgi) }},
	eventlet: {start: func(tb testing.TB) (*server, error) { return launchNova(tb, eventlet) }},
}

func launchNova(tb testing.TB, kind string) (*server, error) {
	return launch(tb, []string{fmt.Sprint("NEUTRON_PORT=", harness.FreePort(tb))}, "start", "proxy", kind)
}

// novaUnder is Nova, run with one of webServers, with its default cache of 15 s.
func novaUnder(tb testing.TB, kind string) *server {
	tb.Helper()
	return novas[kind].get(tb)
}

var echoes = map[string]*once{
	uwsgi:    {start: func(tb testing.TB) (*server, error) { return launch(tb, nil, "echo", uwsgi) }},
	eventlet: {start: func(tb testing.TB) (*server, error) { return launch(tb, nil, "echo", eventlet) }},
}

// echoUnder is a web server that answers with the PATH_INFO it made.
func echoUnder(tb testing.TB, kind string) *server {
	tb.Helper()
	return echoes[kind].get(tb)
}

// manyNovas is Nova as Debian runs it: with eight processes, each of which
// remembers an instance for 15 s by itself.
var manyNovas = &once{start: func(tb testing.TB) (*server, error) {
	return launch(tb, []string{fmt.Sprint("NEUTRON_PORT=", harness.FreePort(tb)), "WORKERS=8"}, "start", "proxy", uwsgi)
}}

// clear removes an instance's password from Nova's database, as a rebuild does.
func (s *server) clear(tb testing.TB, digit rune) {
	tb.Helper()
	if _, err := novaScript(s.state, nil, "clear", instanceID(digit)); err != nil {
		tb.Fatal(err)
	}
}

// stored is the password that lies in Nova's database, in its four pieces.
func (s *server) stored(tb testing.TB, digit rune) (text string, rows map[string]string) {
	tb.Helper()
	output, err := novaScript(s.state, nil, "stored", instanceID(digit))
	if err != nil {
		tb.Fatal(err)
	}
	if err := json.Unmarshal([]byte(output), &rows); err != nil {
		tb.Fatal(err)
	}
	return rows["password_0"] + rows["password_1"] + rows["password_2"] + rows["password_3"], rows
}

// agent is Neutron's metadata agent behind its haproxy. What it sends goes
// through a tap, which the one test that has it points where it likes.
type agent struct {
	server
	tap *tap
}

var theAgent struct {
	sync.Mutex
	once
	tap *tap
}

func init() {
	theAgent.start = func(tb testing.TB) (*server, error) {
		theAgent.tap = newTap(tb)
		port := harness.FreePort(tb)
		started, err := launch(tb, []string{fmt.Sprint("AGENT_PORT=", port), fmt.Sprint("AGENT_NOVA_PORT=", theAgent.tap.port())}, "agent")
		started.address, started.port = fmt.Sprint("127.0.0.1:", port), port
		return started, err
	}
}

// agentBefore gives a test the agent, with upstream as Nova, until it ends.
func agentBefore(tb testing.TB, upstream string) *agent {
	tb.Helper()
	need(tb)
	theAgent.Lock()
	tb.Cleanup(theAgent.Unlock)
	a := &agent{server: *theAgent.get(tb)}
	a.tap = theAgent.tap
	a.tap.pointTo(upstream)
	a.tap.take(tb)
	return a
}
