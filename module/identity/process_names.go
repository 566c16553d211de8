// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"sync"
	"time"
)

// maxNamesFile bounds /etc/passwd and /etc/group, in bytes.
const maxNamesFile = 8 << 20

// namesFile gives the names of /etc/passwd or /etc/group by number. It reads the
// file again when it changes, and asks nobody else: a directory service that
// hangs would hang requests.
type namesFile struct {
	path string

	mu     sync.Mutex
	seen   fileState
	names  map[int]string
	loaded bool
}

type fileState struct {
	modified time.Time
	size     int64
}

// lookup gives the name of a number, or nothing. A file that is not there has no
// names; one that cannot be read is an error, since a policy may deny by name.
func (f *namesFile) lookup(ids ...int) ([]string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.refresh(); err != nil {
		return nil, fmt.Errorf("reading %s: %w", f.path, err)
	}
	found := make([]string, 0, len(ids))
	for _, id := range ids {
		if name, ok := f.names[id]; ok {
			found = append(found, name)
		}
	}
	return found, nil
}

func (f *namesFile) refresh() error {
	info, err := os.Stat(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		f.names, f.loaded, f.seen = nil, true, fileState{}
		return nil
	}
	if err != nil {
		return err
	}
	state := fileState{info.ModTime(), info.Size()}
	if f.loaded && state == f.seen {
		return nil
	}
	if !info.Mode().IsRegular() || info.Size() > maxNamesFile {
		return fmt.Errorf("it is no regular file, or longer than %d bytes", maxNamesFile)
	}
	file, err := os.Open(f.path)
	if err != nil {
		return err
	}
	defer file.Close() //nolint:errcheck // read only
	text, err := io.ReadAll(io.LimitReader(file, maxNamesFile))
	if err != nil {
		return err
	}
	f.names, f.loaded, f.seen = parseNames(text), true, state
	return nil
}

// parseNames reads lines `name:password:number:…`. The first name of a number
// counts, as it does for the C library; what is no such line is passed over.
func parseNames(text []byte) map[int]string {
	names := make(map[int]string)
	for line := range bytes.Lines(text) {
		name, rest, _ := bytes.Cut(line, []byte(":"))
		_, rest, ok := bytes.Cut(rest, []byte(":"))
		number, _, more := bytes.Cut(rest, []byte(":"))
		if !ok || !more || len(name) == 0 || name[0] == '+' || name[0] == '-' || name[0] == '#' {
			continue
		}
		id, err := strconv.ParseUint(string(number), 10, 32)
		if err != nil {
			continue
		}
		if _, known := names[int(id)]; !known { //nolint:gosec // 32 bits
			names[int(id)] = string(name) //nolint:gosec // 32 bits
		}
	}
	return names
}
