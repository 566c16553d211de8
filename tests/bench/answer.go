// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/textproto"
	"strconv"
)

// expectation is what right answers are.
type expectation struct {
	guarded bool     // they say which decision they are
	bodies  [][]byte // by path
}

// expect gives the upstream's own small bodies.
func expect(guarded bool) *expectation {
	e := &expectation{guarded: guarded}
	for _, path := range paths {
		e.bodies = append(e.bodies, []byte(bodyOf(path)))
	}
	return e
}

// answer is what a client read. Its body lives until the next read.
type answer struct {
	status  int
	length  int
	decided bool // it has X-Metaguard-Decision
	body    []byte
}

// read reads one answer with a Content-Length, into a's own buffer.
func (a *answer) read(reader *bufio.Reader) error {
	line, err := reader.ReadSlice('\n')
	if err != nil {
		return err
	}
	if len(line) < len("HTTP/1.1 200") {
		return fmt.Errorf("no status line: %q", line)
	}
	if a.status, err = strconv.Atoi(string(line[9:12])); err != nil {
		return fmt.Errorf("no status line: %q", line)
	}
	a.length, a.decided = -1, false
	for {
		if line, err = reader.ReadSlice('\n'); err != nil {
			return err
		}
		name, value, found := bytes.Cut(line, []byte(":"))
		if !found {
			break
		}
		switch {
		case bytes.EqualFold(name, []byte("Content-Length")):
			if a.length, err = strconv.Atoi(string(textproto.TrimBytes(value))); err != nil {
				return err
			}
		case bytes.EqualFold(name, []byte("X-Metaguard-Decision")):
			a.decided = true
		}
	}
	if a.length < 0 {
		return errors.New("an answer without Content-Length")
	}
	if cap(a.body) < a.length {
		a.body = make([]byte, a.length)
	}
	a.body = a.body[:a.length]
	_, err = io.ReadFull(reader, a.body)
	return err
}

// check tells what is wrong with an answer.
func (e *expectation) check(a *answer, path int) error {
	switch {
	case a.status != 200:
		return fmt.Errorf("%s was answered with %d: %q", paths[path], a.status, a.body)
	case !bytes.Equal(a.body, e.bodies[path]):
		const shown = 200
		return fmt.Errorf("%s was answered with %.*q in the place of %.*q", paths[path], shown, a.body, shown, e.bodies[path])
	case a.decided != e.guarded:
		return fmt.Errorf("%s: X-Metaguard-Decision is there: %t", paths[path], a.decided)
	}
	return nil
}
