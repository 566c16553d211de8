// SPDX-License-Identifier: Apache-2.0

// Package policy owns the embedded OPA: it compiles the built-in policy and
// the operator's files, keeps the last good result, exchanges it when the
// files change, and turns one input into one verdict.
//
// # What can be trusted
//
// Everything that is not a well-formed answer is a denial with its own reason:
// an undefined decision, an error, a failed built-in function, a timeout, a
// cancelled request, a malformed decision, a panic. A policy that would deny
// or allow nothing because of a misspelt name, package or input field is not
// loaded at all.
//
// # What a policy cannot do
//
// Built-in functions that reach the network, files or the environment do not
// exist unless [Config.AllowBuiltins] names them.
package policy

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/metaguard/metaguard/module/decision"
	"github.com/metaguard/metaguard/module/pace"
)

// The defaults of [Config].
const (
	DefaultEntrypoint   = "metaguard/decision"
	DefaultTimeout      = 100 * time.Millisecond
	DefaultReadyTimeout = 10 * time.Second
)

// Config says what an [Engine] loads and how it decides. Its zero value is the
// built-in policy with the defaults.
type Config struct {
	// Paths are the operator's directories and files (.rego, .json, .yaml,
	// .yml). Relative ones count from the working directory. They are added to
	// the built-in policy; files with `package metaguard` replace it.
	//
	// Directories are read with their sub-directories, whose names are part of
	// the path of data documents, as in `opa run`. Names that begin with a dot
	// and files that end in _test.rego are left out. Symbolic links are
	// followed.
	Paths []string `json:"paths,omitempty"`
	// Entrypoint is the rule that gives the decision, as package path and
	// name separated by slashes. Default: metaguard/decision.
	Entrypoint string `json:"entrypoint,omitempty"`
	// Timeout bounds one decision. Default: 100ms.
	Timeout time.Duration `json:"timeout,omitempty"`
	// AllowBuiltins names built-in functions that are off by default, such as
	// http.send; see [ForbiddenBuiltins].
	AllowBuiltins []string `json:"allow_builtins,omitempty"`
	// ReadyTimeout bounds how long a request waits for a policy that comes
	// from elsewhere. Local files are ready when New returns. Default: 10s.
	ReadyTimeout time.Duration `json:"ready_timeout,omitempty"`
	// Cache is how many verdicts are remembered for inputs that come again, less
	// than 0 is none; a policy that uses builtins such as time.now_ns, whose
	// answer is not in the input, never has any. Those longest unasked are
	// forgotten. Default: 131,072, which take 9 MiB.
	Cache int `json:"cache,omitempty"`
	// OPA is a file with OPA's own configuration: services, bundles, discovery,
	// decision_logs, status, keys, labels, caching and persistence_directory.
	// Policies from bundles are added to the built-in one and to Paths.
	// Default: none.
	OPA string `json:"opa,omitempty"`
	// SystemRules tells that rules for OPA itself, such as package system.log, are
	// among the files although this engine does not use them: another one does.
	SystemRules bool `json:"system_rules,omitempty"`
	// RefuseUnlogged makes [Engine.Record] fail where a decision event finds
	// OPA's buffer full. Default: the oldest event is dropped and counted.
	RefuseUnlogged bool `json:"refuse_unlogged,omitempty"`
	// Served is the policy of a running Metaguard, as [Policy.WriteBundle] wrote
	// it, to which Paths are added. It is for tools; default: none.
	Served []byte `json:"-"`
	// Samples are requests that the smoke test tries when a policy is loaded,
	// without a caller. Default: none, and no smoke test.
	Samples []decision.Input `json:"samples,omitempty"`
}

// Option changes how an [Engine] tells of what it does.
type Option func(*Engine)

// PrintHook receives what a policy's print() says: the file and line of the
// call, and the text.
type PrintHook func(file string, line int, text string)

// WithPrint sends the output of print() to hook while enabled says so. Without
// this option print() is removed when a policy is compiled and costs nothing.
func WithPrint(enabled func() bool, hook PrintHook) Option {
	return func(e *Engine) {
		if hook != nil {
			e.print = &printer{enabled: enabled, hook: hook}
		}
	}
}

// WithLoadHook calls hook after each attempt to load changed files, from the
// engine's own goroutine. What New loads is not reported: New returns it.
func WithLoadHook(hook func(LoadEvent)) Option {
	return func(e *Engine) { e.onLoad = hook }
}

// WithStateDir gives a directory in which OPA keeps what bundles persist, unless
// its configuration names one. Default: .opa in the working directory.
func WithStateDir(dir string) Option {
	return func(e *Engine) { e.stateDir = dir }
}

