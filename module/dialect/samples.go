// SPDX-License-Identifier: Apache-2.0

package dialect

import (
	"net/http"
	"strings"

	"github.com/metaguard/metaguard/module/decision"
)

// Sample is one request that stands for all of its kind and method.
type Sample struct {
	Method string
	Path   string
}

// Commander is a dialect whose requests for "/" say in the header
// Traits.Command what they are for.
type Commander interface {
	// Commands lists what the header may be.
	Commands() []string
}

// Samples gives an input document for every kind of resource and every method
// of a dialect, without a caller. A policy is tried with them when it is
// loaded.
func Samples(d Dialect) []decision.Input {
	samples := d.Samples()
	inputs := make([]decision.Input, 0, len(samples))
	for _, sample := range samples {
		inputs = append(inputs, sample.input(d, nil))
	}
	if commander, ok := d.(Commander); ok {
		name := d.Traits().Command
		for _, command := range commander.Commands() {
			in := Sample{http.MethodGet, "/"}.input(d, http.Header{name: {command}})
			in.Request.Headers[strings.ToLower(name)] = command
			inputs = append(inputs, in)
		}
	}
	return inputs
}

func (s Sample) input(d Dialect, header http.Header) decision.Input {
	segments := strings.FieldsFunc(s.Path, func(r rune) bool { return r == '/' })
	match := d.Classify(Request{
		Method: s.Method, Segments: segments, TrailingSlash: s.Path != "/" && strings.HasSuffix(s.Path, "/"), Header: header,
	})
	in := decision.Input{
		Version: decision.Version,
		Request: decision.Request{
			Method: s.Method, Path: s.Path, Segments: segments,
			Host: "169.254.169.254", Protocol: "HTTP/1.1",
			Headers: map[string]string{"user-agent": "metaguard-smoke-test"},
		},
		Resource: match.Resource,
	}
	if match.Body {
		// What an encrypted password looks like.
		in.Request.Body = &decision.Body{Size: 344, Format: decision.FormatRSABase64, KeyBits: 2048}
	}
	return in
}

// Samples holds both of Nova's trees.
func (OpenStack) Samples() []Sample {
	return []Sample{
		{http.MethodGet, "/openstack/latest"},
		{http.MethodGet, "/openstack/latest/meta_data.json"},
		{http.MethodGet, "/openstack/latest/password"},
		{http.MethodPost, "/openstack/latest/password"},
		{http.MethodGet, "/openstack/latest/user_data"},
		{http.MethodGet, "/openstack/latest/vendor_data.json"},
		{http.MethodGet, "/openstack/latest/network_data.json"},
		{http.MethodGet, "/openstack/latest/nothing"},
		{http.MethodGet, "/healthcheck"},
		{http.MethodGet, "/latest"},
		{http.MethodGet, "/latest/meta-data/hostname"},
		{http.MethodGet, "/latest/user-data"},
		{http.MethodGet, "/latest/nothing"},
	}
}
