// SPDX-License-Identifier: Apache-2.0

package password

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// fileStore is the protocol by which processes share a directory. It has no
// locks: a lock can be lost to a process that was only asleep.
//
// Every state of an instance's record is a file of its own, named by its
// generation: <root>/<first two characters>/<name>/<1, 2, 3, …>. The highest
// is the record. A file is written under another name, synced, and given its
// name by link(2), which fails if the name exists: one writer wins generation
// n+1. The two newest generations are kept, older ones are removed, the oldest
// first, and the removal of one is on disk before the next one is removed.
//
// The one danger is a writer that slept since it read generation n, while
// others made n+1 and n+2 and removed n and n+1: the name n+1 is free again.
// So a writer looks once more after it linked: n+1 must be the highest, and n
// must still hold the very bytes that it read. No two files hold the same
// bytes (EncodeRecord), and n+1 is never removed before n is. So if n is still
// there, n+1 was never removed, and whoever linked it was the first. For
// generation 1, and for a reader, that the highest is found rests on a listing
// of these few names being one look at the directory, as it is on Linux.
type fileStore struct {
	root string
	mark []byte       // what the marker file says
	step func(string) // tests: what was just done
}

const (
	markerFile = ".metaguard-latch"
	tempPrefix = ".new-"
	// staleTemp is when a temporary file was left by a crash. A writer that
	// is slower fails and changes nothing.
	staleTemp = time.Hour
)

// generationFile is one state of a record as it was read.
type generationFile struct {
	generation uint64 // 0: there is none
	path       string
	data       []byte
}

// version is the generation and a digest of the bytes.
func (g generationFile) version() Version {
	if g.generation == 0 {
		return ""
	}
	sum := sha256.Sum256(g.data)
	return Version(strconv.FormatUint(g.generation, 10) + "." + hex.EncodeToString(sum[:16]))
}

// generation is the number that a version begins with; 0 for none.
func (v Version) generation() (uint64, error) {
	if v == "" {
		return 0, nil
	}
	number, _, _ := strings.Cut(string(v), ".")
	return strconv.ParseUint(number, 10, 64)
}

// openFileStore makes the root directory, if it is missing, tries what the
// protocol needs, and reads the marker by which the directory is known again.
func openFileStore(root string) (*fileStore, error) {
	if err := makeDirectory(root); err != nil {
		return nil, err
	}
	info, err := os.Stat(root)
	if err != nil {
		return nil, err
	}
	if err := usable(root, info); err != nil {
		return nil, err
	}
	s := &fileStore{root: root}
	marker := filepath.Join(root, markerFile)
	if s.mark, err = readSmall(marker); errors.Is(err, fs.ErrNotExist) {
		if err := s.create(root, marker, []byte("metaguard latch 1 "+newToken()+"\n")); err != nil && !errors.Is(err, ErrConflict) {
			return nil, err
		}
		s.mark, err = readSmall(marker)
	}
	if err != nil {
		return nil, err
	}
	if !bytes.HasPrefix(s.mark, []byte("metaguard latch 1 ")) {
		return nil, fmt.Errorf("%s is not a marker of this version", marker)
	}
	// Whether links can be made here is known now, not at the first password.
	probe := filepath.Join(root, tempPrefix+newToken())
	if err := s.create(root, probe, []byte("probe\n")); err != nil {
		return nil, err
	}
	if err := os.Remove(probe); err != nil {
		return nil, err
	}
	s.clean(root, 0) // what a crash left of a marker or a probe
	return s, nil
}

// present tells whether the directory still is the one that was opened. An
// unmounted one would look as if no instance had a password.
func (s *fileStore) present() error {
	mark, err := readSmall(filepath.Join(s.root, markerFile))
	if err != nil {
		return fmt.Errorf("the latch directory is gone: %w", err)
	}
	if !bytes.Equal(mark, s.mark) {
		return errors.New("another latch directory is in place of the one that was opened")
	}
	return nil
}

func (s *fileStore) directory(name string) string {
	return filepath.Join(s.root, name[:2], name)
}

// newest reads the record. It may be a moment old, but it was the record.
func (s *fileStore) newest(name string) (generationFile, error) {
	if err := s.present(); err != nil {
		return generationFile{}, err
	}
	directory := s.directory(name)
	for range maxAttempts {
		numbers, err := generations(directory)
		if err != nil {
			return generationFile{}, err
		}
		if len(numbers) == 0 {
			return generationFile{}, s.present() // it may have vanished in between
		}
		top := numbers[len(numbers)-1]
		path := generationPath(directory, top)
		data, err := readSmall(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue // newer ones came, and this one was removed
		}
		if err != nil {
			return generationFile{}, err
		}
		return generationFile{generation: top, path: path, data: data}, nil
	}
	return generationFile{}, ErrConflict
}

// newestOfAny is newest for a reset, which also replaces what cannot be read.
func (s *fileStore) newestOfAny(name string) (generationFile, error) {
	newest, err := s.newest(name)
	if err == nil || !errors.Is(err, ErrCorrupt) {
		return newest, err
	}
	numbers, err := generations(s.directory(name))
	if err != nil || len(numbers) == 0 {
		return generationFile{}, err
	}
	return generationFile{generation: numbers[len(numbers)-1]}, nil
}

