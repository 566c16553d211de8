// SPDX-License-Identifier: Apache-2.0

package policytool

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"

	"github.com/go-json-experiment/json/jsontext"
)

// maxLine bounds one line, or one event, of a log.
const maxLine = 16 << 20

// line is the text of one line of a log.
type line struct {
	file   string
	number int
	// text is valid until the next line is read.
	text []byte
	// err tells why there is no text.
	err error
}

var errLineTooLong = fmt.Errorf("longer than %d MiB", maxLine>>20)

// scanLogs calls each for every line in these files. It adds what it has read
// from disk to read, unless that is nil.
func scanLogs(ctx context.Context, paths []string, read *atomic.Int64, each func(line) error) error {
	for _, path := range paths {
		if err := scanFile(ctx, path, read, each); err != nil {
			return err
		}
	}
	return nil
}

// stdin is read for the path "-". Tests replace it.
var stdin io.Reader = os.Stdin

// scanFile reads one file. Whether it is compressed, and whether it holds
// lines or arrays of events, is told by how it begins.
func scanFile(ctx context.Context, path string, read *atomic.Int64, each func(line) error) error {
	source, name := stdin, "stdin"
	if path != "-" {
		file, err := os.Open(path)
		if err != nil {
			return fmt.Errorf("opening the log: %w", err)
		}
		defer func() { _ = file.Close() }() // it was only read
		source, name = file, path
	}
	in := bufio.NewReaderSize(&countingReader{ctx: ctx, source: source, read: read}, 256<<10)
	if magic, _ := in.Peek(2); bytes.Equal(magic, []byte{0x1f, 0x8b}) {
		unzipped, err := gzip.NewReader(in)
		if err != nil {
			return fmt.Errorf("reading %s: %w", name, err)
		}
		in = bufio.NewReaderSize(unzipped, 256<<10)
	}
	scan := scanLines
	if first, _ := firstByte(in); first == '[' {
		scan = scanEvents
	}
	return scan(in, name, each)
}

// firstByte looks at the first byte that is no white space.
func firstByte(in *bufio.Reader) (byte, error) {
	for n := 1; ; n++ {
		peeked, err := in.Peek(n)
		if len(peeked) < n {
			return 0, err
		}
		switch last := peeked[n-1]; last {
		case ' ', '\t', '\r', '\n':
		default:
			return last, nil
		}
	}
}

// scanLines reads lines, and skips over those that are too long.
func scanLines(in *bufio.Reader, name string, each func(line) error) error {
	var long []byte
	atEnd := false
	for number := 1; !atEnd; number++ {
		l := line{file: name, number: number}
		text, err := in.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			long = long[:0]
			for errors.Is(err, bufio.ErrBufferFull) {
				if len(long)+len(text) <= maxLine {
					long = append(long, text...)
				} else {
					l.err = errLineTooLong
				}
				text, err = in.ReadSlice('\n')
			}
			if long = append(long, text...); len(long) > maxLine+1 {
				l.err = errLineTooLong
			}
			text = long
		}
		if atEnd = errors.Is(err, io.EOF); err != nil && !atEnd {
			return fmt.Errorf("reading %s: %w", name, err)
		}
		l.text = bytes.TrimSpace(text)
		if l.err != nil || len(l.text) > 0 {
			if err := each(l); err != nil {
				return err
			}
		}
	}
	return nil
}

// scanEvents reads arrays of events, one array after the other. What is no
// JSON ends the file, since nothing tells where the next event begins.
func scanEvents(in *bufio.Reader, name string, each func(line) error) error {
	bounded := &boundedReader{source: in, left: maxLine}
	decoder := jsontext.NewDecoder(bounded, jsontext.AllowDuplicateNames(true))
	for number := 1; ; number++ {
		l := line{file: name, number: number}
		if l.text, l.err = nextEvent(decoder); errors.Is(l.err, io.EOF) {
			return nil
		}
		var syntax *jsontext.SyntacticError
		switch {
		case l.err == nil:
		case errors.Is(l.err, errLineTooLong), errors.As(l.err, &syntax), errors.Is(l.err, io.ErrUnexpectedEOF):
			l.err = fmt.Errorf("the rest of the file cannot be read: %w", l.err)
			return each(l)
		default:
			return fmt.Errorf("reading %s: %w", name, l.err)
		}
		if err := each(l); err != nil {
			return err
		}
		bounded.left = maxLine
	}
}

// nextEvent reads the next element, over the ends of arrays.
func nextEvent(decoder *jsontext.Decoder) (jsontext.Value, error) {
	for {
		kind := decoder.PeekKind()
		if kind != ']' && (kind != '[' || decoder.StackDepth() > 0) {
			return decoder.ReadValue()
		}
		if _, err := decoder.ReadToken(); err != nil {
			return nil, err
		}
	}
}

// boundedReader fails when more is read than is left.
type boundedReader struct {
	source io.Reader
	left   int
}

func (r *boundedReader) Read(p []byte) (int, error) {
	if r.left <= 0 {
		return 0, errLineTooLong
	}
	n, err := r.source.Read(p[:min(len(p), r.left)])
	r.left -= n
	return n, err
}

// countingReader stops when its context ends, and counts.
type countingReader struct {
	ctx    context.Context //nolint:containedctx // io.Reader has no parameter for it
	source io.Reader
	read   *atomic.Int64
}

func (r *countingReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := r.source.Read(p)
	if r.read != nil {
		r.read.Add(int64(n))
	}
	return n, err
}
