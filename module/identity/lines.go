// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"bytes"
	"io"
)

// lineReader knows on which line and column a byte is that was read through
// it, as long as it comes after what was forgotten: a file of a million lines
// needs no table of a million offsets.
type lineReader struct {
	from  io.Reader
	read  int64
	ends  []int64 // offsets of line ends that are not forgotten
	lines int     // line ends that are forgotten
	start int64   // where the line after them begins
}

// Read notes where lines end.
func (l *lineReader) Read(p []byte) (int, error) {
	n, err := l.from.Read(p)
	for at := 0; ; {
		end := bytes.IndexByte(p[at:n], '\n')
		if end < 0 {
			break
		}
		at += end + 1
		l.ends = append(l.ends, l.read+int64(at)-1)
	}
	l.read += int64(n)
	return n, err
}

// forget says that no position before offset is asked for again, and gives
// offset's line.
func (l *lineReader) forget(offset int64) int {
	passed := 0
	for passed < len(l.ends) && l.ends[passed] < offset {
		l.start = l.ends[passed] + 1
		passed++
	}
	l.lines += passed
	l.ends = l.ends[passed:]
	return l.lines + 1
}

// position is the line and column of offset, both from 1; columns are bytes.
func (l *lineReader) position(offset int64) (line, column int) {
	line, start := l.lines+1, l.start
	for _, end := range l.ends {
		if end >= offset {
			break
		}
		line, start = line+1, end+1
	}
	return line, int(offset-start) + 1
}
