// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"syscall"
	"testing"
	"time"
)

// Answer is what came back on a raw connection.
type Answer struct {
	Status int
	Header http.Header
	Body   string
	// Chunked tells that the body came in chunks.
	Chunked bool
	// Err is why no whole answer came, if none did.
	Err error
}

// Raw sends bytes as they are on a connection of their own and reads one
// answer.
func Raw(tb testing.TB, address, request string) Answer {
	tb.Helper()
	return RawFrom(tb, "", address, request)
}

// RawFrom is Raw from a local address of the loopback range.
func RawFrom(tb testing.TB, from, address, request string) Answer {
	tb.Helper()
	dialer := net.Dialer{Timeout: 10 * time.Second}
	if from != "" {
		dialer.LocalAddr = &net.TCPAddr{IP: net.ParseIP(from)}
	}
	conn, err := dialer.Dial("tcp", address)
	if errors.Is(err, syscall.ECONNRESET) {
		return Answer{Err: err} // the old listener's queue, in a reload
	}
	if err != nil {
		tb.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	if _, err := io.WriteString(conn, request); err != nil {
		return Answer{Err: err}
	}
	return ReadAnswer(bufio.NewReader(conn), request)
}

// ReadAnswer reads one answer to request.
func ReadAnswer(reader *bufio.Reader, request string) Answer {
	method := http.MethodGet
	if len(request) >= 5 && request[:5] == "HEAD " {
		method = http.MethodHead
	}
	response, err := http.ReadResponse(reader, &http.Request{Method: method})
	if err != nil {
		return Answer{Err: err}
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return Answer{Status: response.StatusCode, Header: response.Header, Body: string(body), Err: err}
}
