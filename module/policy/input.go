// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"errors"
	"net/netip"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/metaguard/metaguard/module/decision"
)

// member is a member of an input object.
type member = [2]*ast.Term

// The names of the input document, made once: a term is never written to.
var names = struct {
	version, request, caller, target, resource, session               *ast.Term
	id, method, path, segments, query, host, protocol, headers, body  *ast.Term
	size, format, keyBits                                             *ast.Term
	source, instanceID, projectID, address, roles, claims, process    *ast.Term
	dialect, kind, key, action, sensitive, present, valid, ageSeconds *ast.Term
	pid, userID, user, groupIDs, groups, executable, commandLineSHA   *ast.Term
	cgroup, unit, containerID                                         *ast.Term
	emptyString, emptyArray, emptyObject, null                        *ast.Term
}{
	version: ast.StringTerm("version"), request: ast.StringTerm("request"), caller: ast.StringTerm("caller"),
	target: ast.StringTerm("target"), resource: ast.StringTerm("resource"), session: ast.StringTerm("session"),
	id: ast.StringTerm("id"), method: ast.StringTerm("method"), path: ast.StringTerm("path"),
	segments: ast.StringTerm("segments"), query: ast.StringTerm("query"), host: ast.StringTerm("host"),
	protocol: ast.StringTerm("protocol"), headers: ast.StringTerm("headers"), body: ast.StringTerm("body"),
	size: ast.StringTerm("size"), format: ast.StringTerm("format"), keyBits: ast.StringTerm("key_bits"),
	source: ast.StringTerm("source"), instanceID: ast.StringTerm("instance_id"), projectID: ast.StringTerm("project_id"),
	address: ast.StringTerm("address"), roles: ast.StringTerm("roles"), claims: ast.StringTerm("claims"),
	process: ast.StringTerm("process"), dialect: ast.StringTerm("dialect"), kind: ast.StringTerm("kind"),
	key: ast.StringTerm("key"), action: ast.StringTerm("action"), sensitive: ast.StringTerm("sensitive"),
	present: ast.StringTerm("present"), valid: ast.StringTerm("valid"), ageSeconds: ast.StringTerm("age_seconds"),
	pid: ast.StringTerm("pid"), userID: ast.StringTerm("user_id"), user: ast.StringTerm("user"),
	groupIDs: ast.StringTerm("group_ids"), groups: ast.StringTerm("groups"), executable: ast.StringTerm("executable"),
	commandLineSHA: ast.StringTerm("command_line_sha256"), cgroup: ast.StringTerm("cgroup"),
	unit: ast.StringTerm("unit"), containerID: ast.StringTerm("container_id"),
	emptyString: ast.StringTerm(""), emptyArray: ast.ArrayTerm(), emptyObject: ast.ObjectTerm(), null: ast.NullTerm(),
}

// words are strings that most requests have.
var words = func() map[string]*ast.Term {
	terms := map[string]*ast.Term{}
	for _, word := range []string{
		"GET", "HEAD", "POST", "PUT", "DELETE", "HTTP/1.0", "HTTP/1.1", "HTTP/2.0",
		"read", "write", "listing", "metadata", "password", "userdata", "vendordata", "network", "credentials",
		"token", "health", "unknown", "empty", "rsa_base64", "text", "binary",
		"neutron", "remote_ip", "process", "anonymous", "openstack", "ec2", "latest", "meta-data", "user-data",
		"meta_data.json", "user_data", "vendor_data.json", "vendor_data2.json", "network_data.json",
		"169.254.169.254", "user-agent", "accept", "content-type", "*/*", "text/plain", "application/json",
		"dynamic", "instance-identity", "document", "iam", "security-credentials", "instance-id", "placement", "api", "version",
		"gce", "computeMetadata", "v1", "instance", "project", "attributes", "service-accounts", "default", "identity", "network-interfaces",
		"recursive", "alt", "wait_for_change", "last_etag", "timeout_sec", "true", "json", "metadata-flavor", "Google", "metadata.google.internal",
		"azure", "compute", "oauth2", "attested", "scheduledevents", "api-version", "resource",
		"cloudstack", "domu_request", "send_my_password", "saved_password", "generic", "mtls", "jwt", "keystone",
	} {
		terms[word] = ast.StringTerm(word)
	}
	return terms
}()

// usualTerms is how many of its own a request of an instance has, and a few more.
const usualTerms = 24

