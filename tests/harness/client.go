// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// patience is how long a client waits for anything.
const patience = 30 * time.Second

// Client is a raw connection: a test says what is sent, in which pieces and
// when, and how it ends.
type Client struct {
	conn   net.Conn
	reader *bufio.Reader
}

// Dial connects from a local address of the loopback range; an empty one is
// the usual.
func Dial(tb testing.TB, from, address string) *Client {
	tb.Helper()
	conn := dial(tb, from, address)
	return &Client{conn: conn, reader: bufio.NewReader(conn)}
}

// DialTLS is Dial with TLS.
func DialTLS(tb testing.TB, from, address string, config *tls.Config) *Client {
	tb.Helper()
	conn := handshake(tb, dial(tb, from, address), config)
	return &Client{conn: conn, reader: bufio.NewReader(conn)}
}

func handshake(tb testing.TB, conn net.Conn, config *tls.Config) net.Conn {
	tb.Helper()
	secured := tls.Client(conn, config)
	if err := secured.Handshake(); err != nil {
		tb.Fatal(err)
	}
	return secured
}

func dial(tb testing.TB, from, address string) net.Conn {
	tb.Helper()
	dialer := net.Dialer{Timeout: patience}
	if from != "" {
		dialer.LocalAddr = &net.TCPAddr{IP: net.ParseIP(from)}
	}
	conn, err := dialer.Dial("tcp", address)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(patience))
	return conn
}

// Send sends every piece in a packet of its own. A server that has seen enough
// may be gone already, which the answer tells, so an error is none of the
// test's.
func (c *Client) Send(pieces ...string) *Client {
	for _, piece := range pieces {
		if _, err := io.WriteString(c.conn, piece); err != nil {
			break
		}
	}
	return c
}

// Trickle sends one byte at a time until all are sent or the server is gone,
// and gives the number of bytes. It may run in a goroutine of its own.
func (c *Client) Trickle(text string, every time.Duration) int {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for i := range len(text) {
		if _, err := io.WriteString(c.conn, text[i:i+1]); err != nil {
			return i
		}
		<-ticker.C
	}
	return len(text)
}

// End says that nothing more will be sent, and still reads.
func (c *Client) End() *Client {
	_ = c.conn.(*net.TCPConn).CloseWrite()
	return c
}

// Reset breaks the connection off.
func (c *Client) Reset() {
	_ = c.conn.(*net.TCPConn).SetLinger(0)
	_ = c.conn.Close()
}

// Answer reads one answer to a request of this method; 100 is one.
func (c *Client) Answer(method string) Answer {
	response, err := http.ReadResponse(c.reader, &http.Request{Method: method})
	if err != nil {
		return Answer{Err: err}
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if response.Close { // ReadResponse took it out of the header
		response.Header.Set("Connection", "close")
	}
	return Answer{
		Status: response.StatusCode, Header: response.Header, Body: string(body),
		Chunked: len(response.TransferEncoding) > 0, Err: err,
	}
}

// Rest gives what still comes until the server closes the connection, and
// whether it does.
func (c *Client) Rest() (rest string, closed bool) {
	data, err := io.ReadAll(c.reader)
	return string(data), !errors.Is(err, os.ErrDeadlineExceeded)
}

// Renew gives the connection its time anew, where it waited for something else.
func (c *Client) Renew() *Client {
	_ = c.conn.SetDeadline(time.Now().Add(patience))
	return c
}

// Silent tells whether nothing comes for a while and the connection stays.
func (c *Client) Silent(while time.Duration) bool {
	_ = c.conn.SetReadDeadline(time.Now().Add(while))
	defer func() { _ = c.conn.SetReadDeadline(time.Now().Add(patience)) }()
	_, err := c.reader.Peek(1)
	return errors.Is(err, os.ErrDeadlineExceeded)
}

// H2 is an HTTP/2 connection whose frames a test writes by hand, right or
// wrong.
type H2 struct {
	*http2.Framer
}

// DialH2 connects and greets. Without a TLS configuration it does so with
// prior knowledge, on plain TCP.
func DialH2(tb testing.TB, from, address string, config *tls.Config) *H2 {
	tb.Helper()
	conn := dial(tb, from, address)
	if config != nil {
		config = config.Clone()
		config.NextProtos = []string{"h2"}
		conn = handshake(tb, conn, config)
	}
	c := &H2{http2.NewFramer(conn, conn)}
	c.AllowIllegalWrites = true
	c.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		tb.Fatal(err)
	}
	if err := c.WriteSettings(); err != nil {
		tb.Fatal(err)
	}
	for { // the server greets with its settings, which want an answer
		frame, err := c.ReadFrame()
		if err != nil {
			tb.Fatal(err)
		}
		if settings, ok := frame.(*http2.SettingsFrame); ok && !settings.IsAck() {
			if err := c.WriteSettingsAck(); err != nil {
				tb.Fatal(err)
			}
			return c
		}
	}
}

// Head sends a header block: names and values in turn. It may be a trailer.
func (c *H2) Head(stream uint32, end bool, fields ...string) *H2 {
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	for i := 0; i < len(fields); i += 2 {
		_ = encoder.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	_ = c.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: end})
	return c
}

// Body sends every piece in a frame of its own; the last one may end the
// stream.
func (c *H2) Body(stream uint32, end bool, pieces ...string) *H2 {
	for i, piece := range pieces {
		_ = c.WriteData(stream, end && i == len(pieces)-1, []byte(piece))
	}
	return c
}

// Trickle sends one byte a frame until all are sent or the server is gone. It
// may run in a goroutine of its own.
func (c *H2) Trickle(stream uint32, text string, every time.Duration) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for i := range len(text) {
		if c.WriteData(stream, false, []byte(text[i:i+1])) != nil {
			return
		}
		<-ticker.C
	}
}

// Cancel resets a stream.
func (c *H2) Cancel(stream uint32) { _ = c.WriteRSTStream(stream, http2.ErrCodeCancel) }

// Answer reads until a stream has its answer, or the reason why it gets none.
func (c *H2) Answer(stream uint32) (answer Answer) {
	for {
		frame, err := c.ReadFrame()
		if err != nil {
			answer.Err = err
			return answer
		}
		ended := false
		switch frame := frame.(type) {
		case *http2.GoAwayFrame:
			answer.Err = fmt.Errorf("GOAWAY %v", frame.ErrCode)
			return answer
		case *http2.RSTStreamFrame:
			if frame.StreamID == stream {
				answer.Err = fmt.Errorf("RST_STREAM %v", frame.ErrCode)
				return answer
			}
		case *http2.MetaHeadersFrame:
			if frame.StreamID != stream {
				continue
			}
			answer.Header = make(http.Header)
			answer.Status, _ = strconv.Atoi(frame.PseudoValue("status"))
			for _, field := range frame.RegularFields() {
				answer.Header.Add(field.Name, field.Value)
			}
			ended = frame.StreamEnded() && answer.Status != http.StatusContinue
		case *http2.DataFrame:
			if frame.StreamID == stream {
				answer.Body += string(frame.Data())
				ended = frame.StreamEnded()
			}
		}
		if ended {
			return answer
		}
	}
}