// WithPollInterval sets how often the files are looked at. Default: 500ms,
// which makes an edit live within two seconds.
func WithPollInterval(interval time.Duration) Option {
	return func(e *Engine) { e.interval = interval }
}

// settings is a checked Config.
type settings struct {
	Config
	query ast.Ref
	caps  *ast.Capabilities
	// remote tells that policies come from elsewhere too.
	remote bool
	// reachesOut tells that evaluating a sample could reach out of the process.
	reachesOut bool
}

// check fills in the defaults and checks everything that needs no file.
func (c Config) check() (*settings, error) {
	s := &settings{Config: c}
	s.Paths = make([]string, 0, len(c.Paths))
	for _, path := range c.Paths {
		if path == "" {
			return nil, errors.New("policy path is empty")
		}
		abs, err := filepath.Abs(path)
		if err != nil {
			return nil, fmt.Errorf("resolving policy path %q: %w", path, err)
		}
		if !slices.Contains(s.Paths, abs) {
			s.Paths = append(s.Paths, abs)
		}
	}
	if s.OPA != "" {
		var err error
		if s.OPA, err = filepath.Abs(s.OPA); err != nil {
			return nil, fmt.Errorf("resolving the path of OPA's configuration %q: %w", c.OPA, err)
		}
	}
	if s.Entrypoint == "" {
		s.Entrypoint = DefaultEntrypoint
	}
	if s.Cache == 0 {
		s.Cache = DefaultCache
	}
	if s.Timeout == 0 {
		s.Timeout = DefaultTimeout
	}
	if s.ReadyTimeout == 0 {
		s.ReadyTimeout = DefaultReadyTimeout
	}
	if s.Timeout < 0 || s.ReadyTimeout < 0 {
		return nil, errors.New("policy timeout is negative")
	}
	var err error
	if s.query, err = entrypointRef(s.Entrypoint); err != nil {
		return nil, err
	}
	s.AllowBuiltins = slices.Sorted(slices.Values(c.AllowBuiltins))
	s.AllowBuiltins = slices.Compact(s.AllowBuiltins)
	if s.caps, err = capabilities(s.AllowBuiltins); err != nil {
		return nil, err
	}
	s.reachesOut = len(s.AllowBuiltins) > 0
	return s, nil
}

// read reads the operator's files, OPA's configuration among them.
func (s *settings) read() (*source, error) {
	src, err := read(s.Paths, new(pace.Pace))
	if err != nil {
		return nil, err
	}
	if err := s.addServed(src); err != nil {
		return nil, err
	}
	if s.OPA == "" {
		if s.RefuseUnlogged {
			return nil, errors.New("log_full refuse needs `opa <file>` with decision_logs: there is nothing that could be full")
		}
		return src, nil
	}
	if src.opa, err = readOPA(s.OPA); err != nil {
		return nil, err
	}
	if s.RefuseUnlogged {
		if err := src.opa.mustKeepEvents(); err != nil {
			return nil, &Error{Findings: []Finding{{File: src.opa.name, Code: CodeOPAConfig, Message: err.Error()}}}
		}
	}
	return src, nil
}

// addServed adds the policy of a running server.
func (s *settings) addServed(src *source) error {
	if len(s.Served) == 0 {
		return nil
	}
	served, err := readServed(s.Served)
	if err != nil {
		return err
	}
	src.bundles = append(src.bundles, *served)
	return nil
}

// entrypointRef turns a/b/c into data.a.b.c.
func entrypointRef(entrypoint string) (ast.Ref, error) {
	ref := ast.Ref{ast.DefaultRootDocument}
	for name := range strings.SplitSeq(entrypoint, "/") {
		if name == "" || strings.ContainsAny(name, ". \t") {
			return nil, fmt.Errorf("entrypoint %q is not a path such as %s", entrypoint, DefaultEntrypoint)
		}
		ref = append(ref, ast.StringTerm(name))
	}
	if len(ref) < 3 {
		return nil, fmt.Errorf("entrypoint %q names no rule in a package, such as %s", entrypoint, DefaultEntrypoint)
	}
	return ref, nil
}

// Digest tells what New would load, without compiling it: a hexadecimal
// SHA-256 over the configuration, the contents of all files, the built-in
// policy and OPA's version. Two configurations with the same digest decide
// alike. It fails when a file cannot be read.
func Digest(c Config) (string, error) {
	s, err := c.check()
	if err != nil {
		return "", err
	}
	src, err := s.read()
	if err != nil {
		return "", err
	}
	return s.key(src), nil
}
