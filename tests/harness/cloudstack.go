// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"fmt"
	"strings"
	"sync"
	"testing"
)

// CloudStack is CloudStack's virtual router as far as its guests see it. It
// follows apache/cloudstack, line by line where a line is named, but for one
// thing: it takes the address of whom it serves from X-Forwarded-For, which the
// router takes from the connection.
type CloudStack struct {
	// Passwords is the server on port 8080, Metadata the one on port 80.
	Passwords, Metadata *Upstream
	// Direct is who comes without X-Forwarded-For.
	Direct string

	mu        sync.Mutex
	passwords map[string]string            // passwd_server_ip.py: passMap
	userdata  map[string]string            // /var/www/html/userdata/<address>/user-data
	metadata  map[string]map[string]string // /var/www/html/metadata/<address>/<name>
}

// NewCloudStack starts a router on free ports of the loopback address.
func NewCloudStack(tb testing.TB) *CloudStack {
	tb.Helper()
	c := &CloudStack{
		Direct: "127.0.0.1", passwords: map[string]string{},
		userdata: map[string]string{}, metadata: map[string]map[string]string{},
	}
	c.Passwords, c.Metadata = NewUpstream(tb, c.ServePassword), NewUpstream(tb, c.ServeMetadata)
	return c
}

// SetPassword is what the management server does through do_POST: a machine was
// made, or its password reset while it was stopped.
func (c *CloudStack) SetPassword(address, password string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.passwords[address] = password
}

// Password is what the server holds.
func (c *CloudStack) Password(address string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.passwords[address]
}

// SetMetadata is what CsVmMetadata.__createfile writes (configure.py).
func (c *CloudStack) SetMetadata(address, userdata string, metadata map[string]string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.userdata[address], c.metadata[address] = userdata, metadata
}

// ServePassword answers as passwd_server_ip.py, PasswordRequestHandler, does under
// Python's http.server: HTTP/1.0, no length, the connection's end is the answer's.
func (c *CloudStack) ServePassword(request string) string {
	method, _, header := readHead(request)
	// do_GET: send_response(200), which adds Server and Date; then its own
	// Content-type and Server; then end_headers.
	answer := "HTTP/1.0 200 OK\r\nServer: CloudStack Password Server 4.x\r\nDate: Tue, 24 Nov 2026 20:00:00 GMT\r\n" +
		"Content-type: text/plain\r\nServer: CloudStack Password Server\r\n\r\n"
	switch method {
	case "GET":
	case "POST": // do_POST: 200, and then a 403 that is never sent
		return "HTTP/1.0 200 OK\r\nServer: CloudStack Password Server 4.x\r\nDate: Tue, 24 Nov 2026 20:00:00 GMT\r\n\r\n"
	default: // BaseHTTPRequestHandler.handle_one_request: there is no do_HEAD
		return "HTTP/1.0 501 Unsupported method ('" + method + "')\r\nContent-Type: text/html;charset=utf-8\r\n\r\n"
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	address := c.of(header)
	switch header["domu_request"] { // self.headers.get('DomU_Request'): any path
	case "send_my_password":
		if password := c.passwords[address]; password != "" {
			return answer + password
		}
		return answer + "saved_password"
	case "saved_password":
		delete(c.passwords, address) // removePassword
		return answer + "saved_password"
	}
	return answer + "bad_request" // its send_response(400) stays in a buffer
}

// ServeMetadata answers as Apache does with systemvm/debian/var/www/html/latest/.htaccess:
// files without an extension, so without a type.
func (c *CloudStack) ServeMetadata(request string) string {
	_, path, header := readHead(request)
	c.mu.Lock()
	defer c.mu.Unlock()
	address := c.of(header)
	name, found := strings.CutPrefix(strings.TrimSuffix(path, "/"), "/latest/")
	body := ""
	switch {
	case !found:
	case name == "user-data": // RewriteRule ^user-data/?$
		body, found = c.userdata[address]
	case name == "meta-data": // RewriteRule ^meta-data/?$, the manifest of __createfile
		body, found = c.manifest(address)
	default: // RewriteRule ^meta-data/(.+[^/])/?$, and the names without it
		body, found = c.metadata[address][strings.TrimPrefix(name, "meta-data/")]
	}
	status := "200 OK"
	if !found {
		status, body = "404 Not Found", "<!DOCTYPE HTML PUBLIC \"-//IETF//DTD HTML 2.0//EN\">\n"
	}
	return fmt.Sprintf("HTTP/1.1 %s\r\nDate: Tue, 24 Nov 2026 20:00:00 GMT\r\nServer: Apache/2.4.62 (Debian)\r\n"+
		"Last-Modified: Tue, 24 Nov 2026 19:00:00 GMT\r\nETag: \"6-1\"\r\nAccept-Ranges: bytes\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s",
		status, len(body), body)
}

// CloudStackNames are the names in the order in which
// CommandSetupHelper.generateVmDataCommand adds them.
var CloudStackNames = []string{
	"service-offering", "availability-zone", "local-ipv4", "local-hostname", "public-ipv4", "public-hostname",
	"instance-id", "vm-id", "public-keys", "cloud-identifier", "hypervisor-host-name",
}

func (c *CloudStack) manifest(address string) (string, bool) {
	files, found := c.metadata[address]
	var lines strings.Builder
	for _, name := range CloudStackNames {
		if _, has := files[name]; has {
			lines.WriteString(name + "\n")
		}
	}
	if _, has := files["role"]; has { // what a user gave beside the user data
		lines.WriteString("role\n")
	}
	return lines.String(), found
}

func (c *CloudStack) of(header map[string]string) string {
	if address := header["x-forwarded-for"]; address != "" {
		return address
	}
	return c.Direct
}

// readHead reads a request's head; a header's first line counts, as for Python.
func readHead(request string) (method, path string, header map[string]string) {
	head, _, _ := strings.Cut(request, "\r\n\r\n")
	line, rest, _ := strings.Cut(head, "\r\n")
	method, path, _ = strings.Cut(line, " ")
	path, _, _ = strings.Cut(path, " ")
	header = make(map[string]string)
	for line := range strings.SplitSeq(rest, "\r\n") {
		name, value, _ := strings.Cut(line, ":")
		if _, again := header[strings.ToLower(name)]; !again {
			header[strings.ToLower(name)] = strings.TrimLeft(value, " \t")
		}
	}
	return method, path, header
}
