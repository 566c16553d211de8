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

// The names below the parts of an input, and values that are often met, made once: a term
// is never written to.
var names = struct {
	request, caller, resource, id, kind, action                     *ast.Term
	size, format, keyBits                                           *ast.Term
	pid, userID, user, groupIDs, groups, executable, commandLineSHA *ast.Term
	cgroup, unit, containerID                                       *ast.Term
	emptyString, emptyArray, emptyObject, null                      *ast.Term
}{
	request: ast.StringTerm("request"), caller: ast.StringTerm("caller"), resource: ast.StringTerm("resource"),
	id: ast.StringTerm("id"), kind: ast.StringTerm("kind"), action: ast.StringTerm("action"),
	size: ast.StringTerm("size"), format: ast.StringTerm("format"), keyBits: ast.StringTerm("key_bits"),
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

// terms makes terms from one block of memory.
type terms struct {
	free []ast.Term
	err  error // the first value that cannot be shown
}

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

func (t *terms) claims(claims map[string]any) *ast.Term {
	if len(claims) == 0 {
		return names.emptyObject
	}
	value, err := ast.InterfaceToValue(claims)
	if err != nil {
		t.err = errors.New("a claim of the caller cannot be shown to a policy")
		return names.null
	}
	return t.term(value)
}

func (t *terms) query(query map[string][]string) *ast.Term {
	if len(query) == 0 {
		return names.emptyObject
	}
	members := make([]member, 0, len(query))
	for name, values := range query {
		members = append(members, member{t.text(name), t.texts(values)})
	}
	return t.object(members...)
}

func (t *terms) headers(headers map[string]string) *ast.Term {
	if len(headers) == 0 {
		return names.emptyObject
	}
	members := make([]member, 0, len(headers))
	for name, value := range headers {
		members = append(members, member{t.text(name), t.text(value)})
	}
	return t.object(members...)
}

func (t *terms) body(body *decision.Body) *ast.Term {
	if body == nil {
		return names.null
	}
	return t.object(
		member{names.size, ast.InternedTerm(body.Size)},
		member{names.format, t.text(body.Format)},
		member{names.keyBits, ast.InternedTerm(body.KeyBits)},
	)
}
