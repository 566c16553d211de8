// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// maxBody is the longest answer that is read, in bytes.
const maxBody = 16 << 20

// errHeld says that the server took the request and has not answered yet.
var errHeld = errors.New("no answer yet")

// target is the deployment under test.
type target struct {
	address string // host:port
	host    string // the Host header
	tls     bool
	timeout time.Duration
	// extra headers are what the deployment needs beside the client's, such as
	// an Authorization. They are never printed.
	extra []header
}

// parseTarget reads --target: a scheme, a host and perhaps a port.
func parseTarget(text string) (*target, error) {
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return nil, errors.New("--target is no http or https URL")
	}
	if strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return nil, errors.New("--target is only a scheme, a host and a port: the clients know their paths")
	}
	t := &target{host: u.Host, tls: u.Scheme == "https"}
	port := u.Port()
	if port == "" {
		port = map[bool]string{false: "80", true: "443"}[t.tls]
	}
	t.address = net.JoinHostPort(u.Hostname(), port)
	return t, nil
}

// request is one request as it goes on the wire.
type request struct {
	method, target string
	headers        []header
	body           string
	hasBody        bool
}

// answer is what came back.
type answer struct {
	status int
	header http.Header
	body   string
}

// send writes exactly the request and reads one answer, on a connection of its
// own: http.Client would add headers, and follow redirects. A patience longer
// than zero ends the wait with errHeld.
func (t *target) send(ctx context.Context, r request, patience time.Duration) (*answer, error) {
	ctx, cancel := context.WithTimeout(ctx, t.timeout)
	defer cancel()
	conn, err := t.dial(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	if _, err := io.WriteString(conn, t.wire(r)); err != nil {
		return nil, describe(ctx, err)
	}
	reader := bufio.NewReader(conn)
	if patience > 0 {
		_ = conn.SetReadDeadline(time.Now().Add(patience))
		if _, err := reader.Peek(1); isTimeout(err) {
			return nil, errHeld
		}
		_ = conn.SetReadDeadline(time.Time{})
	}
	got, err := readAnswer(reader, r.method)
	return got, describe(ctx, err)
}

func (t *target) dial(ctx context.Context) (net.Conn, error) {
	var conn net.Conn
	var err error
	if t.tls {
		conn, err = new(tls.Dialer).DialContext(ctx, "tcp", t.address)
	} else {
		conn, err = new(net.Dialer).DialContext(ctx, "tcp", t.address)
	}
	return conn, describe(ctx, err)
}

// wire is the request, byte for byte. Host comes first unless the transcript
// has its own, and Content-Length only where there is a body or the client says
// so.
func (t *target) wire(r request) string {
	var text strings.Builder
	fmt.Fprintf(&text, "%s %s HTTP/1.1\r\n", r.method, r.target)
	all := make([]header, 0, len(r.headers)+len(t.extra)+2)
	if !has(r.headers, "Host") && !has(t.extra, "Host") {
		all = append(all, header{"Host", t.host})
	}
	all = append(append(all, r.headers...), t.extra...)
	if r.hasBody && !has(all, "Content-Length") {
		all = append(all, header{"Content-Length", strconv.Itoa(len(r.body))})
	}
	for _, h := range all {
		fmt.Fprintf(&text, "%s: %s\r\n", h.name, h.value)
	}
	return text.String() + "\r\n" + r.body
}

func has(headers []header, name string) bool {
	for _, h := range headers {
		if strings.EqualFold(h.name, name) {
			return true
		}
	}
	return false
}

// readAnswer reads one answer whole. Informational ones are passed over.
func readAnswer(reader *bufio.Reader, method string) (*answer, error) {
	for {
		response, err := http.ReadResponse(reader, &http.Request{Method: method})
		if err != nil {
			return nil, err
		}
		body, err := io.ReadAll(io.LimitReader(response.Body, maxBody+1))
		_ = response.Body.Close()
		switch {
		case err != nil:
			return nil, err
		case len(body) > maxBody:
			return nil, errors.New("too long")
		case response.StatusCode/100 != 1:
			return &answer{status: response.StatusCode, header: response.Header, body: string(body)}, nil
		}
	}
}

// describe says what went wrong in a few words that hold nothing of the
// request or of the answer.
func describe(ctx context.Context, err error) error {
	var operation *net.OpError
	switch {
	case err == nil:
		return nil
	case errors.Is(ctx.Err(), context.DeadlineExceeded), isTimeout(err):
		return errors.New("no answer in time")
	case errors.As(err, &operation) && operation.Op == "dial":
		return errors.New("no connection")
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("the answer was cut")
	case errors.As(err, &operation):
		return errors.New("the connection broke")
	default:
		return errors.New("no HTTP answer")
	}
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}
