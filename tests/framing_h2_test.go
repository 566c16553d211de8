// SPDX-License-Identifier: Apache-2.0

package tests

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/metaguard/metaguard/tests/harness"
)

// h2 is the head of a request: pseudo-headers and what stands behind them.
func h2(method, path string, more ...string) []string {
	return append([]string{":method", method, ":scheme", "http", ":authority", "m", ":path", path}, more...)
}

func h2Post(more ...string) []string { return h2("POST", "/openstack/latest/password", more...) }

func h2Get(more ...string) []string { return h2("GET", "/openstack/latest/user_data", more...) }

// framesOf sends a head and a body in frames, and ends the stream.
func framesOf(head []string, pieces ...string) func(c *harness.H2) {
	return func(c *harness.H2) { c.Head(1, len(pieces) == 0, head...).Body(1, true, pieces...) }
}

// h2Rows is the matrix of framing in HTTP/2. A row without a status has no
// answer but the one in err.
var h2Rows = []struct {
	name   string
	send   func(c *harness.H2)
	status int
	reason string
	body   string // what arrives of a password
	err    string // how the stream, or the connection, ends
	last   bool   // what is sent too late may end the connection
}{
	{name: "length", send: framesOf(h2Post("content-length", "5"), "hello"), status: 200, body: "hello"},
	{name: "no length", send: framesOf(h2Post(), "hello"), status: 200, body: "hello"},
	{name: "frames of one byte and none", send: framesOf(h2Post("content-length", "5"), "h", "", "e", "l", "", "l", "o", ""), status: 200, body: "hello"},
	{name: "padded", send: func(c *harness.H2) {
		c.Head(1, false, h2Post("content-length", "5")...)
		_ = c.WriteDataPadded(1, false, []byte("he"), make([]byte, 200))
		_ = c.WriteDataPadded(1, true, []byte("llo"), make([]byte, 99))
	}, status: 200, body: "hello"},
	{name: "1,020", send: framesOf(h2Post("content-length", "1020"), inPieces(passwordOf(1020), 100)...), status: 200, body: passwordOf(1020)},
	{name: "1,020, no length", send: framesOf(h2Post(), inPieces(passwordOf(1020), 7)...), status: 200, body: passwordOf(1020)},
	{name: "1,021", send: framesOf(h2Post("content-length", "1021"), passwordOf(1021)), status: 413, reason: "body_too_large"},
	{name: "1,021, no length", send: framesOf(h2Post(), passwordOf(1021)), status: 413, reason: "body_too_large"},
	{name: "5,000, no length", send: framesOf(h2Post(), passwordOf(5000)), status: 413, reason: "body_too_large"},
	{name: "10 MB that never come", send: func(c *harness.H2) { c.Head(1, false, h2Post("content-length", "10000000")...) }, status: 413, reason: "body_too_large"},
	{name: "10 MB that never come, no length", send: func(c *harness.H2) {
		c.Head(1, false, h2Post()...).Body(1, false, inPieces(passwordOf(60000), 10000)...)
	}, status: 413, reason: "body_too_large"},
	{name: "empty", send: framesOf(h2Post("content-length", "0")), status: 400, reason: "password_empty"},
	{name: "empty, no length", send: framesOf(h2Post()), status: 400, reason: "password_empty"},
	{name: "empty frame", send: framesOf(h2Post(), ""), status: 400, reason: "password_empty"},

	{name: "length too long", send: framesOf(h2Post("content-length", "9"), "hello"), status: 400, reason: "body_incomplete"},
	{name: "length too short", send: framesOf(h2Post("content-length", "3"), "hello"), err: "PROTOCOL_ERROR"},
	{name: "length too short, in the second frame", send: framesOf(h2Post("content-length", "3"), "hel", "lo"), err: "PROTOCOL_ERROR"},
	{name: "length 0, and a body", send: framesOf(h2Post("content-length", "0"), "hello"), err: "PROTOCOL_ERROR"},
	{name: "length, and no body", send: framesOf(h2Post("content-length", "5")), status: 400, reason: "password_empty"},
	{name: "two lengths", send: framesOf(h2Post("content-length", "5", "content-length", "6"), "hello"), status: 400, reason: "header_refused"},
	{name: "two lengths, the same", send: framesOf(h2Post("content-length", "5", "content-length", "5"), "hello"), status: 400, reason: "header_refused"},
	{name: "list of lengths", send: framesOf(h2Post("content-length", "5, 5"), "hello"), err: "PROTOCOL_ERROR"},
	{name: "length +5", send: framesOf(h2Post("content-length", "+5"), "hello"), err: "PROTOCOL_ERROR"},
	{name: "length -1", send: framesOf(h2Post("content-length", "-1"), "hello"), err: "PROTOCOL_ERROR"},
	{name: "length 0x5", send: framesOf(h2Post("content-length", "0x5"), "hello"), err: "PROTOCOL_ERROR"},
	{name: "length 5_0", send: framesOf(h2Post("content-length", "5_0"), "hello"), err: "PROTOCOL_ERROR"},
	{name: "length 2^64+5", send: framesOf(h2Post("content-length", "18446744073709551621"), "hello"), err: "PROTOCOL_ERROR"},
	{name: "length empty", send: framesOf(h2Post("content-length", ""), "hello"), err: "PROTOCOL_ERROR"},
	{name: "length with a blank", send: framesOf(h2Post("content-length", " 5"), "hello"), err: "PROTOCOL_ERROR"},
	{name: "length in capitals", send: framesOf(h2Post("Content-Length", "5"), "hello"), err: "PROTOCOL_ERROR"},
	{name: "underscores", send: framesOf(h2Post("content_length", "3", "transfer_encoding", "chunked"), "hello"), status: 200, body: "hello"},
	{name: "dots", send: framesOf(h2Post("content.length", "3", "transfer.encoding", "chunked"), "hello"), status: 200, body: "hello"},
	{name: "chunk framing is a body", send: framesOf(h2Post(), "5\r\nhello\r\n0\r\n\r\n"), status: 200, body: "5\r\nhello\r\n0\r\n\r\n"},

	{name: "transfer-encoding", send: framesOf(h2Post("transfer-encoding", "chunked"), "hello"), status: 400},
	{name: "transfer-encoding: identity", send: framesOf(h2Post("transfer-encoding", "identity"), "hello"), status: 400},
	{name: "connection", send: framesOf(h2Post("connection", "close"), "hello"), status: 400},
	{name: "keep-alive", send: framesOf(h2Post("keep-alive", "1"), "hello"), status: 400},
	{name: "upgrade", send: framesOf(h2Post("upgrade", "h2c"), "hello"), status: 400},
	{name: "te: gzip", send: framesOf(h2Post("te", "gzip"), "hello"), status: 400},
	{name: "te: trailers", send: framesOf(h2Post("te", "trailers"), "hello"), status: 200, body: "hello"},
	{name: "expect", send: framesOf(h2Post("expect", "100-continue"), "hello"), status: 200, body: "hello"},
	{name: "unknown expect", send: framesOf(h2Post("expect", "x"), "hello"), status: 200, body: "hello"},

	{name: "trailer", send: func(c *harness.H2) {
		c.Head(1, false, h2Post()...).Body(1, false, "hello").Head(1, true, "x-t", "1", "content-length", "3", "x-instance-id", instance2)
	}, status: 200, body: "hello"},
	{name: "declared trailer with an identity", send: func(c *harness.H2) {
		c.Head(1, false, h2Post("trailer", "x-instance-id")...).Body(1, false, "hello").Head(1, true, "x-instance-id", instance2)
	}, status: 400, reason: "header_refused", last: true},
	{name: "trailer that ends nothing", send: func(c *harness.H2) {
		c.Head(1, false, h2Post()...).Body(1, false, "hello").Head(1, false, "x-t", "1")
	}, err: "PROTOCOL_ERROR"},
	{name: "pseudo-header in the trailer", send: func(c *harness.H2) {
		c.Head(1, false, h2Post()...).Body(1, false, "hello").Head(1, true, ":path", "/openstack")
	}, err: "PROTOCOL_ERROR"},
	{name: "never ended, with a length", send: func(c *harness.H2) {
		c.Head(1, false, h2Post("content-length", "5")...).Body(1, false, "hello")
	}, status: 408, reason: "body_timeout"},
	{name: "never ended, no length", send: func(c *harness.H2) { c.Head(1, false, h2Post()...).Body(1, false, "hello") }, status: 408, reason: "body_timeout"},
	{name: "head alone", send: func(c *harness.H2) { c.Head(1, false, h2Post()...) }, status: 408, reason: "body_timeout"},

	{name: "GET, never ended", send: func(c *harness.H2) { c.Head(1, false, h2Get()...) }, status: 400, reason: "body_unexpected"},
	{name: "GET with an empty frame", send: framesOf(h2Get(), ""), status: 400, reason: "body_unexpected"},
	{name: "GET with a body", send: framesOf(h2Get("content-length", "1"), "x"), status: 400, reason: "body_unexpected"},
	{name: "POST elsewhere", send: framesOf(h2("POST", "/openstack/latest/user_data"), "x"), status: 405, reason: "method_not_allowed"},
	{name: "CONNECT", send: func(c *harness.H2) { c.Head(1, false, ":method", "CONNECT", ":authority", "m:80") }, status: 405, reason: "method_not_allowed"},
	{name: "extended CONNECT", send: framesOf(h2("CONNECT", "/openstack", ":protocol", "websocket")), err: "PROTOCOL_ERROR"},
	{name: "no path", send: framesOf([]string{":method", "GET", ":scheme", "http", ":authority", "m"}), err: "PROTOCOL_ERROR"},
	{name: "two paths", send: framesOf(h2Get(":path", "/openstack")), err: "PROTOCOL_ERROR"},
	{name: "path behind a header", send: framesOf([]string{":method", "GET", ":scheme", "http", "x", "y", ":path", "/"}), err: "PROTOCOL_ERROR"},
	{name: "relative path", send: framesOf(h2("GET", "openstack")), err: "PROTOCOL_ERROR"},
	{name: "absolute path", send: framesOf(h2("GET", "http://m/openstack")), err: "PROTOCOL_ERROR"},
	{name: "blank in the path", send: framesOf(h2("GET", "/open stack")), status: 400, reason: "request_ambiguous"},
	{name: "request line in the path", send: framesOf(h2("GET", "/openstack HTTP/1.1\r\nX-Instance-ID: x")), err: "PROTOCOL_ERROR"},
	{name: "OPTIONS *", send: framesOf(h2("OPTIONS", "*")), status: 200}, // Go's, as in HTTP/1.1
	{name: "header in a value", send: framesOf(h2Get("accept", "a\r\nX-Instance-ID: x")), err: "PROTOCOL_ERROR"},
	{name: "header in a name", send: framesOf(h2Get("accept: a\r\nx-instance-id", "x")), err: "PROTOCOL_ERROR"},
	{name: "NUL in a value", send: framesOf(h2Get("accept", "a\x00")), err: "PROTOCOL_ERROR"},
	{name: "slash in the authority", send: framesOf([]string{":method", "GET", ":scheme", "http", ":authority", "m/n", ":path", "/"}), err: "PROTOCOL_ERROR"},
	{name: "another host beside the authority", send: framesOf(h2Get("host", "n")), err: "PROTOCOL_ERROR"},
	{name: "unknown pseudo-header", send: framesOf(h2Get(":x", "y")), err: "PROTOCOL_ERROR"},
}

