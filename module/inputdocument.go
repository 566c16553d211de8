// SPDX-License-Identifier: Apache-2.0

package module

import (
	"maps"
	"net/netip"
	"slices"

	"go.uber.org/zap/zapcore"

	"github.com/metaguard/metaguard/module/decision"
	"github.com/metaguard/metaguard/module/policy"
)

// inputDocument writes the input of a decision as policies see it, with the members in
// the order of their names. It is what documentField writes of policy.InputValue, without
// making OPA's values and Go's maps of it first.
type inputDocument decision.Input

// MarshalLogObject implements zap's interface.
func (d *inputDocument) MarshalLogObject(to zapcore.ObjectEncoder) error {
	for _, member := range [...]struct {
		name  string
		value zapcore.ObjectMarshaler
	}{
		{"caller", (*callerDocument)(&d.Caller)},
		{"request", (*requestDocument)(&d.Request)},
		{"resource", (*resourceDocument)(&d.Resource)},
		{"session", (*sessionDocument)(&d.Session)},
		{"target", (*targetDocument)(&d.Target)},
	} {
		if err := to.AddObject(member.name, member.value); err != nil {
			return err
		}
	}
	to.AddInt("version", d.Version)
	return nil
}

type callerDocument decision.Caller

func (d *callerDocument) MarshalLogObject(to zapcore.ObjectEncoder) error {
	to.AddString("address", addressText(d.Address))
	if err := addClaims(to, d.Claims); err != nil {
		return err
	}
	to.AddString("id", d.ID)
	to.AddString("instance_id", d.InstanceID)
	if err := addOptional(to, "process", d.Process != nil, (*processDocument)(d.Process)); err != nil {
		return err
	}
	to.AddString("project_id", d.ProjectID)
	if err := to.AddArray("roles", texts(d.Roles)); err != nil {
		return err
	}
	to.AddString("source", d.Source)
	return nil
}

// addClaims writes them as OPA reads them, whatever Go types they have.
func addClaims(to zapcore.ObjectEncoder, claims map[string]any) error {
	if len(claims) == 0 {
		return to.AddObject("claims", document(nil))
	}
	seen, err := policy.Seen(claims)
	if err != nil {
		return err
	}
	return addValue(to, "claims", seen)
}

func addOptional(to zapcore.ObjectEncoder, name string, there bool, value zapcore.ObjectMarshaler) error {
	if !there {
		return to.AddReflected(name, nil)
	}
	return to.AddObject(name, value)
}

func addressText(address netip.Addr) string {
	if !address.IsValid() {
		return ""
	}
	return address.String()
}

type processDocument decision.Process

func (d *processDocument) MarshalLogObject(to zapcore.ObjectEncoder) error {
	to.AddString("cgroup", d.Cgroup)
	to.AddString("command_line_sha256", d.CommandLineSHA256)
	to.AddString("container_id", d.ContainerID)
	to.AddString("executable", d.Executable)
	if err := to.AddArray("group_ids", numbers(d.GroupIDs)); err != nil {
		return err
	}
	if err := to.AddArray("groups", texts(d.Groups)); err != nil {
		return err
	}
	to.AddInt("pid", d.PID)
	to.AddString("unit", d.Unit)
	to.AddString("user", d.User)
	to.AddInt("user_id", d.UserID)
	return nil
}

type requestDocument decision.Request

func (d *requestDocument) MarshalLogObject(to zapcore.ObjectEncoder) error {
	if err := addOptional(to, "body", d.Body != nil, (*bodyDocument)(d.Body)); err != nil {
		return err
	}
	if err := to.AddObject("headers", headersDocument(d.Headers)); err != nil {
		return err
	}
	to.AddString("host", d.Host)
	to.AddString("id", d.ID)
	to.AddString("method", d.Method)
	to.AddString("path", d.Path)
	to.AddString("protocol", d.Protocol)
	if err := to.AddObject("query", queryDocument(d.Query)); err != nil {
		return err
	}
	return to.AddArray("segments", texts(d.Segments))
}

type bodyDocument decision.Body

func (d *bodyDocument) MarshalLogObject(to zapcore.ObjectEncoder) error {
	to.AddString("format", d.Format)
	to.AddInt("key_bits", d.KeyBits)
	to.AddInt("size", d.Size)
	return nil
}

type headersDocument map[string]string

func (d headersDocument) MarshalLogObject(to zapcore.ObjectEncoder) error {
	for _, name := range slices.Sorted(maps.Keys(d)) {
		to.AddString(name, d[name])
	}
	return nil
}

type queryDocument map[string][]string

func (d queryDocument) MarshalLogObject(to zapcore.ObjectEncoder) error {
	for _, name := range slices.Sorted(maps.Keys(d)) {
		if err := to.AddArray(name, texts(d[name])); err != nil {
			return err
		}
	}
	return nil
}

type resourceDocument decision.Resource

func (d *resourceDocument) MarshalLogObject(to zapcore.ObjectEncoder) error {
	to.AddString("action", string(d.Action))
	to.AddString("dialect", d.Dialect)
	to.AddString("key", d.Key)
	to.AddString("kind", string(d.Kind))
	to.AddBool("sensitive", d.Sensitive)
	to.AddString("version", d.Version)
	return nil
}

type sessionDocument decision.Session

func (d *sessionDocument) MarshalLogObject(to zapcore.ObjectEncoder) error {
	to.AddInt("age_seconds", d.AgeSeconds)
	to.AddBool("present", d.Present)
	to.AddBool("valid", d.Valid)
	return nil
}

type targetDocument decision.Target

func (d *targetDocument) MarshalLogObject(to zapcore.ObjectEncoder) error {
	to.AddString("address", addressText(d.Address))
	to.AddString("instance_id", d.InstanceID)
	to.AddString("project_id", d.ProjectID)
	return nil
}

type numbers []int

func (n numbers) MarshalLogArray(to zapcore.ArrayEncoder) error {
	for _, number := range n {
		to.AppendInt(number)
	}
	return nil
}
