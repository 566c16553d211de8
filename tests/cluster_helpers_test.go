// SPDX-License-Identifier: Apache-2.0

package tests

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/bundle"

	"github.com/metaguard/metaguard/tests/harness"
)

const (
	// policyToken must stand in no log.
	policyToken = "planted-token-of-the-policy-server"
	// sharedKey is the replicas' secret for tokens and fingerprints.
	sharedKey = "0123456789abcdef0123456789abcdef"
)

// signer releases policies.
type signer struct{ private, public string }

func newSigner(t *testing.T) signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return signer{
		string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: private})),
		string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})),
	}
}

// sign makes a signed bundle of files.
func (s signer) sign(t *testing.T, files map[string]string) []byte {
	t.Helper()
	read, err := bundle.NewReader(bytes.NewReader(bundleOf(t, files))).Read()
	if err != nil {
		t.Fatal(err)
	}
	if err := read.GenerateSignature(bundle.NewSigningConfig(s.private, "ES256", ""), "release", false); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := bundle.NewWriter(&b).DisableFormat(true).Write(read); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// policyServer is a control that can be killed and run again, for those who
// have its token.
type policyServer struct {
	*control
	address string
}

func newPolicyServer(t *testing.T) *policyServer {
	t.Helper()
	p := &policyServer{control: &control{}, address: "127.0.0.1:0"}
	p.run(t)
	t.Cleanup(p.kill)
	return p
}

func (p *policyServer) run(t *testing.T) {
	t.Helper()
	listener, err := net.Listen("tcp", p.address)
	if err != nil {
		t.Fatal(err)
	}
	p.address = listener.Addr().String()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+policyToken {
			http.Error(w, "who are you?", http.StatusUnauthorized)
			return
		}
		p.serve(w, r)
	}))
	_ = server.Listener.Close()
	server.Listener = listener
	server.Start()
	p.Server = server
}

func (p *policyServer) kill() {
	p.CloseClientConnections()
	p.Close()
}

// balancer stands before the replicas.
type balancer interface {
	Run()
	Kill()
}

// clusterReplica is one of several with the shipped cluster.Caddyfile.
type clusterReplica struct {
	*managed
	httpAddress string // of the site for HTTP balancers
	killed      []int  // how long the log was each time
}

// kill is a crash.
func (r *clusterReplica) kill() {
	r.Kill()
	r.killed = append(r.killed, len(r.Log()))
}

// cluster is all that belongs together: replicas behind a balancer, a policy
// server that takes decision events, Redis and a legacy server.
type cluster struct {
	t        *testing.T
	replicas []*clusterReplica
	balancer balancer
	address  string // the balancer's
	policies *policyServer
	signer   signer
	redis    *harness.Redis
	link     *harness.Relay // to Redis
	server   *passwordServer
	revision int
}

// newClusterReplica prepares the replica i with what a test and several on one
// machine need otherwise. Tokens are for replicas with the same ports.
func newClusterReplica(t *testing.T, i, tcpPort, httpPort int, upstream *harness.Upstream, policies *policyServer, release signer) *clusterReplica {
	t.Helper()
	host := fmt.Sprintf("127.0.10.%d", i+1)
	r := &clusterReplica{
		managed: shippedSite(t, "cluster.Caddyfile", fmt.Sprintf("%s:%d", host, tcpPort), upstream, map[string]string{
			"http://:8775 {": fmt.Sprintf("http://:%d {\n\tbind %s", tcpPort, host),
			"http://:8800 {": fmt.Sprintf("http://:%d {\n\tbind %s", httpPort, host),
			// Longer than the balancer takes to turn away.
			"shutdown_delay 10s": "shutdown_delay 4s",
			// The machine has much to do, and that is not what is tested.
			"opa cluster/opa.yaml": "opa cluster/opa.yaml\n\t\t\ttimeout 20s\n\t\t\tready_timeout 30s",
		}),
		httpAddress: fmt.Sprintf("%s:%d", host, httpPort),
	}
	r.edit(t, "cluster/opa.yaml", "min_delay_seconds: 5\n      max_delay_seconds: 10", "min_delay_seconds: 1\n      max_delay_seconds: 1")
	r.edit(t, "cluster/opa.yaml", "min_delay_seconds: 1\n    max_delay_seconds: 5", "min_delay_seconds: 1\n    max_delay_seconds: 1")
	r.edit(t, "cluster/opa.yaml", publicKey.FindString(shippedFile(t, "cluster/opa.yaml")), indented(release.public, "      "))
	r.Setenv("METAGUARD_POLICY_URL", "http://"+policies.address)
	r.Setenv("METAGUARD_REPLICA", fmt.Sprint("replica-", i))
	return r
}

// addressOf is where the instance n calls from, and instanceOf its id.
func addressOf(n int) string  { return fmt.Sprintf("127.1.%d.%d", n/250, n%250+1) }
func instanceOf(n int) string { return fmt.Sprintf("%08d-0000-4000-8000-000000000000", n) }

// clusterInstances is how many instances the inventory has.
const clusterInstances = 12_000

var publicKey = regexp.MustCompile(`(?s)( *)-----BEGIN PUBLIC KEY-----.*-----END PUBLIC KEY-----\n`)

