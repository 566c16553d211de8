// SPDX-License-Identifier: Apache-2.0

package dialect

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

func init() {
	caddy.RegisterModule(GCE{})
}

// GCE is the dialect of Google Compute Engine's metadata server and of those
// that speak like it: /computeMetadata/v1/…, as on Google's pages "View and
// query VM metadata" (docs.cloud.google.com/compute/docs/metadata/querying-metadata)
// and "Predefined metadata keys" (…/metadata/predefined-metadata-keys). Its
// names are in gce_table.go.
//
// A directory with `recursive=true` is a JSON document whose members are judged
// as if each was asked for, so that it says what its parts would say. Such a
// document as text (`alt=text`), and the names in a directory as JSON
// (`alt=json`), are refused: in the first a value with a line break looks like more
// members, and no page says what the second looks like.
//
// `wait_for_change=true` keeps the answer back until something changes, for
// `timeout_sec` seconds, and at most ten minutes. Whoever is told 504 then, or when
// Metaguard is reloaded, asks again with the same `last_etag` and misses nothing.
//
// Writes to guest-attributes/ are refused (405), also cloud-init's of host keys,
// which it goes on after (DataSourceGCE.py, _write_host_key_to_guest_attributes).
// So is the header X-Google-Metadata-Request, which clients of before 2015 sent in
// place of Metadata-Flavor. Not known, and so refused by the built-in policy, are
// oslogin/ and the versions 0.1 and v1beta1.
type GCE struct{}

// CaddyModule returns the Caddy module information.
func (GCE) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "metaguard.dialects.gce",
		New: func() caddy.Module { return new(GCE) },
	}
}

// Name says "gce".
func (GCE) Name() string { return "gce" }

// gceMaxWait is the longest wait for a change. The guest agent asks for 60 s, and
// the Go client's Subscribe for as long as it takes.
const gceMaxWait = 10 * time.Minute

// Traits are those of Google's server and its clients:
//
//   - 400, 401, 403, 405, 409: an error at once for the Go client
//     (cloud.google.com/go/compute/metadata, getETagWithSubClient), but once its
//     SubscribeWithContext has had a value it asks again every 5 s, for ever. The
//     guest agent asks 100 times, 100 ms apart (google-guest-agent,
//     internal/metadata/metadata.go, shouldRetry), and cloud-init 6 times, a second apart, after
//     which the value is missing (DataSourceGCE.py, get_value), which makes it no GCE if it is
//     instance/id, zone or hostname (read_md).
//   - 404: what is not there, for all of them: NotDefinedError, which also ends a
//     Subscribe; final for the guest agent; cloud-init as above.
//   - 429, 5xx: the Go client asks 6 times, from 100 ms up to 3 s apart (retry.go,
//     shouldRetry), and Subscribe again after 5 s with the tag that it had. The
//     guest agent and cloud-init as above.
func (GCE) Traits() Traits {
	return Traits{
		ExtraPathBytes: "@", // of service accounts
		Query: map[string][]string{
			"alt":             {"json", "text"},
			"recursive":       {"true", "false"}, // cloud-init says True
			"wait_for_change": {"true", "false"},
			"last_etag":       nil,
			"timeout_sec":     nil,
			"audience":        nil, // of identity
			"format":          {"full", "standard"},
			"licenses":        {"true", "false"},
			"scopes":          nil, // of token
		},
		RequestHeaders:   []string{"Metadata-Flavor"},
		Required:         Header{"Metadata-Flavor", "Google"},
		Mark:             Header{"Metadata-Flavor", "Google"},
		RefusesForwarded: true, // querying-metadata, "Security considerations"
		RedirectsToSlash: true,
		DenyStatus:       http.StatusNotFound,
		MaxWait:          gceMaxWait,
		VersionTags:      true,
		Survives:         []int{http.StatusNotFound},
	}
}