// InputValue builds the input document, without a detour over JSON. It has
// every member at all times, so that a policy never meets an undefined one.
func InputValue(in *decision.Input) (ast.Value, error) {
	if in == nil {
		return nil, errors.New("there is no input")
	}
	t := terms{free: make([]ast.Term, 0, usualTerms)}
	claims := names.emptyObject
	if len(in.Caller.Claims) > 0 {
		value, err := ast.InterfaceToValue(in.Caller.Claims)
		if err != nil {
			return nil, errors.New("a claim of the caller cannot be shown to a policy")
		}
		claims = t.term(value)
	}
	return ast.NewObject(
		member{names.version, ast.InternedTerm(in.Version)},
		member{names.request, t.request(&in.Request)},
		member{names.caller, t.object(
			member{names.source, t.text(in.Caller.Source)},
			member{names.id, t.text(in.Caller.ID)},
			member{names.instanceID, t.text(in.Caller.InstanceID)},
			member{names.projectID, t.text(in.Caller.ProjectID)},
			member{names.address, t.address(in.Caller.Address)},
			member{names.roles, t.texts(in.Caller.Roles)},
			member{names.claims, claims},
			member{names.process, t.process(in.Caller.Process)},
		)},
		member{names.target, t.object(
			member{names.instanceID, t.text(in.Target.InstanceID)},
			member{names.projectID, t.text(in.Target.ProjectID)},
			member{names.address, t.address(in.Target.Address)},
		)},
		member{names.resource, t.object(
			member{names.dialect, t.text(in.Resource.Dialect)},
			member{names.kind, t.text(string(in.Resource.Kind))},
			member{names.version, t.text(in.Resource.Version)},
			member{names.key, t.text(in.Resource.Key)},
			member{names.action, t.text(string(in.Resource.Action))},
			member{names.sensitive, ast.InternedTerm(in.Resource.Sensitive)},
		)},
		member{names.session, t.session(in.Session)},
	), nil
}

// noSession is what most requests have. Values of OPA never change.
var noSession = new(terms).newSession(decision.Session{})

func (t *terms) session(s decision.Session) *ast.Term {
	if s == (decision.Session{}) {
		return noSession
	}
	return t.newSession(s)
}

func (t *terms) newSession(s decision.Session) *ast.Term {
	return t.object(
		member{names.present, ast.InternedTerm(s.Present)},
		member{names.valid, ast.InternedTerm(s.Valid)},
		member{names.ageSeconds, ast.InternedTerm(s.AgeSeconds)},
	)
}

// terms makes terms from one block of memory.
type terms struct{ free []ast.Term }

func (t *terms) term(value ast.Value) *ast.Term {
	if len(t.free) == cap(t.free) {
		t.free = make([]ast.Term, 0, 1+cap(t.free))
	}
	t.free = append(t.free, ast.Term{Value: value})
	return &t.free[len(t.free)-1]
}

func (t *terms) object(members ...member) *ast.Term { return t.term(ast.NewObject(members...)) }

func (t *terms) text(text string) *ast.Term {
	if text == "" {
		return names.emptyString
	}
	if term, ok := words[text]; ok {
		return term
	}
	return t.term(ast.String(text))
}

func (t *terms) texts(list []string) *ast.Term {
	if len(list) == 0 {
		return names.emptyArray
	}
	items := make([]*ast.Term, len(list))
	for i, text := range list {
		items[i] = t.text(text)
	}
	return t.term(ast.NewArray(items...))
}

func (t *terms) address(address netip.Addr) *ast.Term {
	if !address.IsValid() {
		return names.emptyString
	}
	return t.text(address.String())
}

func (t *terms) numbers(list []int) *ast.Term {
	if len(list) == 0 {
		return names.emptyArray
	}
	items := make([]*ast.Term, len(list))
	for i, number := range list {
		items[i] = ast.InternedTerm(number)
	}
	return t.term(ast.NewArray(items...))
}

func (t *terms) process(p *decision.Process) *ast.Term {
	if p == nil {
		return names.null
	}
	return t.object(
		member{names.pid, ast.InternedTerm(p.PID)},
		member{names.userID, ast.InternedTerm(p.UserID)},
		member{names.user, t.text(p.User)},
		member{names.groupIDs, t.numbers(p.GroupIDs)},
		member{names.groups, t.texts(p.Groups)},
		member{names.executable, t.text(p.Executable)},
		member{names.commandLineSHA, t.text(p.CommandLineSHA256)},
		member{names.cgroup, t.text(p.Cgroup)},
		member{names.unit, t.text(p.Unit)},
		member{names.containerID, t.text(p.ContainerID)},
	)
}

func (t *terms) request(r *decision.Request) *ast.Term {
	query, headers, body := names.emptyObject, names.emptyObject, names.null
	if len(r.Query) > 0 {
		members := make([]member, 0, len(r.Query))
		for name, values := range r.Query {
			members = append(members, member{t.text(name), t.texts(values)})
		}
		query = t.object(members...)
	}
	if len(r.Headers) > 0 {
		members := make([]member, 0, len(r.Headers))
		for name, value := range r.Headers {
			members = append(members, member{t.text(name), t.text(value)})
		}
		headers = t.object(members...)
	}
	if r.Body != nil {
		body = t.object(
			member{names.size, ast.InternedTerm(r.Body.Size)},
			member{names.format, t.text(r.Body.Format)},
			member{names.keyBits, ast.InternedTerm(r.Body.KeyBits)},
		)
	}
	return t.object(
		member{names.id, t.text(r.ID)},
		member{names.method, t.text(r.Method)},
		member{names.path, t.text(r.Path)},
		member{names.segments, t.texts(r.Segments)},
		member{names.query, query},
		member{names.host, t.text(r.Host)},
		member{names.protocol, t.text(r.Protocol)},
		member{names.headers, headers},
		member{names.body, body},
	)
}
