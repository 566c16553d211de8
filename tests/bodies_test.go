// SPDX-License-Identifier: Apache-2.0

package tests

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/metaguard/metaguard/tests/harness"
)

// rsaResult looks like the result of an RSA key of that many bits: a number that
// no one can tell from an encrypted password without the private key.
func rsaResult(bits int) string {
	data := make([]byte, bits/8)
	_, _ = rand.Read(data)
	return base64.StdEncoding.EncodeToString(data)
}

// realResult is a password as an instance encrypts it, with a real key.
func realResult(t *testing.T, bits int) string {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	data, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, &key.PublicKey, []byte("hunter2"), nil)
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(data)
}

// nearMisses look like an RSA result and are none.
func nearMisses() map[string]string {
	whole := strings.Repeat("A", 342) + "=="
	return map[string]string{
		"a word":                      "hunter2",
		"one short":                   whole[1:],
		"one long":                    "A" + whole,
		"no padding":                  strings.TrimRight(whole, "="),
		"half the padding":            strings.TrimSuffix(whole, "="),
		"padding of one for two":      strings.Repeat("A", 343) + "=",
		"no padding, right size":      strings.Repeat("A", 344),
		"padding inside":              strings.Repeat("A", 100) + "=" + strings.Repeat("A", 241) + "==",
		"too much padding":            strings.Repeat("A", 341) + "===",
		"padding where none is":       strings.Repeat("A", 254) + "==",
		"unused bits":                 strings.Repeat("A", 341) + "B==",
		"URL alphabet":                "_" + strings.Repeat("A", 341) + "==",
		"URL alphabet, the minus":     "-" + strings.Repeat("A", 341) + "==",
		"bad letter":                  strings.Repeat("A", 100) + "*" + strings.Repeat("A", 241) + "==",
		"blank inside":                strings.Repeat("A", 100) + " " + strings.Repeat("A", 241) + "==",
		"blank before":                " " + whole[1:],
		"lines of 76":                 inLines(whole, 76, "\n"),
		"lines of 64, CRLF":           inLines(whole, 64, "\r\n"),
		"one line break":              whole[:172] + "\n" + whole[172:],
		"line break for a letter":     whole[:172] + "\n" + whole[173:],
		"CRLF at the end":             whole + "\r\n",
		"two line ends":               whole + "\n\n",
		"line end first":              "\n" + whole,
		"NUL at the end":              whole + "\x00",
		"NUL inside":                  strings.Repeat("A", 100) + "\x00" + strings.Repeat("A", 241) + "==",
		"1032 bits":                   strings.Repeat("A", 172),
		"512 bits":                    strings.Repeat("A", 86) + "==",
		"hexadecimal":                 strings.Repeat("0f", 172),
		"PEM":                         "-----BEGIN MESSAGE-----\n" + inLines(whole, 64, "\n") + "\n-----END MESSAGE-----\n",
		"in quotes":                   `"` + whole + `"`,
		"two in a row":                whole + whole,
		"full-width letters, one too": strings.Repeat("A", 339) + "\uff21" + "==",
	}
}

func inLines(text string, size int, end string) string {
	return strings.Join(inPieces(text, size), end)
}

// observing is a policy that tells in its codes what it sees of a body, and
// refuses everything.
const observing = `package metaguard.team

deny contains sprintf("%d bytes of %s, %d bits", [input.request.body.size, input.request.body.format, input.request.body.key_bits])
`

