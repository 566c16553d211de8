// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// publish puts tables into the README, between the two comments with this name, and gives
// the path that the drawing beside them is linked from.
func publish(ctx context.Context, name, tables string) (drawing string, err error) {
	root, err := moduleRoot(ctx)
	if err != nil {
		return "", err
	}
	readme := filepath.Join(root, "README.md")
	text, err := os.ReadFile(readme)
	if err != nil {
		return "", err
	}
	published, err := between(string(text), name, tables)
	if err != nil {
		return "", fmt.Errorf("%s: %w", readme, err)
	}
	return filepath.Join(root, "tests", "bench", name+".svg"), os.WriteFile(readme, []byte(published), 0o600)
}

// between replaces what stands between `<!-- NAME -->` and `<!-- /NAME -->`.
func between(text, name, content string) (string, error) {
	opening, closing := "<!-- "+name+" -->", "<!-- /"+name+" -->"
	before, rest, found := strings.Cut(text, opening)
	_, after, ends := strings.Cut(rest, closing)
	if !found || !ends {
		return "", fmt.Errorf("there is no %s followed by %s", opening, closing)
	}
	return before + opening + "\n" + strings.TrimSpace(content) + "\n" + closing + after, nil
}
