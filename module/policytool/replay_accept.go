// SPDX-License-Identifier: Apache-2.0

package policytool

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"strings"
)

// groupName is what the name of a group looks like.
var groupName = regexp.MustCompile(`^[^\s/]+:[^\s/]*/[^\s/]+/[^\s/]+/[^\s/]+$`)

// readAccepted reads the values of --accept: each is the name of a group, or a
// file of names.
func readAccepted(values []string) ([]string, error) {
	var names []string
	for _, value := range values {
		content, err := os.ReadFile(value)
		switch {
		case err == nil:
			listed, err := acceptedIn(value, string(content))
			if err != nil {
				return nil, err
			}
			names = append(names, listed...)
		case groupName.MatchString(value):
			names = append(names, value)
		case errors.Is(err, fs.ErrNotExist):
			return nil, fmt.Errorf("--accept %s: neither a file nor the name of a group, such as password:read/allow->deny/neutron:project:6a0f/code", value)
		default:
			return nil, fmt.Errorf("--accept: %w", err)
		}
	}
	return sorted(names), nil
}

// acceptedIn reads a file of names.
func acceptedIn(file, content string) ([]string, error) {
	var names []string
	number := 0
	for text := range strings.Lines(content) {
		number++
		text, _, _ = strings.Cut(text, "#")
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		if !groupName.MatchString(text) {
			return nil, fmt.Errorf("%s:%d: %q is not the name of a group, such as password:read/allow->deny/neutron:project:6a0f/code", file, number, text)
		}
		names = append(names, text)
	}
	return names, nil
}
