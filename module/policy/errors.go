// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// The codes of findings that are Metaguard's own. All others are OPA's, such
// as rego_parse_error.
const (
	CodePathUnreadable    = "path_unreadable"
	CodePathEmpty         = "path_empty"
	CodePathUnsupported   = "path_unsupported"
	CodeDataInvalid       = "data_invalid"
	CodeDataConflict      = "data_conflict"
	CodeDataUnknownName   = "data_unknown_name"
	CodeDataUnread        = "data_unread"
	CodeDataShadowsPolicy = "data_shadows_policy"
	CodeGrantInvalid      = "grant_invalid"
	CodeTeamUnknownName   = "team_unknown_name"
	CodeTeamWrongShape    = "team_wrong_shape"
	CodeTeamWrongValue    = "team_wrong_value"
	CodePackageUnreached  = "package_unreachable"
	CodePackageReserved   = "package_reserved"
	CodeInputUnknownField = "input_unknown_field"
	CodeInputUnknownValue = "input_unknown_value"
	CodeBuiltinForbidden  = "builtin_forbidden"
	CodeEntrypointInvalid = "entrypoint_invalid"
	CodeDecisionMalformed = "decision_malformed"
	CodeSettingsInvalid   = "settings_invalid"
	CodeSmokeTest         = "smoke_test"
	CodeAcceptUnused      = "accept_unused"
	CodeBundleRefused     = "bundle_refused"
	CodeTooLarge          = "too_large"
	CodeOPAConfig         = "opa_config"
	CodeMore              = "more"
	CodeInternal          = "internal"
)

// Finding is one thing that is wrong with a policy or its data.
type Finding struct {
	// File is the path for people: relative to the working directory where
	// the file lies below it, absolute otherwise.
	File string `json:"file,omitempty"`
	// Line and Col count from 1; 0 means unknown.
	Line int `json:"line,omitempty"`
	Col  int `json:"col,omitempty"`
	// Code is a stable snake_case word.
	Code    string `json:"code"`
	Message string `json:"message"`
	// Hint says what to do, where that is known.
	Hint string `json:"hint,omitempty"`
}

// String is the finding in one line: file:line:col: message (hint).
func (f Finding) String() string {
	var b strings.Builder
	if f.File != "" {
		b.WriteString(f.File)
		if f.Line > 0 {
			b.WriteString(":" + strconv.Itoa(f.Line))
			if f.Col > 0 {
				b.WriteString(":" + strconv.Itoa(f.Col))
			}
		}
		b.WriteString(": ")
	}
	b.WriteString(f.Message)
	if f.Hint != "" {
		b.WriteString(" (" + f.Hint + ")")
	}
	return b.String()
}

// Error is why a policy was not loaded. It has at least one finding; those in
// the operator's files come first.
type Error struct {
	Findings []Finding
}

// Error prints one finding a line.
func (e *Error) Error() string {
	lines := make([]string, len(e.Findings))
	for i, finding := range e.Findings {
		lines[i] = finding.String()
	}
	return strings.Join(lines, "\n")
}

// findings collects what is wrong: the first of it, and how much more there is. Where a
// level is missing in the data of a million callers, that is a million times wrong.
type findings struct {
	first []Finding
	more  int
}

const (
	// maxErrors is how many findings one load has, besides that there are more.
	maxErrors = 100
	// maxMessage is how long a message is, which can have a name of the data in it.
	maxMessage = 2 << 10
)

func (f *findings) add(all ...Finding) {
	for _, finding := range all {
		if f.full() {
			f.more++
			continue
		}
		if len(finding.Message) > maxMessage {
			finding.Message = strings.ToValidUTF8(finding.Message[:maxMessage], "") + "…"
		}
		f.first = append(f.first, finding)
	}
}

// full tells that the place of another finding need not be sought.
func (f *findings) full() bool { return len(f.first) == maxErrors }

func (f *findings) count() int { return len(f.first) + f.more }