// A policy sees of a body its size, its format and for which key it is a
// result.
func TestPolicySeesBodies(t *testing.T) {
	t.Parallel()
	f := newFramed(t, "", map[string]string{"policy/team.rego": observing})
	bodies := map[string]string{ // what the policy sees: the body
		"1 bytes of text, 0 bits":   "x",
		"3 bytes of text, 0 bits":   "a\x00b",
		"6 bytes of text, 0 bits":   "äöü",
		"344 bytes of text, 0 bits": passwordOf(344),
	}
	for _, bits := range []int{1024, 1536, 2048, 3072, 4096} {
		body := rsaResult(bits)
		bodies[fmt.Sprintf("%d bytes of rsa_base64, %d bits", len(body), bits)] = body
		bodies[fmt.Sprintf("%d bytes of rsa_base64, %d bits", len(body)+1, bits)] = body + "\n"
	}
	sent := 0
	see := func(name, body, want string) {
		t.Run(name, func(t *testing.T) {
			for _, send := range []string{postLine + withLength(body), postLine + chunked(body, "", 100)} {
				sent++
				answer := harness.Dial(t, f.caller(t), f.address).Send(send).Answer("POST")
				f.judge(t, answer, framing{status: 403, reason: "policy_deny"})
				line := f.decisions(t, sent)[sent-1]
				if got := fmt.Sprint(line["codes"]); got != "["+want+"]" {
					t.Errorf("the policy saw %s, want [%s]", got, want)
				}
			}
		})
	}
	for want, body := range bodies {
		see(want, body, want)
	}
	for _, bits := range []int{1024, 2048, 3072} {
		body := realResult(t, bits)
		see(fmt.Sprintf("a real key of %d bits", bits), body, fmt.Sprintf("%d bytes of rsa_base64, %d bits", len(body), bits))
	}
	for name, body := range nearMisses() {
		see("near miss, "+name, body, fmt.Sprintf("%d bytes of text, 0 bits", len(body)))
	}
	f.wantArrived(t)
}

// It can decide by what it sees.
func TestPolicyDecidesByKeySize(t *testing.T) {
	t.Parallel()
	f := newFramed(t, "", map[string]string{"policy/team.rego": `package metaguard.team

deny contains "key_too_small" if {
	input.resource.kind == "password"
	input.resource.action == "write"
	input.request.body.key_bits < 2048
}

deny contains "too_long" if input.request.body.size > 684
`})
	codes := map[string]string{}
	var rows []framing
	for name, row := range map[string]struct{ body, codes string }{
		"1024":             {rsaResult(1024), "[key_too_small]"},
		"1536":             {rsaResult(1536), "[key_too_small]"},
		"2048":             {rsaResult(2048), ""},
		"4096":             {rsaResult(4096), ""},
		"4096 and newline": {rsaResult(4096) + "\n", "[too_long]"},
		"a word":           {"hunter2", "[key_too_small]"},
		"a long word":      {passwordOf(700), "[key_too_small too_long]"},
	} {
		if row.codes == "" {
			rows = append(rows, framing{name: name, send: postLine + chunked(row.body, "", 99), status: 200, body: row.body})
		} else {
			rows = append(rows, framing{name: name, send: postLine + withLength(row.body), status: 403, reason: "policy_deny"})
			codes[row.codes] += name
		}
	}
	f.checkAll(t, rows)
	for _, line := range f.decisions(t, len(rows)) {
		if got := fmt.Sprint(line["codes"]); line["verdict"] == "deny" && codes[got] == "" {
			t.Errorf("codes %s", got)
		}
	}
}

const encryptedOnly = "password {\n\trequire encrypted\n}"

// `require encrypted` takes RSA results and nothing else.
func TestRequireEncrypted(t *testing.T) {
	t.Parallel()
	f := newFramed(t, encryptedOnly, nil)
	var rows []framing
	for _, bits := range []int{1024, 1536, 2048, 3072, 4096} {
		for end, name := range map[string]string{"": "plain", "\n": "newline"} {
			body := rsaResult(bits) + end
			rows = append(rows,
				framing{name: fmt.Sprintf("%d, %s, length", bits, name), send: postLine + withLength(body), status: 200, body: body},
				framing{name: fmt.Sprintf("%d, %s, chunked", bits, name), send: postLine + chunked(body, "", 60), status: 200, body: body})
		}
	}
	body := realResult(t, 2048)
	rows = append(rows, framing{name: "a real key", send: postLine + withLength(body), status: 200, body: body})
	for name, body := range nearMisses() {
		rows = append(rows, framing{name: name, send: postLine + withLength(body), status: 400, reason: "password_not_encrypted"})
	}
	rows = append(rows,
		framing{name: "empty", send: postLine + withLength(""), status: 400, reason: "password_empty"},
		framing{name: "not UTF-8", send: postLine + withLength("\xff"), status: 400, reason: "body_unreadable"},
		framing{name: "too large", send: postLine + withLength(passwordOf(1021)), status: 413, reason: "body_too_large"})
	f.checkAll(t, rows)
}

