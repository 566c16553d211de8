// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig"
)

// configuration is what is examined.
type configuration struct {
	name string
	tree any
	// text is the Caddyfile that it was made of, for file and line; nil for JSON.
	text *caddyfileText
}

// loadFile adapts a configuration as the server would. Nothing of it starts.
func loadFile(path, adapter string) (*configuration, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading the configuration: %w", err)
	}
	if adapter == "" && !strings.EqualFold(filepath.Ext(path), ".json") {
		adapter = "caddyfile"
	}
	loaded := &configuration{name: path}
	if adapter != "" {
		named := caddyconfig.GetAdapter(adapter)
		if named == nil {
			return nil, fmt.Errorf("--adapter %s: there is no such adapter", adapter)
		}
		adapted, _, err := named.Adapt(content, map[string]any{"filename": path})
		if err != nil {
			return nil, fmt.Errorf("adapting %s: %w", path, err)
		}
		if adapter == "caddyfile" {
			if loaded.text, err = parseText(path, content); err != nil {
				return nil, err
			}
		}
		content = adapted
	}
	if loaded.tree, err = decodeTree(content); err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	return loaded, nil
}

// decodeTree reads a JSON configuration.
func decodeTree(content []byte) (any, error) {
	var tree any
	if err := json.Unmarshal(content, &tree); err != nil {
		return nil, fmt.Errorf("it is no JSON: %w", err)
	}
	if _, ok := tree.(map[string]any); !ok {
		return nil, errors.New("it is empty: no configuration is loaded")
	}
	return tree, nil
}
