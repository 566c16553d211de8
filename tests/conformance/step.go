// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// check refuses a step that cannot be done, given the variables that are known
// before it.
func (s *step) check(known []string) error {
	target := s.Path + s.Crawl
	switch {
	case s.Name == "":
		return errors.New("a step needs a name")
	case (s.Path == "") == (s.Crawl == ""):
		return errors.New("a step has either a path or a crawl")
	case !strings.HasPrefix(target, "/"):
		return fmt.Errorf("%q does not begin with a slash", target)
	case strings.ContainsAny(target, " \t\r\n\x00#"):
		return fmt.Errorf("%q holds a byte that no client sends there", target)
	case s.Method != "" && !regexp.MustCompile("^[A-Z]+$").MatchString(s.Method):
		return fmt.Errorf("%q is no method", s.Method)
	case s.Crawl != "" && (s.Method != "" || s.Body != nil || s.Writes || s.Each != "" || s.Waits != 0 || len(s.Save) > 0 || s.Expect.stated()):
		return errors.New("a crawl has no method, body, each, waits, save or expect: everything that is advertised must be there")
	case !s.Writes && s.Crawl == "" && s.method() != "GET" && s.method() != "HEAD" && !s.Session():
		return fmt.Errorf("a %s that does not say writes: true", s.Method)
	case s.Each != "" && !slices.Contains(known, s.Each):
		return fmt.Errorf("nothing is saved as %q before this step", s.Each)
	}
	for name, what := range s.Save {
		if err := what.check(); err != nil {
			return fmt.Errorf("save %s: %w", name, err)
		}
	}
	for name := range s.Unless {
		if !slices.Contains(known, name) {
			return fmt.Errorf("unless: nothing is saved as %q before this step", name)
		}
	}
	return s.checkVariables(known)
}

// checkVariables refuses a name that nothing gives a value to.
func (s *step) checkVariables(known []string) error {
	texts := []string{s.Path, s.Crawl}
	for _, h := range s.Headers {
		texts = append(texts, h.value)
	}
	for _, body := range []*string{s.Body, s.Expect.Body} {
		if body != nil {
			texts = append(texts, *body)
		}
	}
	texts = append(texts, s.Expect.Listing.Has...)
	texts = append(texts, s.Expect.Listing.Lacks...)
	for _, text := range texts {
		for _, name := range variableNames(text) {
			if !slices.Contains(known, name) {
				return fmt.Errorf("nothing gives ${%s} a value before this step", name)
			}
		}
	}
	return nil
}

// Session tells that the request asks for a session token, which changes
// nothing at the server (IMDSv2, the Instance Metadata Service of EC2).
func (s *step) Session() bool {
	return s.Method == "PUT" && s.Path == "/latest/api/token"
}

func (s *step) method() string {
	if s.Method == "" {
		return "GET"
	}
	return s.Method
}

// target is the path as it is written, for the table: its variables may hold
// what nobody should read.
func (s *step) target() string { return s.Path + s.Crawl }

func (e *expectation) stated() bool {
	return len(e.Status) > 0 || len(e.Headers) > 0 || e.Body != nil || e.Pattern.Regexp != nil || !e.JSON.empty() || !e.Listing.empty()
}

func (s saving) check() error {
	given := 0
	for _, is := range []bool{s.Header != "", s.Body, s.JSON != "", s.Entries.Regexp != nil, len(s.Choose) > 0} {
		if is {
			given++
		}
	}
	switch {
	case given != 1:
		return errors.New("give one of header, body, json, entries, choose")
	case s.Entries.Regexp != nil && s.Entries.NumSubexp() != 1:
		return errors.New("entries needs a pattern with one group")
	case s.Otherwise != "" && len(s.Choose) == 0:
		return errors.New("otherwise belongs to choose")
	}
	return nil
}
