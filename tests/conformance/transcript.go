// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

//go:embed transcripts
var embedded embed.FS

// transcript is what one client asks, request by request, and what must come
// back. The README says how to write one.
type transcript struct {
	// Client is who asks, and Version which release of it was read.
	Client  string `yaml:"client"`
	Version string `yaml:"version"`
	// Source names the file and the function that the requests were taken from.
	Source  string `yaml:"source"`
	Dialect string `yaml:"dialect"`
	// Needs names what the deployment must have, as --have says.
	Needs []string `yaml:"needs"`
	// Variables have these values unless --var gives others.
	Variables map[string]string `yaml:"variables"`
	// Headers are sent with every request, in this order.
	Headers []header `yaml:"headers"`
	Steps   []step   `yaml:"steps"`

	// file is where it stands, and name the file's: several transcripts may
	// play one client.
	file, name string
}

// step is one request, or a crawl of many.
type step struct {
	Name   string `yaml:"name"`
	Method string `yaml:"method"` // GET if none is given
	Path   string `yaml:"path"`
	// Crawl is a listing that is fetched with everything below it.
	Crawl string `yaml:"crawl"`
	// Headers come after the transcript's.
	Headers []header `yaml:"headers"`
	Body    *string  `yaml:"body"`
	// Writes marks a request that changes something at the server. It is left
	// out without --write.
	Writes bool     `yaml:"writes"`
	Needs  []string `yaml:"needs"`
	// Each is a saved list: the step is done once for every entry.
	Each string `yaml:"each"`
	// Unless leaves the step out where the client would: a pattern for the
	// whole value of a variable.
	Unless map[string]pattern `yaml:"unless"`
	// Waits says that the server may hold the request: no answer within this
	// time is right, too.
	Waits  time.Duration     `yaml:"waits"`
	Expect expectation       `yaml:"expect"`
	Save   map[string]saving `yaml:"save"`

	line int
}

// expectation is what must come back.
type expectation struct {
	Status  statuses           `yaml:"status"` // 200 if none is given
	Headers map[string]pattern `yaml:"headers"`
	Body    *string            `yaml:"body"`
	Pattern pattern            `yaml:"pattern"`
	// JSON holds pointers (RFC 6901) to members.
	JSON membership `yaml:"json"`
	// Listing holds lines.
	Listing membership `yaml:"listing"`
}

// membership is what must be there and what must not.
type membership struct {
	Has   []string `yaml:"has"`
	Lacks []string `yaml:"lacks"`
}

func (m membership) empty() bool { return len(m.Has)+len(m.Lacks) == 0 }

// saving is what of an answer is kept for later steps. One of its members is
// given.
type saving struct {
	Header string `yaml:"header"`
	Body   bool   `yaml:"body"`
	JSON   string `yaml:"json"`
	// Entries keeps a list: the first group of every line that matches.
	Entries pattern `yaml:"entries"`
	// Choose keeps the first of these that the listing has, or Otherwise.
	Choose    []string `yaml:"choose"`
	Otherwise string   `yaml:"otherwise"`
}

// header is a line "Name: value".
type header struct{ name, value string }

// UnmarshalYAML reads the line.
func (h *header) UnmarshalYAML(node *yaml.Node) error {
	parsed, err := parseHeader(node.Value)
	if node.Kind != yaml.ScalarNode || err != nil {
		return fmt.Errorf("line %d: a header is \"Name: value\"", node.Line)
	}
	*h = parsed
	return nil
}

var headerName = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")

func parseHeader(line string) (header, error) {
	name, value, found := strings.Cut(line, ":")
	if !found || !headerName.MatchString(name) || strings.ContainsAny(value, "\r\n\x00") {
		return header{}, errors.New("not \"Name: value\"")
	}
	return header{name: name, value: strings.TrimSpace(value)}, nil
}

// statuses is one status or a list.
type statuses []int

// UnmarshalYAML reads a number or a list of numbers.
func (s *statuses) UnmarshalYAML(node *yaml.Node) error {
	if node.Kind == yaml.ScalarNode {
		*s = make(statuses, 1)
		return node.Decode(&(*s)[0])
	}
	return node.Decode((*[]int)(s))
}

// pattern is a regular expression.
type pattern struct{ *regexp.Regexp }

// UnmarshalYAML compiles the expression.
func (p *pattern) UnmarshalYAML(node *yaml.Node) error {
	compiled, err := regexp.Compile(node.Value)
	if err != nil || node.Kind != yaml.ScalarNode {
		return fmt.Errorf("line %d: %q is no pattern", node.Line, node.Value)
	}
	p.Regexp = compiled
	return nil
}

// whole tells whether the pattern matches all of a value.
func (p pattern) whole(value string) bool {
	found := p.FindStringIndex(value)
	return found != nil && found[0] == 0 && found[1] == len(value)
}

// loadTranscripts reads every transcript below a folder, sorted by file.
func loadTranscripts(files fs.FS) ([]*transcript, error) {
	var all []*transcript
	err := fs.WalkDir(files, ".", func(file string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || path.Ext(file) != ".yaml" {
			return err
		}
		data, err := fs.ReadFile(files, file)
		if err != nil {
			return err
		}
		t, err := parseTranscript(file, data)
		if err == nil {
			all = append(all, t)
		}
		return err
	})
	return all, err
}

// parseTranscript reads one file. Unknown and repeated settings are errors.
func parseTranscript(file string, data []byte) (*transcript, error) {
	t := &transcript{file: file, name: strings.TrimSuffix(path.Base(file), ".yaml")}
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	decoder.KnownFields(true)
	if err := decoder.Decode(t); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if err := decoder.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: holds more than one document", file)
	}
	t.placeSteps(data)
	if err := t.check(); err != nil {
		return nil, fmt.Errorf("%s:%w", file, err)
	}
	return t, nil
}

// placeSteps notes the line of every step.
func (t *transcript) placeSteps(data []byte) {
	var document yaml.Node
	if yaml.Unmarshal(data, &document) != nil || len(document.Content) == 0 {
		return
	}
	members := document.Content[0].Content
	for i := 0; i+1 < len(members); i += 2 {
		if members[i].Value != "steps" {
			continue
		}
		for n, item := range members[i+1].Content {
			if n < len(t.Steps) {
				t.Steps[n].line = item.Line
			}
		}
	}
}

// check refuses what could not be run.
func (t *transcript) check() error {
	switch {
	case t.Client == "" || t.Version == "" || t.Source == "" || t.Dialect == "":
		return errors.New("1: client, version, source and dialect are needed")
	case path.Base(path.Dir(t.file)) != t.Dialect:
		return fmt.Errorf("1: the transcript is of dialect %q and lies elsewhere", t.Dialect)
	case len(t.Steps) == 0:
		return errors.New("1: there are no steps")
	}
	known := make([]string, 0, len(t.Variables))
	for name := range t.Variables {
		known = append(known, name)
	}
	var names []string
	for i := range t.Steps {
		s := &t.Steps[i]
		if err := s.check(known); err != nil {
			return fmt.Errorf("%d: %w", s.line, err)
		}
		if slices.Contains(names, s.Name) {
			return fmt.Errorf("%d: a second step is called %q", s.line, s.Name)
		}
		names = append(names, s.Name)
		for name := range s.Save {
			known = append(known, name)
		}
	}
	return nil
}
