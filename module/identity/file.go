// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"

	"github.com/metaguard/metaguard/module/pace"
)

// openRegular opens a regular file: to open a pipe would be to wait.
func openRegular(path string) (*os.File, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	return os.Open(path)
}

// fileDigest is the SHA-256 of a file, or empty if it cannot be read.
func fileDigest(path string) string { return pacedDigest(path, new(pace.Pace)) }

// pacedDigest is fileDigest of a file that may be large.
func pacedDigest(path string, p *pace.Pace) string {
	file, err := openRegular(path)
	if err != nil {
		return ""
	}
	defer file.Close() //nolint:errcheck // read only
	digest := sha256.New()
	if _, err := io.Copy(digest, p.Reader(file)); err != nil {
		return ""
	}
	return hex.EncodeToString(digest.Sum(nil))
}
