// SPDX-License-Identifier: Apache-2.0

// Package decision holds the words that every part of Metaguard shares: who
// calls, on whose behalf, for what, what the policy sees of it, what it
// answers, and why a request was refused. It depends on the standard library
// only and does nothing.
package decision

import "net/netip"

// Version is the version of the input and decision documents.
const Version = 1

// Action is what a request does to a resource.
type Action string

// The two actions.
const (
	Read  Action = "read"
	Write Action = "write"
)

// Kind is the closed set of resource kinds that policies and metrics know.
type Kind string

// The resource kinds. A path that the dialect does not know is KindUnknown.
const (
	KindListing     Kind = "listing"
	KindMetadata    Kind = "metadata"
	KindPassword    Kind = "password"
	KindUserdata    Kind = "userdata"
	KindVendordata  Kind = "vendordata"
	KindNetwork     Kind = "network"
	KindCredentials Kind = "credentials"
	KindToken       Kind = "token"
	KindHealth      Kind = "health"
	KindUnknown     Kind = "unknown"
)

// Caller is a verified identity. An identity source fills it; nothing in it
// is a mere claim of the client.
type Caller struct {
	// Source is the name of the identity source: neutron, remote_ip, anonymous, ….
	Source string `json:"source"`
	// ID names the caller uniquely: "instance:<uuid>", "anonymous", ….
	ID string `json:"id"`
	// InstanceID is empty for callers that are no instance.
	InstanceID string `json:"instance_id"`
	// ProjectID is the caller's project (tenant), empty when unknown.
	ProjectID string `json:"project_id"`
	// Address is the caller's own address: the connection's, or the one that
	// a trusted agent vouches for.
	Address netip.Addr `json:"address"`
	// Roles come from the identity source (inventory, Keystone).
	Roles []string `json:"roles"`
	// Claims holds what else the source verified, by a closed allow-list.
	Claims map[string]any `json:"claims"`
	// Process is the calling process, nil where the source does not know it.
	Process *Process `json:"process"`
}

// Process is a local process as the kernel shows it. Whatever of it can be
// chosen by whoever starts it, such as the command line, proves nothing alone.
type Process struct {
	PID int `json:"pid"`
	// UserID is the effective user; User is its name, or empty.
	UserID int    `json:"user_id"`
	User   string `json:"user"`
	// GroupIDs holds the effective group first, then the others, sorted.
	GroupIDs []int `json:"group_ids"`
	// Groups holds the names of those that have one, in the same order.
	Groups []string `json:"groups"`
	// Executable is the absolute path of the running file; one that was
	// replaced or deleted since is empty.
	Executable string `json:"executable"`
	// CommandLineSHA256 is of the arguments, each with its final zero byte, in
	// hexadecimal digits.
	CommandLineSHA256 string `json:"command_line_sha256"`
	// Cgroup is the path in the unified hierarchy.
	Cgroup string `json:"cgroup"`
	// Unit is the innermost systemd service or scope in Cgroup, or empty.
	Unit string `json:"unit"`
	// ContainerID is the innermost 64 hexadecimal digits in Cgroup, or empty.
	ContainerID string `json:"container_id"`
}

// Target is the instance whose data a request is about.
type Target struct {
	InstanceID string     `json:"instance_id"`
	ProjectID  string     `json:"project_id"`
	Address    netip.Addr `json:"address"`
}

// Resource is what a request asks for, as the dialect reads it.
type Resource struct {
	Dialect   string `json:"dialect"`
	Kind      Kind   `json:"kind"`
	Version   string `json:"version"`
	Key       string `json:"key"`
	Action    Action `json:"action"`
	Sensitive bool   `json:"sensitive"`
}

// Body is a policy's view of a complete request body: never its bytes.
type Body struct {
	// Size is in bytes.
	Size int `json:"size"`
	// Format is "empty", "rsa_base64", "text" or "binary".
	Format string `json:"format"`
	// KeyBits is the RSA key size that a result of this length stands for; 0
	// unless Format is "rsa_base64".
	KeyBits int `json:"key_bits"`
}

// The values of Body.Format.
const (
	FormatEmpty     = "empty"
	FormatRSABase64 = "rsa_base64"
	FormatText      = "text"
	FormatBinary    = "binary"
)

// Request is a policy's view of the canonical request.
type Request struct {
	// ID is the decision id.
	ID       string              `json:"id"`
	Method   string              `json:"method"`
	Path     string              `json:"path"`
	Segments []string            `json:"segments"`
	Query    map[string][]string `json:"query"`
	Host     string              `json:"host"`
	Protocol string              `json:"protocol"`
	// Headers has lower-case names from a closed allow-list.
	Headers map[string]string `json:"headers"`
	// Body is nil where the dialect expects none.
	Body *Body `json:"body"`
}

// Session is a policy's view of the session token.
type Session struct {
	Present    bool `json:"present"`
	Valid      bool `json:"valid"`
	AgeSeconds int  `json:"age_seconds"`
}

// Input is the document that policies judge (input in Rego).
type Input struct {
	Version  int      `json:"version"`
	Request  Request  `json:"request"`
	Caller   Caller   `json:"caller"`
	Target   Target   `json:"target"`
	Resource Resource `json:"resource"`
	Session  Session  `json:"session"`
}

// Redact says what a policy hides from an allowed answer.
type Redact struct {
	// JSON holds JSON pointers (RFC 6901) of members to remove.
	JSON []string `json:"json,omitempty"`
	// Keys holds member names to remove at any depth.
	Keys []string `json:"keys,omitempty"`
	// Listing holds entries to remove from a listing; "meta-data" also
	// removes "meta-data/".
	Listing []string `json:"listing,omitempty"`
}

// Empty tells whether nothing is hidden.
func (r Redact) Empty() bool {
	return len(r.JSON) == 0 && len(r.Keys) == 0 && len(r.Listing) == 0
}

// Decision is a policy's answer, checked for form. Its zero value denies.
type Decision struct {
	Allow bool
	// Status belongs to a refusal: 0 (the operator's deny_status), 401, 403,
	// 404, 429, or 200 for a password read that is answered as empty.
	Status int
	// Reasons are the policy's own codes. They go to the log only.
	Reasons []string
	// Redact belongs to an allow.
	Redact Redact
}

// Verdict is how a request was judged, as it is published.
type Verdict string

// The verdicts. A request that never reached the policy is a Deny too.
const (
	Allow     Verdict = "allow"
	Deny      Verdict = "deny"
	WouldDeny Verdict = "would_deny"
)
