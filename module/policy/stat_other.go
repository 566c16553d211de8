// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package policy

import (
	"io/fs"
	"path/filepath"
)

// FileIdentity is where links lead: file numbers differ from system to system.
func FileIdentity(path string, _ fs.FileInfo) string {
	target, err := filepath.EvalSymlinks(path)
	if err != nil {
		return err.Error()
	}
	return target
}