// at adds a finding at a place in Rego source; loc may be nil.
func (f *findings) at(loc *ast.Location, code, hint, format string, args ...any) {
	finding := Finding{Code: code, Message: fmt.Sprintf(format, args...), Hint: hint}
	if loc != nil {
		finding.File, finding.Line, finding.Col = loc.File, loc.Row, loc.Col
	}
	f.add(finding)
}

// err gives all findings as one *Error, or nil.
func (f *findings) err() error {
	if f.count() == 0 {
		return nil
	}
	return &Error{Findings: f.list()}
}

// list gives all findings, sorted and each once.
func (f *findings) list() []Finding {
	list := slices.Clone(f.first)
	slices.SortStableFunc(list, func(a, b Finding) int {
		return cmp.Or(
			cmp.Compare(ownRank(a.File), ownRank(b.File)),
			strings.Compare(a.File, b.File),
			cmp.Compare(a.Line, b.Line),
			cmp.Compare(a.Col, b.Col),
		)
	})
	list = slices.Compact(list)
	if f.more > 0 {
		list = append(list, Finding{Code: CodeMore, Message: fmt.Sprintf("findings left out: %d", f.more)})
	}
	return list
}

// ownRank puts the operator's files before the built-in ones: OPA often blames
// the first of two files that disagree, and the operator can change only one.
// What is in no file comes last.
func ownRank(file string) int {
	switch {
	case file == "":
		return 2
	case strings.HasPrefix(file, builtinPrefix):
		return 1
	}
	return 0
}

// addOPA adds errors of OPA's parser or compiler in words for people.
func (f *findings) addOPA(err error, s *settings) {
	var list ast.Errors
	var one *ast.Error
	switch {
	case errors.As(err, &list):
		for _, e := range list {
			f.addOne(e, s)
		}
	case errors.As(err, &one):
		f.addOne(one, s)
	case err != nil:
		f.add(Finding{Code: CodeInternal, Message: err.Error()})
	}
}

func (f *findings) addOne(e *ast.Error, s *settings) {
	if name, ok := strings.CutPrefix(e.Message, "undefined function "); ok {
		if why, forbidden := forbiddenBuiltins()[name]; forbidden {
			f.at(e.Location, CodeBuiltinForbidden,
				"to allow it, write `allow_builtins "+name+"` in the policy block",
				"%s is not available to policies: %s", name, why)
			return
		}
		f.at(e.Location, e.Code, didYouMean(name, builtinNames(s.caps)), "%s", e.Message)
		return
	}
	if detail, ok := e.Details.(*ast.RefErrInvalidDetail); ok && detail.Ref.HasPrefix(ast.InputRootRef) {
		f.addInputField(e, detail)
		return
	}
	hint := ""
	if e.Details != nil {
		hint = strings.Join(trimmed(e.Details.Lines()), "; ")
	}
	f.at(e.Location, e.Code, hint, "%s", e.Message)
}

// addInputField says that the input has no such field and what it has.
func (f *findings) addInputField(e *ast.Error, detail *ast.RefErrInvalidDetail) {
	known := make([]string, 0, len(detail.OneOf))
	for _, value := range detail.OneOf {
		if name, ok := value.(ast.String); ok {
			known = append(known, string(name))
		}
	}
	slices.Sort(known)
	name := detail.Ref[detail.Pos].Value
	hint := ""
	if text, ok := name.(ast.String); ok {
		hint = didYouMean(string(text), known)
	}
	if hint == "" && len(known) > 0 {
		hint = "there are: " + strings.Join(known, " ")
	}
	f.at(e.Location, CodeInputUnknownField, hint, "%v does not exist: %v has no field %v",
		detail.Ref, detail.Ref[:detail.Pos], name)
}

// trimmed drops the lines that only point at a column.
func trimmed(lines []string) []string {
	var kept []string
	for _, line := range lines {
		if line = strings.TrimSpace(line); strings.Trim(line, "^") != "" {
			kept = append(kept, line)
		}
	}
	return kept
}