// In HTTP/2 frames say where a body ends. What arrives is what HTTP/1.1 would
// have brought, or nothing. A site without a word about protocols speaks it
// too, on plain TCP, to clients that begin with it.
func TestFramingH2(t *testing.T) {
	t.Parallel()
	for name, protocols := range map[string]string{"default": "", "h2c": "servers {\n\t\tprotocols h1 h2c\n\t}"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := prepareFramed(t, "body_timeout 1s", nil)
			f.edit(t, "Caddyfile", "admin off", "admin off\n\t"+protocols)
			f.Run(f.address)
			for _, row := range h2Rows {
				t.Run(row.name, func(t *testing.T) {
					from := f.caller(t)
					client := harness.DialH2(t, from, f.address, nil)
					row.send(client)
					answer := client.Answer(1)
					if row.err != "" {
						if answer.Status != 0 || !strings.HasSuffix(fmt.Sprint(answer.Err), row.err) {
							t.Errorf("got %d %q %v, want %s", answer.Status, answer.Body, answer.Err, row.err)
						}
						f.wantArrived(t)
						return
					}
					if row.body != "" || row.status != 200 {
						f.judge(t, answer, framing{status: row.status, reason: row.reason})
					}
					if row.body != "" {
						f.wantArrived(t, f.written("2.0", from, row.body))
					} else {
						f.wantArrived(t)
					}
					if row.last {
						return
					}
					// The connection serves others, whatever became of this stream.
					if answer := client.Head(3, true, h2Get()...).Answer(3); answer.Status != 200 {
						t.Errorf("then %d %q %v", answer.Status, answer.Body, answer.Err)
					}
					f.wantArrived(t, strings.Replace(f.read(from), "Via: 1.1", "Via: 2.0", 1))
				})
			}
			t.Run("reset", func(t *testing.T) {
				before := len(f.decisions(t, 0))
				client := harness.DialH2(t, f.caller(t), f.address, nil)
				client.Head(1, false, h2Post("content-length", "5")...).Body(1, false, "hel")
				client.Cancel(1)
				f.Eventually("the line of what was reset", func() bool { // those of others may be late
					return slices.ContainsFunc(f.decisions(t, before+1)[before:], func(line map[string]any) bool {
						return line["reason"] == "body_incomplete" && line["outcome"] == "aborted"
					})
				})
				f.wantArrived(t)
			})
			t.Run("body after the end", func(t *testing.T) { // the answer and the reset of the stream race
				client := harness.DialH2(t, f.caller(t), f.address, nil)
				answer := client.Head(1, true, h2Post("content-length", "5")...).Body(1, true, "hello").Answer(1)
				if answer.Status != 400 && fmt.Sprint(answer.Err) != "RST_STREAM STREAM_CLOSED" {
					t.Errorf("%d %q %v", answer.Status, answer.Body, answer.Err)
				}
				f.wantArrived(t)
			})
			t.Run("two streams by turns", func(t *testing.T) {
				from := f.caller(t)
				client := harness.DialH2(t, from, f.address, nil)
				client.Head(1, false, h2Post()...).Body(1, false, "he").Head(3, true, h2Get()...)
				if answer := client.Answer(3); answer.Status != 200 {
					t.Errorf("%d %q %v", answer.Status, answer.Body, answer.Err)
				}
				if answer := client.Body(1, true, "llo").Answer(1); answer.Status != 200 {
					t.Errorf("%d %q %v", answer.Status, answer.Body, answer.Err)
				}
				f.wantArrived(t, strings.Replace(f.read(from), "Via: 1.1", "Via: 2.0", 1), f.written("2.0", from, "hello"))
			})
		})
	}
}

