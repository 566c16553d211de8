// SPDX-License-Identifier: Apache-2.0

package module

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"

	"github.com/metaguard/metaguard/module/policy"
)

// stamp changes whenever one of the files may have changed, so that a rotated
// secret or certificate makes `reload` a real one. It is of their times, not of
// what is in them: a secret that is short could be found from its digest.
func stamp(files []string) string {
	slices.Sort(files)
	sum := sha256.New()
	for _, name := range slices.Compact(files) {
		if info, err := os.Stat(name); err == nil && info.Mode().IsRegular() {
			_, _ = fmt.Fprintf(sum, "%s\n%d %s\n", name, info.ModTime().UnixNano(), policy.FileIdentity(name, info))
		}
	}
	return hex.EncodeToString(sum.Sum(nil))
}

// files are those that the settings name: behind {file.PATH}, and by an absolute
// path. Those of them whose content is in a digest do no harm here.
func (h *Handler) files() ([]string, error) {
	text, err := json.Marshal(h)
	if err != nil {
		return nil, fmt.Errorf("reading the settings of metaguard: %w", err)
	}
	var files []string
	decoder := json.NewDecoder(strings.NewReader(string(text)))
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			return files, nil
		}
		if err != nil {
			return nil, fmt.Errorf("reading the settings of metaguard: %w", err)
		}
		value, _ := token.(string)
		if name, found := strings.CutPrefix(value, "{file."); found {
			value = strings.TrimSuffix(name, "}")
		}
		if filepath.IsAbs(value) {
			files = append(files, value)
		}
	}
}

// tlsFiles are those that `tls` names in the Caddyfiles of the site: certificates,
// keys, and the authorities of clients. A file that is no whole Caddyfile, as an
// imported one may be, has none of its own.
func tlsFiles(h httpcaddyfile.Helper) []string {
	var files []string
	for _, name := range h.Caddyfiles() {
		text, err := os.ReadFile(name)
		if err != nil {
			continue // a Caddyfile without a file, as the admin API takes it
		}
		blocks, err := caddyfile.Parse(name, text)
		if err != nil {
			continue
		}
		for _, block := range blocks {
			for _, segment := range block.Segments {
				if segment.Directive() != "tls" {
					continue
				}
				for _, token := range segment {
					if filepath.IsAbs(token.Text) {
						files = append(files, token.Text)
					}
				}
			}
		}
	}
	return files
}