// replace makes data the record, if the record is of version old.
func (s *fileStore) replace(name string, old Version, data []byte) (Version, error) {
	from, err := old.generation()
	if err != nil {
		return "", fmt.Errorf("version of a record: %w", err)
	}
	if err := s.present(); err != nil {
		return "", err
	}
	directory := s.directory(name)
	if from == 0 {
		if err := makeNames(filepath.Dir(directory), directory); err != nil {
			return "", err
		}
	}
	made := generationFile{generation: from + 1, path: generationPath(directory, from+1), data: data}
	if _, err := os.Lstat(made.path); err == nil {
		return "", ErrConflict // known without a sync; what counts is the link
	}
	if err := s.create(directory, made.path, data); err != nil {
		return "", err
	}
	if err := s.first(directory, from, old); err != nil {
		return "", err
	}
	s.did("checked")
	s.clean(directory, from)
	s.did("cleaned")
	return made.version(), nil
}

// reset puts an empty record after the newest, whatever that is, if there is
// one.
func (s *fileStore) reset(ctx context.Context, key Key) error {
	for range maxAttempts {
		newest, err := s.newestOfAny(key.name)
		if err != nil || newest.generation == 0 {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err // nobody waits: what it found may be another's by now
		}
		data, err := EncodeRecord(key, Record{}.lasting(time.Now(), 0))
		if err != nil {
			return err
		}
		_, err = s.replace(key.name, newest.version(), data)
		if !errors.Is(err, ErrConflict) {
			return err
		}
	}
	return ErrConflict
}

// first tells, after the link, whether this writer was the first to make the
// generation after from. Its file is left in place where it was not: removing
// it could break the order of removal.
func (s *fileStore) first(directory string, from uint64, old Version) error {
	numbers, err := generations(directory)
	if err != nil {
		return err
	}
	if len(numbers) == 0 || numbers[len(numbers)-1] != from+1 {
		return ErrConflict
	}
	if from == 0 {
		if numbers[0] != 1 {
			return ErrConflict
		}
		return nil
	}
	data, err := readSmall(generationPath(directory, from))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return ErrConflict
	case errors.Is(err, ErrCorrupt): // only a reset gets here
		data = nil
	case err != nil:
		return err
	}
	if (generationFile{generation: from, data: data}).version() != old {
		return ErrConflict
	}
	return nil
}

// create makes a file with its whole content at once, on disk with its
// directory, or gives ErrConflict if the name exists.
func (s *fileStore) create(directory, path string, data []byte) error {
	temp := filepath.Join(directory, tempPrefix+newToken())
	if err := writeSynced(temp, data); err != nil {
		_ = os.Remove(temp) // the error that counts is the first one
		return err
	}
	s.did("written")
	err := os.Link(temp, path)
	if errors.Is(err, fs.ErrExist) {
		err = ErrConflict
	}
	if err != nil && sameFile(temp, path) {
		err = nil // NFS: the link was made, only the answer was lost
	}
	s.did("linked")
	if removeErr := os.Remove(temp); err == nil {
		err = removeErr
	}
	if err != nil {
		return err
	}
	err = syncDirectory(directory)
	s.did("synced")
	return err
}

// clean removes generations below keep, the oldest first, and files that a
// crash left. It stops at the first error; the next writer goes on, and what
// is left over is never taken for the record.
func (s *fileStore) clean(directory string, keep uint64) {
	entries, err := os.ReadDir(directory)
	if err != nil {
		return
	}
	var old []uint64
	for _, entry := range entries {
		if number, ok := generationOf(entry.Name()); ok && number < keep {
			old = append(old, number)
		}
		if !strings.HasPrefix(entry.Name(), tempPrefix) {
			continue
		}
		if info, err := entry.Info(); err == nil && time.Since(info.ModTime()) > staleTemp {
			_ = os.Remove(filepath.Join(directory, entry.Name()))
		}
	}
	slices.Sort(old)
	for i, number := range old {
		if i > 0 && syncDirectory(directory) != nil {
			return
		}
		if err := os.Remove(generationPath(directory, number)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return
		}
	}
}

func (s *fileStore) did(step string) {
	if s.step != nil {
		s.step(step)
	}
}

// generations lists the generations in a directory in ascending order; none if
// there is no such directory.
func generations(directory string) ([]uint64, error) {
	entries, err := os.ReadDir(directory)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var numbers []uint64
	for _, entry := range entries {
		if number, ok := generationOf(entry.Name()); ok {
			numbers = append(numbers, number)
		}
	}
	slices.Sort(numbers)
	return numbers, nil
}

// generationOf reads a file's name. Names that are no generation (temporary
// files, what NFS leaves of open files) are nothing to us.
func generationOf(name string) (uint64, bool) {
	number, err := strconv.ParseUint(name, 10, 64)
	return number, err == nil && number > 0 && strconv.FormatUint(number, 10) == name
}

func generationPath(directory string, number uint64) string {
	return filepath.Join(directory, strconv.FormatUint(number, 10))
}

// readSmall reads a regular file of at most maxRecord bytes.
func readSmall(path string) ([]byte, error) {
	info, err := os.Lstat(path) // opening a pipe would wait for a writer
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: %w: not a regular file", path, ErrCorrupt)
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }() // it was only read
	data, err := io.ReadAll(io.LimitReader(file, maxRecord+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxRecord {
		return nil, fmt.Errorf("%s: %w: too large", path, ErrCorrupt)
	}
	return data, nil
}

func writeSynced(path string, data []byte) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(data)
	if err == nil {
		err = file.Sync()
	}
	return errors.Join(err, file.Close())
}

func sameFile(a, b string) bool {
	first, err := os.Lstat(a)
	if err != nil {
		return false
	}
	second, err := os.Lstat(b)
	return err == nil && os.SameFile(first, second)
}
