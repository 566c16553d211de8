// SPDX-License-Identifier: Apache-2.0

//go:build linux

package nova_test

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/metaguard/metaguard/tests/harness"
)

// metadataAddress is where every machine finds its metadata server.
const metadataAddress = "169.254.169.254"

// namespacesVariable set to "required" makes a machine fail the tests that need
// network namespaces where it would skip them.
const namespacesVariable = "METAGUARD_NETNS"

// likeAMachine moves the test to a network of its own, which has nothing but
// the loopback address and the metadata server's. What the test starts, listens
// on or dials itself from here on is there; what other goroutines dial is not,
// so that a tap leads out. The network ends with the test.
func likeAMachine(t *testing.T) {
	t.Helper()
	harness.Binary(t) // which may have to be built
	runtime.LockOSThread()
	err := syscall.Unshare(syscall.CLONE_NEWNET)
	if err == nil {
		// The thread is not unlocked: it ends with the goroutine.
		var output []byte
		output, err = exec.Command("sh", "-c", "ip link set lo up && ip addr add "+metadataAddress+"/32 dev lo").CombinedOutput()
		if err == nil {
			return
		}
		err = fmt.Errorf("%w\n%s", err, output)
	}
	if os.Getenv(namespacesVariable) == "required" {
		t.Fatalf("no network namespace: %v", err)
	}
	t.Skipf("needs root and `ip` (%s=required makes this a failure): %v", namespacesVariable, err)
}

// novaInMachine is Nova itself at the metadata server's address, for an
// instance, and on the loopback address. With tokens it has one for whoever
// asks, which Nova has not.
func novaInMachine(t *testing.T, nova *server, as rune, tokens bool) (end func()) {
	t.Helper()
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: nova.address})
	serve := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if tokens && r.Method == http.MethodPut && r.URL.Path == "/latest/api/token" {
			_, _ = w.Write([]byte("token"))
			return
		}
		for _, line := range signed(as)[1:] { // X-Forwarded-For is the proxy's
			name, value, _ := strings.Cut(line, ": ")
			r.Header.Set(name, value)
		}
		proxy.ServeHTTP(w, r)
	})}
	for _, host := range []string{metadataAddress, "127.0.0.1"} {
		listener, err := net.Listen("tcp", host+":80")
		if err != nil {
			t.Fatal(err)
		}
		go func() { _ = serve.Serve(listener) }()
	}
	return func() { _ = serve.Close() }
}
