// SPDX-License-Identifier: Apache-2.0

package policytool

import (
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/spf13/pflag"

	"github.com/metaguard/metaguard/module/decision"
	"github.com/metaguard/metaguard/module/dialect"
	"github.com/metaguard/metaguard/module/policy"
)

// request is a request as a person would say it: who does what to what.
type request struct {
	by                    Caller
	target, targetProject string
	method, path          string
	headers               []string
	body                  body
	session               time.Duration
	spoken                *dialectFlag
	set                   *pflag.FlagSet
}

// requestFlags are the names of its flags but --as.
var requestFlags = []string{
	"source", "project", "address", "role", "target", "target-project", "method", "path",
	"header", "body-size", "body-format", "key-bits", "session-age", "dialect",
}

// The addresses that requests come from and go to unless they say otherwise;
// RFC 5737 keeps them for documentation.
var (
	callerAddress = netip.AddrFrom4([4]byte{192, 0, 2, 1})
	targetAddress = netip.AddrFrom4([4]byte{192, 0, 2, 2})
)

func (r *request) flags(flags *pflag.FlagSet) {
	r.set, r.spoken = flags, newDialectFlag()
	flags.StringVar(&r.by.As, "as", "", "`Caller`: instance:<id>, user:<id> or anonymous")
	flags.StringVarP(&r.method, "method", "X", http.MethodGet, "`Method`")
	flags.StringVar(&r.path, "path", "", "`Path`, such as /openstack/latest/password")
	flags.StringVar(&r.by.Project, "project", "", "`Id` of the caller's project")
	flags.StringArrayVar(&r.by.Roles, "role", nil, "`Role` of the caller; may be repeated")
	flags.StringVar(&r.by.Source, "source", "", "Identity `source` that vouches for the caller; default: neutron, keystone or anonymous")
	flags.StringVar(&r.by.Address, "address", callerAddress.String(), "`Address` of the caller")
	flags.StringVar(&r.target, "target", "", "`Id` of the instance that it is about; default: the caller itself")
	flags.StringVar(&r.targetProject, "target-project", "", "`Id` of that instance's project")
	flags.StringArrayVar(&r.headers, "header", nil, "Request header, `name=value`; may be repeated")
	flags.IntVar(&r.body.size, "body-size", 0, "`Bytes` of the body; default: what its format and key give")
	flags.StringVar(&r.body.format, "body-format", decision.FormatRSABase64, "What the body looks like: "+strings.Join(bodyFormats, ", "))
	flags.IntVar(&r.body.bits, "key-bits", defaultKeyBits, "`Bits` of the RSA key that the password is encrypted for")
	flags.DurationVar(&r.session, "session-age", 0, "How long ago a valid session began, such as 30s; default: there is none")
	flags.Var(r.spoken, "dialect", "Dialect that the path is read in: a name or a Caddyfile")
}

// input is the input document that a server would make of the request.
func (r *request) input() (ast.Value, error) {
	caller, err := r.by.Read()
	if err != nil {
		return nil, asFlag(err)
	}
	segments, err := splitPath(r.path, r.spoken.Traits().ExtraPathBytes)
	if err != nil {
		return nil, err
	}
	// Repeated slashes are one, as for a server.
	path, slash := "/"+strings.Join(segments, "/"), len(segments) > 0 && strings.HasSuffix(r.path, "/")
	if slash {
		path += "/"
	}
	in := &decision.Input{
		Version: decision.Version,
		Request: decision.Request{
			ID: "eval", Method: strings.ToUpper(r.method), Path: path, Segments: segments,
			Host: "169.254.169.254", Protocol: "HTTP/1.1",
		},
		Caller: caller,
		Target: decision.Target{InstanceID: caller.InstanceID, ProjectID: caller.ProjectID, Address: caller.Address},
	}
	if in.Request.Method == http.MethodHead {
		in.Request.Method = http.MethodGet
	}
	match := r.spoken.Classify(dialect.Request{Method: in.Request.Method, Segments: segments, TrailingSlash: slash})
	if !match.Allows(in.Request.Method) {
		return nil, fmt.Errorf("--method %s: %s has %s; a server refuses any other with 405 (%s), without asking the policy",
			in.Request.Method, r.path, strings.Join(match.Methods, ", "), decision.MethodNotAllowed)
	}
	in.Resource = match.Resource
	if err := r.aim(in, match); err != nil {
		return nil, err
	}
	if in.Request.Body, err = r.body.view(r.set, match.Body); err != nil {
		return nil, err
	}
	if in.Request.Headers, err = r.readHeaders(); err != nil {
		return nil, err
	}
	if r.set.Changed("session-age") {
		if r.session < 0 {
			return nil, fmt.Errorf("--session-age %v: a session cannot begin in the future", r.session)
		}
		in.Session = decision.Session{Present: true, Valid: true, AgeSeconds: int(r.session.Seconds())}
	}
	return policy.InputValue(in)
}

// aim reads whose data it is about: the caller's own, unless another instance
// is named.
func (r *request) aim(in *decision.Input, match dialect.Match) error {
	switch {
	case r.target != "" && r.target != in.Caller.InstanceID:
		in.Target = decision.Target{InstanceID: r.target, ProjectID: r.targetProject, Address: targetAddress}
	case r.targetProject != "":
		return fmt.Errorf("--target-project %s: say which instance of that project with --target", r.targetProject)
	}
	if match.Body && in.Target.InstanceID == "" {
		return fmt.Errorf("--method %s: %s is written for an instance: name it with --target; a server refuses it without one (%s)",
			in.Request.Method, r.path, decision.TargetUnknown)
	}
	return nil
}

// readHeaders reads headers as a policy sees them.
func (r *request) readHeaders() (map[string]string, error) {
	headers := map[string]string{}
	for _, header := range r.headers {
		name, value, ok := strings.Cut(header, "=")
		if !ok || name == "" {
			return nil, fmt.Errorf("--header %q is not name=value", header)
		}
		headers[strings.ToLower(name)] = value
	}
	return headers, nil
}

// splitPath gives the segments of a path, or says why a server would refuse
// to read it at all (module/canonical).
func splitPath(path, extra string) ([]string, error) {
	if path == "" {
		return nil, fmt.Errorf("--path is missing: say what is asked for, such as --path /openstack/latest/password")
	}
	refuse := func(why string) ([]string, error) {
		return nil, fmt.Errorf("--path %q: %s; a server refuses it with 400 (%s), without asking the policy", path, why, decision.RequestAmbiguous)
	}
	if path[0] != '/' {
		return refuse("it does not begin with a slash")
	}
	if strings.Contains(path, "%") {
		return nil, fmt.Errorf("--path %q: write it decoded, as a policy sees it", path)
	}
	for _, b := range []byte(path) {
		letter := 'a' <= b && b <= 'z' || 'A' <= b && b <= 'Z' || '0' <= b && b <= '9'
		if !letter && !strings.ContainsRune("._~-/"+extra, rune(b)) {
			return refuse(fmt.Sprintf("%q cannot stand in a path", b))
		}
	}
	segments := strings.FieldsFunc(path, func(r rune) bool { return r == '/' })
	if slices.Contains(segments, ".") || slices.Contains(segments, "..") {
		return refuse("it has a dot segment")
	}
	return segments, nil
}