// A key whose results do not fit is named, with the limit, whatever may be
// written and however it comes; and what is no result is not taken for one.
func TestKeyTooLarge(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		settings string
		maxSize  int
		bits     []int // too large
	}{
		{"", 1020, []int{6144, 8192}},
		{encryptedOnly, 1020, []int{6144, 8192}},
		{"password {\n\tmax_size 344\n}", 344, []int{3072, 4096, 6144, 8192}},
		{"password {\n\tmax_size 100\n}", 100, []int{1024, 1536, 2048, 3072, 4096, 6144, 8192}},
	} {
		t.Run(fmt.Sprintf("%d of %d", len(test.bits), test.maxSize), func(t *testing.T) {
			t.Parallel()
			f := newFramed(t, test.settings, nil)
			sent := 0
			refused := func(name, body, code, message string) {
				t.Run(name, func(t *testing.T) {
					for _, send := range []string{postLine + withLength(body), postLine + chunked(body, "", 100)} {
						f.check(t, framing{send: send, status: 413, reason: "body_too_large"})
						sent++
						line := f.decisions(t, sent)[sent-1]
						if got := fmt.Sprint(line["code"]); got != code && code != "" {
							t.Errorf("code %s, want %s", got, code)
						}
						if got := fmt.Sprint(line["error"]); got != message {
							t.Errorf("error %q, want %q", got, message)
						}
					}
				})
			}
			for _, bits := range test.bits {
				for _, end := range []string{"", "\n"} {
					body := rsaResult(bits) + end
					refused(fmt.Sprintf("%d%q", bits, end), body, fmt.Sprintf("rsa_%d_over_max_size", bits), fmt.Sprintf(
						"a password encrypted with an RSA-%d key takes %d bytes, max_size is %d: use a smaller key", bits, len(body), test.maxSize))
				}
			}
			refused("1,024 bytes of text", passwordOf(1024), "body_over_max_size", "<nil>")
			refused("1,024 bytes of another alphabet", strings.Repeat("_", 1024), "body_over_max_size", "<nil>")
			refused("1,368 bytes without padding", strings.Repeat("A", 1368), "body_over_max_size", "<nil>")
			refused("longer than any result", strings.Repeat("A", 1370), "", "<nil>")
		})
	}
}

// slowly are clients that take their time over a body. What they send of it is
// sent byte by byte; without a pause it is not sent at all.
var slowly = []struct {
	name  string
	head  string
	body  string
	every time.Duration
}{
	{"nothing of it", postLine + "Content-Length: 30\r\n\r\n", "", 0},
	{"nothing of it, chunked", postLine + inChunks, "", 0},
	{"half a size line", postLine + inChunks + "1", "", 0},
	{"no last chunk", postLine + inChunks + "1\r\nx\r\n", "", 0},
	{"no end of the last chunk", postLine + inChunks + "1\r\nx\r\n0\r\n", "", 0},
	{"no end of the trailer", postLine + inChunks + "1\r\nx\r\n0\r\nX-T: 1\r\n", "", 0},
	{"HTTP/1.0", "POST /openstack/latest/password HTTP/1.0\r\nContent-Length: 30\r\n\r\nhello", "", 0},
	{"one byte a second", postLine + "Content-Length: 30\r\n\r\n", passwordOf(30), time.Second},
	{"one byte a second, chunked", postLine + inChunks, "1e\r\n" + passwordOf(30), time.Second},
	{"one chunk a second", postLine + inChunks, strings.Repeat("1\r\nx\r\n", 30), time.Second / 6},
	{"ten bytes a second, 1,020 of them", postLine + "Content-Length: 1020\r\n\r\n", passwordOf(1020), time.Second / 10},
	{"an extension that never ends", postLine + inChunks + "1;", strings.Repeat("x", 3000), 10 * time.Millisecond},
}

const inChunks = "Transfer-Encoding: chunked\r\n\r\n"

