// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// plain is an error of the file system or of a name, without the words that
// people need not see.
func plain(err error) string {
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err.Error()
	}
	return err.Error()
}

// checkMode reports a file whose mode has one of these bits. One that is not
// there yet is left out.
func checkMode(f *finder, path string, bits fs.FileMode, what string) {
	if runtime.GOOS == "windows" {
		f.leftOut(path, "modes mean nothing on this system")
		return
	}
	switch info, err := os.Stat(path); {
	case errors.Is(err, fs.ErrNotExist):
		f.leftOut(path, "it is not there")
	case err != nil:
		f.unable(path, plain(err))
	case info.Mode().Perm()&bits != 0:
		f.found(path, fmt.Sprintf("%s: it has mode %04o", what, info.Mode().Perm()))
	}
}

// othersWrite are the bits that let others than the owner change a file.
const othersWrite fs.FileMode = 0o022

// checkWritable reports a file, or the directory that it lies in, that others
// can change. In a sticky directory only the owner can exchange a file.
func checkWritable(f *finder, path, what string) {
	checkMode(f, path, othersWrite, "others can change "+what)
	directory := filepath.Dir(path)
	if target, err := filepath.EvalSymlinks(path); err == nil {
		directory = filepath.Dir(target)
	}
	if info, err := os.Stat(directory); err == nil && info.Mode()&fs.ModeSticky == 0 {
		checkMode(f, directory, othersWrite, "others can exchange "+what)
	}
}

// maxFiles bounds how many files of a policy are looked at.
const maxFiles = 10_000

// checkDecidingFiles finds files that decide and that others can change.
func checkDecidingFiles(_ context.Context, x *examination, f *finder) {
	var seen []string
	for _, g := range x.guards {
		for _, path := range g.decidingFiles() {
			if slices.Contains(seen, path) {
				continue
			}
			seen = append(seen, path)
			checkWritable(f, path, filepath.Base(path)+", which decides")
			x.belowDirectory(f, path)
		}
	}
}

// belowDirectory looks at what lies in a directory of policies.
func (x *examination) belowDirectory(f *finder, root string) {
	count := 0
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || path == root {
			return err
		}
		if count++; count > maxFiles {
			return fmt.Errorf("it holds more than %d files", maxFiles)
		}
		if !entry.IsDir() || !strings.HasPrefix(entry.Name(), ".") {
			checkMode(f, path, othersWrite, "others can change "+entry.Name()+", which decides")
		}
		return nil
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		f.unable(root, plain(err))
	}
}

// decidingFiles are the files and directories that say who may do what.
func (g *guard) decidingFiles() []string {
	found := slices.Concat(listAt(g.object, "policy", "paths"), listAt(g.object, "policy", "candidate"))
	if opa := textAt(g.object, "policy", "opa"); opa != "" {
		found = append(found, opa)
	}
	for _, source := range g.identities() {
		texts(source.object, source.path, "", func(_, name, text string) {
			if (name == "inventory" || name == "ca" || name == "file") && filepath.IsAbs(text) {
				found = append(found, text)
			}
		})
	}
	return found
}

// checkState finds state that others can change.
func checkState(_ context.Context, x *examination, f *finder) {
	for _, path := range x.stateDirectories() {
		checkMode(f, path, othersWrite, "others can change the state of passwords, or keys")
	}
}

// stateDirectories are where latches and keys lie.
func (x *examination) stateDirectories() []string {
	data := x.dataDirectory()
	found := []string{data}
	for _, name := range []string{"metaguard", filepath.Join("metaguard", "latch")} {
		if _, err := os.Stat(filepath.Join(data, name)); err == nil {
			found = append(found, filepath.Join(data, name))
		}
	}
	for _, g := range x.guards {
		if directory := textAt(g.object, "password", "latch", "directory"); directory != "" && !slices.Contains(found, directory) {
			found = append(found, directory)
		}
	}
	return found
}
