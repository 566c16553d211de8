// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// caddyfileText is a Caddyfile as tokens, with imports and variables in place:
// the adapted configuration has no lines.
type caddyfileText struct {
	name   string
	blocks []caddyfile.ServerBlock
}

// textLine is one line of a Caddyfile: its words, and the directives of the
// blocks that it stands in, outermost first, itself last.
type textLine struct {
	where  string
	words  []string
	within []string
	global bool // in the block of global options
}

func parseText(name string, content []byte) (*caddyfileText, error) {
	blocks, err := caddyfile.Parse(name, content)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	return &caddyfileText{name, blocks}, nil
}

// lines gives all lines of all blocks.
func (t *caddyfileText) lines() []textLine {
	if t == nil {
		return nil
	}
	var all []textLine
	for _, block := range t.blocks {
		global := len(block.Keys) == 0
		for _, segment := range block.Segments {
			all = append(all, linesOf(segment, global)...)
		}
	}
	return all
}

// linesOf splits a segment. A block is opened by a brace at the end of a line.
func linesOf(segment []caddyfile.Token, global bool) []textLine {
	var all []textLine
	var open []string
	for start := 0; start < len(segment); {
		end := start + 1
		for end < len(segment) && sameLine(segment[end-1], segment[end]) {
			end++
		}
		var words []string
		for _, token := range segment[start:end] {
			words = append(words, token.Text)
		}
		first := segment[start]
		start = end
		opens := words[len(words)-1] == "{"
		if opens {
			words = words[:len(words)-1]
		}
		if len(words) > 0 && words[0] == "}" {
			open = open[:max(0, len(open)-1)]
			continue
		}
		directive := ""
		if len(words) > 0 {
			directive = words[0]
			all = append(all, textLine{placeOf(first), words, append(slices.Clone(open), directive), global})
		}
		if opens {
			open = append(open, directive)
		}
	}
	return all
}

// sameLine tells whether a token follows another on its line.
func sameLine(before, token caddyfile.Token) bool {
	return before.File == token.File && before.Line+strings.Count(before.Text, "\n") == token.Line
}

// placeOf is file:line, with the file as people would name it.
func placeOf(token caddyfile.Token) string {
	return fmt.Sprintf("%s:%d", shortPath(token.File), token.Line)
}

// shortPath is relative to the working directory where the file lies below it.
func shortPath(path string) string {
	here, err := os.Getwd()
	if err != nil || !filepath.IsAbs(path) {
		return path
	}
	if relative, err := filepath.Rel(here, path); err == nil && filepath.IsLocal(relative) {
		return relative
	}
	return path
}

// inside tells whether the line stands in a block of this directive.
func (l textLine) inside(directive string) bool {
	return slices.Contains(l.within[:len(l.within)-1], directive)
}

// begins tells whether the line has these words first.
func (l textLine) begins(words ...string) bool {
	return len(l.words) >= len(words) && slices.Equal(l.words[:len(words)], words)
}

// where finds the lines of what stands at these paths of the JSON: the lines if
// there are as many, the one that there is, or else the paths.
func (c *configuration) where(paths []string, match func(textLine) bool) []string {
	var found []string
	for _, line := range c.text.lines() {
		if match(line) {
			found = append(found, line.where)
		}
	}
	switch {
	case len(found) == len(paths):
		return found
	case len(found) == 1:
		return slices.Repeat(found, len(paths))
	}
	return paths
}

// whereOne is where for one path.
func (c *configuration) whereOne(path string, match func(textLine) bool) string {
	return c.where([]string{path}, match)[0]
}

// whole is the place of what is missing: the Caddyfile, or the path.
func (c *configuration) whole(path string) string {
	if c.text != nil {
		return shortPath(c.text.name)
	}
	return path
}

// sites are the keys of site blocks that hold a directive, with their places.
func (t *caddyfileText) sites(directive string) (keys []string, places []string) {
	if t == nil {
		return nil, nil
	}
	for _, block := range t.blocks {
		if len(block.Keys) == 0 || block.IsNamedRoute {
			continue
		}
		holds := false
		for _, segment := range block.Segments {
			for _, line := range linesOf(segment, false) {
				holds = holds || line.begins(directive)
			}
		}
		for _, key := range block.Keys {
			if holds {
				keys, places = append(keys, key.Text), append(places, placeOf(key))
			}
		}
	}
	return keys, places
}
