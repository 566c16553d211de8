// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"strings"
)

// upstreamCommand is the argument by which this program is its own upstream, in a
// process of its own, so that its CPU time is nobody else's.
const upstreamCommand = "upstream"

// bodySize is how long the upstream's answers are.
const bodySize = 40

// paths is what a booting instance asks for. Listings are not among them: of these
// Metaguard judges every entry by itself, which is another amount of work.
var paths = []string{
	"/openstack/latest/meta_data.json",
	"/openstack/latest/user_data",
	"/openstack/latest/network_data.json",
	"/openstack/latest/vendor_data.json",
	"/openstack/2018-08-27/meta_data.json",
	"/latest/meta-data/instance-id",
	"/latest/meta-data/local-hostname",
	"/latest/user-data",
}

// bodyOf is the upstream's answer, which is another one for each path.
func bodyOf(path string) string {
	if strings.HasSuffix(path, ".json") {
		return fmt.Sprintf(`{"sum":"%08x","of":"%-*s"}`, checksum(path), bodySize-26, "metadata")
	}
	return fmt.Sprintf("%08x %-*s", checksum(path), bodySize-9, "is the sum of the path")
}

// document is JSON of exactly size bytes, with many small members and a password that
// Metaguard takes out.
func document(size int) string {
	var text strings.Builder
	text.WriteString(`{"admin_pass": "hunter2"`)
	const end = `, "last": ""}`
	for n := 0; ; n++ {
		member := fmt.Sprintf(`, "key-%06d": {"values": [%d, true, null], "text": "some \u00e4 text"}`, n, n)
		if text.Len()+len(member)+len(end) > size {
			break
		}
		text.WriteString(member)
	}
	last := strings.Repeat("x", max(0, size-text.Len()-len(end)))
	return text.String() + `, "last": "` + last + `"}`
}

// checksum is FNV-1a, so that an answer that belongs to another path is noticed.
func checksum(text string) uint32 {
	sum := uint32(2166136261)
	for _, c := range []byte(text) {
		sum = (sum ^ uint32(c)) * 16777619
	}
	return sum
}

// serveUpstream answers GET requests without a body until it is killed, with as
// little work as there can be. size is that of a JSON document.
func serveUpstream(address string, size int) error {
	answers := map[string][]byte{}
	for _, path := range paths {
		kind, body := "text/plain; charset=utf-8", bodyOf(path)
		if strings.HasSuffix(path, ".json") {
			kind = "application/json"
			if size > bodySize {
				body = document(size)
			}
		}
		answers[path] = fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s", kind, len(body), body)
	}
	listener, err := new(net.ListenConfig).Listen(context.Background(), "tcp", address)
	if err != nil {
		return err
	}
	for {
		conn, err := listener.Accept()
		if err != nil {
			return err
		}
		go answerAll(conn, answers)
	}
}

func answerAll(conn net.Conn, answers map[string][]byte) {
	defer conn.Close()
	reader := bufio.NewReader(conn)
	for {
		line, err := reader.ReadSlice('\n')
		if err != nil {
			return
		}
		_, rest, _ := bytes.Cut(line, []byte(" "))
		path, _, _ := bytes.Cut(rest, []byte(" "))
		answer, known := answers[string(path)]
		if !known {
			answer = []byte("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
		}
		last := false
		for len(bytes.TrimSpace(line)) > 0 {
			if line, err = reader.ReadSlice('\n'); err != nil {
				return
			}
			last = last || bytes.EqualFold(bytes.TrimSpace(line), []byte("Connection: close"))
		}
		if _, err := conn.Write(answer); err != nil || last {
			return
		}
	}
}
