// SPDX-License-Identifier: Apache-2.0

package tests

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// clientLimit is how long a client waits for one answer.
const clientLimit = 30 * time.Second

// reply is one answer as a client read it, after its form was checked.
type reply struct {
	status int
	header http.Header
	body   string
}

// id is the answer's decision id.
func (r reply) id() string { return r.header.Get("X-Metaguard-Decision") }

// asker is a client of one version of HTTP. An error says what of an answer's
// form was wrong.
type asker interface {
	ask(method, path, agent string) (reply, error)
	// end makes sure that nothing came behind the last answer.
	end() error
}

// askers are the clients that every answer is shown to.
func askers(address string) map[string]asker {
	return map[string]asker{
		"HTTP/1.0": &http10{address: address},
		"HTTP/1.1": &http11{address: address},
		"HTTP/2":   newHTTP2(address),
	}
}

// http10 opens a connection for each request, at whose end nothing may follow.
type http10 struct{ address string }

func (c *http10) ask(method, path, agent string) (reply, error) {
	conn, err := net.Dial("tcp", c.address)
	if err != nil {
		return reply{}, err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(clientLimit))
	if _, err := fmt.Fprintf(conn, "%s %s HTTP/1.0\r\nHost: m\r\nUser-Agent: %s\r\n\r\n", method, path, agent); err != nil {
		return reply{}, err
	}
	reader := bufio.NewReader(conn)
	answer, err := readMessage(reader, "HTTP/1.0", method)
	if err != nil {
		return answer, err
	}
	return answer, atEnd(reader)
}

func (*http10) end() error { return nil }

// http11 sends one request after the other on one connection, so that a byte
// too many or too few spoils the next answer.
type http11 struct {
	address string
	conn    net.Conn
	reader  *bufio.Reader
}

func (c *http11) ask(method, path, agent string) (reply, error) {
	if c.conn == nil {
		conn, err := net.Dial("tcp", c.address)
		if err != nil {
			return reply{}, err
		}
		c.conn, c.reader = conn, bufio.NewReader(conn)
	}
	_ = c.conn.SetDeadline(time.Now().Add(clientLimit))
	if _, err := fmt.Fprintf(c.conn, "%s %s HTTP/1.1\r\nHost: m\r\nUser-Agent: %s\r\n\r\n", method, path, agent); err != nil {
		return reply{}, err
	}
	return readMessage(c.reader, "HTTP/1.1", method)
}

// end asks for what no policy allows, whose answer must be the next one.
func (c *http11) end() error {
	if c.conn == nil {
		return nil
	}
	defer func() { _ = c.conn.Close(); c.conn = nil }()
	_ = c.conn.SetDeadline(time.Now().Add(clientLimit))
	if _, err := io.WriteString(c.conn, "GET /nothing/there HTTP/1.1\r\nHost: m\r\nConnection: close\r\n\r\n"); err != nil {
		return err
	}
	answer, err := readMessage(c.reader, "HTTP/1.1", http.MethodGet)
	if err != nil {
		return fmt.Errorf("the next answer is out of step: %w", err)
	}
	if answer.status != http.StatusNotFound || !strings.Contains(answer.body, "policy_deny") {
		return fmt.Errorf("the next answer is out of step: %d %q", answer.status, answer.body)
	}
	return atEnd(c.reader)
}

// atEnd makes sure that the connection ends here.
func atEnd(reader *bufio.Reader) error {
	rest, err := io.ReadAll(reader)
	if len(rest) > 0 {
		return fmt.Errorf("behind the answer: %q", rest)
	}
	return err
}

// What a message is made of, strictly: blanks where they belong, CRLF, no
// control bytes, nothing folded.
var (
	statusLine = regexp.MustCompile(`^(HTTP/1\.[01]) ([2-5][0-9][0-9]) [ -~]*\r\n$`)
	headerLine = regexp.MustCompile(`^([A-Za-z0-9-]+): ([!-~](?:[ -~\t]*[!-~])?)?\r\n$`)
)

// readMessage reads exactly one answer. It is not net/http, which forgives: an
// answer has one status line, one Content-Length and nothing else that frames it.
func readMessage(reader *bufio.Reader, version, method string) (reply, error) {
	line, err := reader.ReadString('\n')
	if err != nil {
		return reply{}, fmt.Errorf("no status line: %q %w", line, err)
	}
	parts := statusLine.FindStringSubmatch(line)
	if parts == nil || parts[1] != version {
		return reply{}, fmt.Errorf("status line %q", line)
	}
	answer := reply{header: make(http.Header)}
	answer.status, _ = strconv.Atoi(parts[2])
	for {
		line, err := reader.ReadString('\n')
		if err != nil {
			return answer, fmt.Errorf("the head breaks off: %q %w", line, err)
		}
		if line == "\r\n" {
			break
		}
		parts := headerLine.FindStringSubmatch(line)
		if parts == nil {
			return answer, fmt.Errorf("header line %q", line)
		}
		answer.header.Add(parts[1], parts[2])
	}
	length, err := answer.checkHead()
	if err != nil {
		return answer, err
	}
	if method == http.MethodHead {
		return answer, nil
	}
	body := make([]byte, length)
	n, err := io.ReadFull(reader, body)
	answer.body = string(body[:n])
	if err != nil {
		return answer, fmt.Errorf("the body breaks off after %d of %d bytes: %w", n, length, err)
	}
	return answer, nil
}