// Classify tells what a canonical request asks for.
func (GCE) Classify(r Request) Match {
	match := gceTable.classify(r)
	match.Direct = true
	recursive, alt := strings.EqualFold(r.Query.Get("recursive"), "true"), r.Query.Get("alt")
	if match.Format == Listing {
		switch {
		case recursive && strings.EqualFold(alt, "text"):
			match.Ambiguous = "query_recursive_text"
		case recursive:
			match.Format, match.Tree = JSON, true
		case strings.EqualFold(alt, "json"):
			match.Ambiguous = "query_listing_json"
		}
	}
	if !strings.EqualFold(r.Query.Get("wait_for_change"), "true") {
		return match
	}
	var known bool
	if match.Wait, known = gceWait(r.Query); !known {
		match.Ambiguous = "query_timeout_sec"
	}
	return match
}

// gceWait is how long a request for a change may wait. A longer time than there is
// is forwarded as it was asked for, since the client asks again when it is cut off,
// as it does where it named none.
func gceWait(query url.Values) (wait time.Duration, known bool) {
	text, limited := query["timeout_sec"]
	if !limited {
		return gceMaxWait, true
	}
	if !isNumber(text[0]) {
		return 0, false
	}
	seconds, err := strconv.Atoi(text[0])
	if err != nil || seconds > int(gceMaxWait/time.Second) {
		return gceMaxWait, true
	}
	return time.Duration(seconds) * time.Second, true
}

// Below names a member as a path does: its name in hyphens (serviceAccounts is
// service-accounts), but as it is where it was not the server that chose it.
func (GCE) Below(r Request, members []string) Request {
	segments := r.Segments[:len(r.Segments):len(r.Segments)]
	for _, name := range members {
		if !gceKeepsNames(segments) {
			name = hyphenated(name)
		}
		segments = append(segments, name)
	}
	found, _ := gceTable.find(segments)
	return Request{Method: http.MethodGet, Segments: segments, TrailingSlash: found != nil && found.format == Listing, Header: r.Header}
}

// gceKeepsNames tells whether what stands directly below a path has the same name in
// paths and documents: attributes, service accounts, and computeMetadata itself.
func gceKeepsNames(segments []string) bool {
	const at = 3 // after computeMetadata, the version, and instance or project
	if len(segments) == 0 {
		return true
	}
	if len(segments) <= at {
		return false
	}
	switch segments[at] {
	case "attributes", "guest-attributes", "partner-attributes":
		return true
	case "service-accounts":
		return len(segments) == at+1
	}
	return false
}

// hyphenated makes machine-type of machineType.
func hyphenated(name string) string {
	if strings.IndexFunc(name, isCapital) < 0 {
		return name
	}
	text := make([]byte, 0, len(name)+4)
	for i := range len(name) {
		b := name[i]
		if isCapital(rune(b)) {
			if i > 0 {
				text = append(text, '-')
			}
			b += 'a' - 'A'
		}
		text = append(text, b)
	}
	return string(text)
}

func isCapital(r rune) bool { return 'A' <= r && r <= 'Z' }

// Samples holds every kind.
func (GCE) Samples() []Sample {
	return []Sample{
		{http.MethodGet, "/"},
		{http.MethodGet, "/computeMetadata/v1/"},
		{http.MethodGet, "/computeMetadata/v1/instance/id"},
		{http.MethodGet, "/computeMetadata/v1/instance/attributes/ssh-keys"},
		{http.MethodGet, "/computeMetadata/v1/instance/attributes/startup-script"},
		{http.MethodGet, "/computeMetadata/v1/instance/network-interfaces/0/ip"},
		{http.MethodGet, "/computeMetadata/v1/instance/service-accounts/default/identity"},
		{http.MethodGet, "/computeMetadata/v1/instance/service-accounts/default/token"},
		{http.MethodGet, "/computeMetadata/v1/nothing"},
	}
}

// UnmarshalCaddyfile sets up the dialect, which has no settings:
//
//	dialect gce
func (*GCE) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	if d.NextArg() {
		return d.ArgErr()
	}
	if d.NextBlock(d.Nesting()) {
		return d.Errf("dialect gce has no settings, found %q", d.Val())
	}
	return nil
}

// Interface guards.
var (
	_ Dialect               = (*GCE)(nil)
	_ Trees                 = (*GCE)(nil)
	_ caddyfile.Unmarshaler = (*GCE)(nil)
)