// Where it is not wanted, the protocols of the site can do without it.
func TestFramingH1Only(t *testing.T) {
	t.Parallel()
	f := prepareFramed(t, "", nil)
	f.edit(t, "Caddyfile", "admin off", "admin off\n\tservers {\n\t\tprotocols h1\n\t}")
	f.Run(f.address)
	client := harness.Dial(t, f.caller(t), f.address).Send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "\x00\x00\x00\x04\x00\x00\x00\x00\x00")
	if rest, closed := client.Rest(); rest != "" || !closed {
		t.Errorf("got %q, closed: %t", rest, closed)
	}
	f.checkAll(t, []framing{{name: "h1", send: postLine + withLength("hello"), status: 200, body: "hello"}})
}

// The same over TLS, where HTTP/2 is what clients choose by themselves.
func TestFramingTLS(t *testing.T) {
	t.Parallel()
	certificate, key, pool := selfSigned(t)
	f := prepareFramed(t, "body_timeout 1s", map[string]string{"cert.pem": certificate, "key.pem": key})
	f.edit(t, "Caddyfile", "admin off", "admin off\n\tauto_https disable_redirects\n\tskip_install_trust")
	f.edit(t, "Caddyfile", "http://:", "https://:")
	f.edit(t, "Caddyfile", "bind 127.0.0.1", fmt.Sprintf("bind 127.0.0.1\n\ttls %[1]s/cert.pem %[1]s/key.pem", f.Dir))
	f.Run(f.address)
	config := &tls.Config{RootCAs: pool, ServerName: "metadata"}

	names := []string{
		"frames of one byte and none", "1,020, no length", "1,021", "10 MB that never come", "length too long", "length too short",
		"two lengths", "transfer-encoding", "trailer", "never ended, no length", "underscores",
	}
	seen := 0
	for _, row := range h2Rows {
		if !slices.Contains(names, row.name) {
			continue
		}
		seen++
		t.Run(row.name, func(t *testing.T) {
			from := f.caller(t)
			client := harness.DialH2(t, from, f.address, config)
			row.send(client)
			answer := client.Answer(1)
			switch {
			case row.err != "":
				if !strings.HasSuffix(fmt.Sprint(answer.Err), row.err) {
					t.Errorf("got %d %q %v, want %s", answer.Status, answer.Body, answer.Err, row.err)
				}
				f.wantArrived(t)
			case row.body != "":
				f.judge(t, answer, framing{status: row.status})
				f.wantArrived(t, f.written("2.0", from, row.body))
			default:
				f.judge(t, answer, framing{status: row.status, reason: row.reason})
				f.wantArrived(t)
			}
		})
	}
	if seen != len(names) {
		t.Errorf("%d of %d rows exist", seen, len(names))
	}

	config.NextProtos = []string{"http/1.1"}
	for _, row := range []framing{
		{name: "length", send: postLine + withLength("hello"), status: 200, body: "hello"},
		{name: "chunked", send: postLine + chunked("hello", ";x", 2), status: 200, body: "hello"},
		{name: "too large", send: postLine + "Content-Length: 5000\r\n\r\n", status: 413, reason: "body_too_large"},
		{name: "xchunked", send: postLine + "Transfer-Encoding: xchunked\r\n\r\n", status: 501},
		{name: "slow", send: postLine + "Content-Length: 5\r\n\r\nhell", status: 408, reason: "body_timeout"},
	} {
		t.Run("HTTP/1.1, "+row.name, func(t *testing.T) {
			from := f.caller(t)
			client := harness.DialTLS(t, from, f.address, config)
			f.judge(t, client.Send(row.send).Answer("POST"), row)
			if row.status == 200 {
				f.wantArrived(t, f.written("1.1", from, row.body))
			} else {
				f.wantArrived(t)
			}
		})
	}
	t.Run("no TLS", func(t *testing.T) { // Go says so by itself
		answer := harness.Dial(t, f.caller(t), f.address).Send(postLine + withLength("hello")).Answer("POST")
		f.judge(t, answer, framing{status: 400})
		f.wantArrived(t)
	})
}

// selfSigned makes a certificate for the name metadata.
func selfSigned(t *testing.T) (certificate, key string, pool *x509.CertPool) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"metadata"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	privateDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	certificate = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	key = string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: privateDER}))
	pool = x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(certificate))
	return certificate, key, pool
}