// checkHead checks how the answer is framed, and gives its length.
func (r reply) checkHead() (int, error) {
	for _, name := range []string{"Transfer-Encoding", "Trailer", "Content-Encoding", "Content-Range", "Upgrade", "Location"} {
		if values := r.header.Values(name); len(values) > 0 {
			return 0, fmt.Errorf("%s: %q", name, values)
		}
	}
	if ids := r.header.Values("X-Metaguard-Decision"); len(ids) != 1 {
		return 0, fmt.Errorf("decision ids %q", ids)
	}
	lengths := r.header.Values("Content-Length")
	if r.status == http.StatusNoContent {
		if len(lengths) > 0 {
			return 0, fmt.Errorf("204 with Content-Length %q", lengths)
		}
		return 0, nil
	}
	if len(lengths) != 1 || !regexp.MustCompile(`^[0-9]+$`).MatchString(lengths[0]) {
		return 0, fmt.Errorf("lengths %q", lengths)
	}
	return strconv.Atoi(lengths[0])
}

// http2 speaks HTTP/2 from the first byte, on one connection.
type http2 struct {
	address string
	client  *http.Client
}

func newHTTP2(address string) *http2 {
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	return &http2{
		address: address,
		client:  &http.Client{Transport: &http.Transport{Protocols: protocols, DisableCompression: true}, Timeout: clientLimit},
	}
}

func (c *http2) ask(method, path, agent string) (reply, error) {
	request, err := http.NewRequest(method, "http://"+c.address+path, http.NoBody)
	if err != nil {
		return reply{}, err
	}
	request.Header.Set("User-Agent", agent)
	informational := 0
	request = request.WithContext(httptrace.WithClientTrace(request.Context(), &httptrace.ClientTrace{
		Got1xxResponse: func(code int, _ textproto.MIMEHeader) error {
			informational = code
			return nil
		},
	}))
	response, err := c.client.Transport.RoundTrip(request) // follows nothing
	if err != nil {
		return reply{}, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	answer := reply{status: response.StatusCode, header: response.Header, body: string(body)}
	switch length, wrong := answer.checkHead(); {
	case err != nil:
		return answer, fmt.Errorf("the body breaks off: %q %w", body, err)
	case wrong != nil:
		return answer, wrong
	case response.ProtoMajor != 2 || informational != 0 || len(response.Trailer) > 0:
		return answer, fmt.Errorf("%s, informational %d, trailers %v", response.Proto, informational, response.Trailer)
	case method == http.MethodHead && len(body) > 0:
		return answer, fmt.Errorf("HEAD with a body %q", body)
	case method != http.MethodHead && length != len(body):
		return answer, fmt.Errorf("%d bytes where %d were announced", len(body), length)
	}
	return answer, nil
}

func (c *http2) end() error {
	c.client.CloseIdleConnections()
	return nil
}

// The parser itself: what it must not take for one well-formed answer.
func TestReadMessage(t *testing.T) {
	const head = "HTTP/1.1 200 OK\r\nX-Metaguard-Decision: 1\r\n"
	for message, fine := range map[string]bool{
		head + "Content-Length: 3\r\n\r\nxyz":                                                       true,
		"HTTP/1.1 204 No Content\r\nX-Metaguard-Decision: 1\r\n\r\n":                                true,
		head + "Content-Length: 3\r\n\r\nxy":                                                        false,
		head + "Content-Length: 3\r\n\r\nxyzz":                                                      false,
		head + "\r\nxyz":                                                                            false,
		head + "Content-Length: 3\r\nContent-Length: 3\r\n\r\nxyz":                                  false,
		head + "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nxyz":                         false,
		head + "Content-Length : 3\r\n\r\nxyz":                                                      false,
		head + "Content-Length: 3\n\r\nxyz":                                                         false,
		"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nxyz":                                           false,
		"HTTP/1.1 103 Early Hints\r\n\r\n" + head + "Content-Length: 3\r\n\r\nxyz":                  false,
		"HTTP/1.1 204 No Content\r\nX-Metaguard-Decision: 1\r\nContent-Length: 0\r\n\r\n":           false,
		"HTTP/1.0 200 OK\r\nX-Metaguard-Decision: 1\r\nContent-Length: 3\r\n\r\nxyz":                false,
		"HTTP/1.1 200 OK\r\nX-Metaguard-Decision: 1\r\n folded\r\nContent-Length: 3\r\n\r\nxyz":     false,
		"HTTP/1.1 200 OK\r\nX-Metaguard-Decision: 1\r\nX-A: \x01\r\nContent-Length: 3\r\n\r\nxyz":   false,
		"HTTP/1.1 302 Found\r\nX-Metaguard-Decision: 1\r\nLocation: x\r\nContent-Length: 0\r\n\r\n": false,
	} {
		reader := bufio.NewReader(strings.NewReader(message))
		_, err := readMessage(reader, "HTTP/1.1", http.MethodGet)
		if err = errors.Join(err, atEnd(reader)); (err == nil) != fine {
			t.Errorf("%q: %v", message, err)
		}
	}
}