// newCluster starts all of it, with a policy whose revision is 1.
func newCluster(t *testing.T) *cluster {
	t.Helper()
	redis := harness.StartRedis(t, "--requirepass", redisPassword)
	c := &cluster{
		t: t, policies: newPolicyServer(t), signer: newSigner(t), server: newPasswordServer(t),
		redis: redis, link: harness.NewRelay(t, false, redis.Address),
	}
	c.publish()
	var inventory strings.Builder
	for n := range clusterInstances {
		fmt.Fprintf(&inventory, `,{"address": %q, "instance_id": %q, "project_id": %q, "roles": ["windows"]}`+"\n", addressOf(n), instanceOf(n), projectA)
	}
	var tcp, http []string
	tcpPort, httpPort := harness.FreePort(t), harness.FreePort(t)
	for i := range 3 {
		r := newClusterReplica(t, i, tcpPort, httpPort, c.server.Upstream, c.policies, c.signer)
		r.Write("cluster/inventory.json", "["+inventory.String()[1:]+"]")
		r.Setenv("METAGUARD_REDIS_URL", "redis://:"+redisPassword+"@"+c.link.Address)
		c.replicas = append(c.replicas, r)
		tcp, http = append(tcp, r.address), append(http, r.httpAddress)
	}
	for _, r := range c.replicas {
		r.Run(r.address)
	}
	if harness.HasHAProxy(t) {
		c.address = fmt.Sprintf("127.0.0.1:%d", harness.FreePort(t))
		c.balancer = harness.StartHAProxy(t, haproxyConfig(t, c.address, fmt.Sprintf("127.0.0.1:%d", harness.FreePort(t)), tcp, http), c.address)
	} else {
		relay := harness.NewRelay(t, true, tcp...)
		c.address, c.balancer = relay.Address, relay
	}
	t.Cleanup(c.keepsSecrets)
	return c
}

// keepsSecrets fails if a log shows one.
func (c *cluster) keepsSecrets() {
	for _, r := range c.replicas {
		for _, planted := range []string{redisPassword, policyToken, sharedKey, secret, "pA55word"} {
			if strings.Contains(r.Log(), planted) {
				c.t.Errorf("%q is in a log", planted)
			}
		}
	}
}

func indented(text, by string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		b.WriteString(by + line)
	}
	return b.String()
}

// haproxyConfig is the shipped one with other addresses.
func haproxyConfig(t *testing.T, tcpAddress, httpAddress string, tcp, http []string) string {
	t.Helper()
	config := shippedFile(t, "cluster/haproxy.cfg")
	replace := []string{"169.254.169.254:80\n", tcpAddress + "\n", "169.254.169.254:8080", httpAddress}
	for i := range tcp {
		replace = append(replace, fmt.Sprintf("192.0.2.%d:8775", 11+i), tcp[i], fmt.Sprintf("192.0.2.%d:8800", 11+i), http[i])
	}
	for i := 0; i < len(replace); i += 2 {
		if !strings.Contains(config, replace[i]) {
			t.Fatalf("haproxy.cfg has no %q", replace[i])
		}
	}
	return strings.NewReplacer(replace...).Replace(config)
}

// publish makes the next revision the newest: an odd one denies user data, an
// even one vendor data.
func (c *cluster) publish() {
	c.t.Helper()
	c.revision++
	files := map[string]string{"data.json": shippedFile(c.t, "cluster/team/data.json")}
	files[".manifest"] = strings.Replace(shippedFile(c.t, "cluster/team/.manifest"), `"revision": "1"`, fmt.Sprintf(`"revision": "%d"`, c.revision), 1)
	files["team.rego"] = fmt.Sprintf("package metaguard.team\n\ndeny contains \"revision\" if input.resource.kind == %q\n", []string{"vendordata", "userdata"}[c.revision%2])
	c.policies.publish(fmt.Sprint(c.revision), c.signer.sign(c.t, files))
}

const vendordataPath = "/openstack/latest/vendor_data.json"

// right is the status that a revision's policy gives to a path.
func right(revision int, path string) int {
	if (path == userdataPath) == (revision%2 == 1) {
		return http.StatusForbidden
	}
	return http.StatusOK
}

// ask sends a request from an instance's address to a replica, or to the
// balancer.
func (c *cluster) ask(to string, instance int, method, path, body string, headers ...string) (answer harness.Answer) {
	dialer := net.Dialer{Timeout: 10 * time.Second, LocalAddr: &net.TCPAddr{IP: net.ParseIP(addressOf(instance))}}
	conn, err := dialer.Dial("tcp", to)
	if err != nil {
		return harness.Answer{Err: err}
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	var request strings.Builder
	fmt.Fprintf(&request, "%s %s HTTP/1.1\r\nHost: 169.254.169.254\r\nConnection: close\r\n", method, path)
	for _, header := range headers {
		request.WriteString(header + "\r\n")
	}
	if method == http.MethodPost {
		fmt.Fprintf(&request, "Content-Length: %d\r\n", len(body))
	}
	if _, err := io.WriteString(conn, request.String()+"\r\n"+body); err != nil {
		return harness.Answer{Err: err}
	}
	return harness.ReadAnswer(bufio.NewReader(conn), method+" ")
}