// A body has as long as it is given, not longer, however steadily it comes.
func TestBodyDeadline(t *testing.T) {
	t.Parallel()
	for _, site := range []struct {
		name, settings string
		limit          time.Duration
	}{
		{"by default", "", 5 * time.Second}, // a safe default is in force
		{"configured", "body_timeout 700ms", 700 * time.Millisecond},
	} {
		t.Run(site.name, func(t *testing.T) {
			t.Parallel()
			f := newFramed(t, site.settings, nil)
			type ending struct {
				name   string
				answer harness.Answer
				took   time.Duration
				rest   string
				closed bool
			}
			endings := make(chan ending) // all clients at one time, or it would take minutes
			for _, slow := range slowly {
				client := harness.Dial(t, f.caller(t), f.address)
				go func() {
					start := time.Now()
					client.Send(slow.head)
					if slow.every > 0 {
						go client.Trickle(slow.body, slow.every)
					}
					end := ending{name: slow.name, answer: client.Answer("POST"), took: time.Since(start)}
					end.rest, end.closed = client.Rest()
					endings <- end
				}()
			}
			for name, every := range map[string]time.Duration{"HTTP/2, one frame": 0, "HTTP/2, a frame every 200 ms": 200 * time.Millisecond} {
				client := harness.DialH2(t, f.caller(t), f.address, nil)
				go func() {
					start := time.Now()
					client.Head(1, false, h2Post()...).Body(1, false, "hello")
					if every > 0 {
						go client.Trickle(1, passwordOf(100), every)
					}
					answer := client.Answer(1)
					took := time.Since(start)
					endings <- ending{name: name, answer: answer, took: took, closed: true}
				}()
			}
			count := len(slowly) + 2
			for range count {
				end := <-endings
				t.Run(end.name, func(t *testing.T) {
					f.judge(t, end.answer, framing{status: 408, reason: "body_timeout"})
					if end.took < site.limit-50*time.Millisecond || end.took > site.limit+2*time.Second {
						t.Errorf("answered after %s, want about %s", end.took, site.limit)
					}
					if end.rest != "" || !end.closed {
						t.Errorf("then %q, closed: %t", end.rest, end.closed)
					}
				})
			}
			f.wantArrived(t)
			outcomes := map[string]int{}
			for _, line := range f.decisions(t, count) {
				outcomes[fmt.Sprint(line["reason"], " ", line["code"], " ", line["outcome"], " ", line["status"])]++
			}
			// It is the guard that ended these, no client went away.
			if want := map[string]int{"body_timeout body_deadline refused 408": count}; !maps.Equal(outcomes, want) {
				t.Errorf("published as %v, want %v", outcomes, want)
			}
		})
	}
}

// A body that comes slowly, and in time, passes; and its deadline is not that
// of what comes after it on the same connection, nor of the server.
func TestBodyDeadlineEndsWithTheBody(t *testing.T) {
	t.Parallel()
	const limit = 1500 * time.Millisecond
	f := prepareFramed(t, "body_timeout 1500ms", nil)
	slow := harness.NewScripted(t, func(string) []harness.Step {
		return []harness.Step{harness.Dribble(harness.OK(strings.Repeat("x", 40)), limit/75)}
	})
	f.edit(t, "Caddyfile", "upstream "+f.server.address, "upstream "+slow.Address)
	f.Run(f.address)

	t.Run("HTTP/1.1", func(t *testing.T) {
		t.Parallel()
		client := harness.Dial(t, f.caller(t), f.address)
		body := passwordOf(20)
		for i, want := range []int{200, 409, 409} { // the first took, and was answered slower than the deadline
			client.Send(postLine + fmt.Sprintf("Content-Length: %d\r\n\r\n", len(body)))
			client.Trickle(body, limit/40)
			if answer := client.Answer("POST"); answer.Status != want {
				t.Fatalf("request %d: %d %q %v, want %d", i+1, answer.Status, answer.Body, answer.Err, want)
			}
		}
		client.Send(postLine + "Transfer-Encoding: chunked\r\n\r\n")
		client.Trickle("5\r\nhello\r\n0\r\n\r\n", limit/40)
		if answer := client.Answer("POST"); answer.Status != 409 {
			t.Fatalf("chunked: %d %q %v", answer.Status, answer.Body, answer.Err)
		}
		if !client.Silent(limit + limit/4) {
			t.Fatal("the connection does not outlive the deadline")
		}
		if answer := client.Send(getLine + "\r\n").Answer("GET"); answer.Status != 200 {
			t.Errorf("then %d %q %v", answer.Status, answer.Body, answer.Err)
		}
	})
	t.Run("HTTP/2", func(t *testing.T) {
		t.Parallel()
		client := harness.DialH2(t, f.caller(t), f.address, nil)
		if answer := client.Head(1, false, h2Post()...).Body(1, true, "he", "llo").Answer(1); answer.Status != 200 {
			t.Errorf("%d %q %v", answer.Status, answer.Body, answer.Err)
		}
		if answer := client.Head(3, true, h2Get()...).Answer(3); answer.Status != 200 {
			t.Errorf("then %d %q %v", answer.Status, answer.Body, answer.Err)
		}
	})
}
