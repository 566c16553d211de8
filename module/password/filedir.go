// SPDX-License-Identifier: Apache-2.0

package password

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// makeDirectory makes a directory and what is missing above it, with mode
// 0700, each synced into its parent.
func makeDirectory(path string) error {
	parent := filepath.Dir(path)
	err := os.Mkdir(path, 0o700)
	if errors.Is(err, fs.ErrNotExist) && parent != path {
		if err := makeDirectory(parent); err != nil {
			return err
		}
		err = os.Mkdir(path, 0o700)
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncDirectory(parent)
}

// makeNames makes directories whose parents must be there, so that none is
// made below a root that has vanished.
func makeNames(paths ...string) error {
	for _, path := range paths {
		if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		// Also where it exists: who made it may have crashed before the sync.
		if err := syncDirectory(filepath.Dir(path)); err != nil {
			return err
		}
	}
	return nil
}

// syncDirectory makes the names in a directory outlast a crash.
func syncDirectory(path string) error {
	directory, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(directory.Sync(), directory.Close())
}
