// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// GCE is a scripted metadata server that speaks as Google's does. Each rule cites
// where it is from; "query" is Google's page "View and query VM metadata"
// (docs.cloud.google.com/compute/docs/metadata/querying-metadata), "keys" its page
// "Predefined metadata keys" (…/predefined-metadata-keys).
type GCE struct {
	// Address is where it listens.
	Address string
	// Leaks makes recursive answers hold tokens, as Google's never do.
	Leaks bool

	mu       sync.Mutex
	document map[string]any
	changed  chan struct{} // closed at a change
	requests []*http.Request
	waiting  int
}

// unlisted is a leaf that recursive answers leave out: Google's hold neither tokens
// nor identities of service accounts ("keys", service-accounts/).
type unlisted string

// lines is a leaf of several lines, which is an array in JSON ("keys", scopes and aliases).
type lines []any

// asJSON is a leaf that is JSON by default ("query", "Data output formats": tags).
type asJSON []any

// NewGCE starts one.
func NewGCE(tb testing.TB) *GCE {
	tb.Helper()
	g := &GCE{changed: make(chan struct{}), document: gceDocument()}
	server := httptest.NewServer(g)
	g.Address = strings.TrimPrefix(server.URL, "http://")
	tb.Cleanup(func() {
		server.CloseClientConnections() // some may wait
		server.Close()
	})
	return g
}

// gceDocument is a machine's, with the names that one showed (member by member the
// recursive answer of a machine of 2023, in elastic/apm-agent-nodejs,
// test/_mock_http_cloud_metadata…, and google-guest-agent's unmarshal.go).
func gceDocument() map[string]any {
	account := map[string]any{
		"aliases":  lines{"default"},
		"email":    "1-compute@developer.gserviceaccount.com",
		"scopes":   lines{"https://www.googleapis.com/auth/devstorage.read_only", "https://www.googleapis.com/auth/logging.write"},
		"token":    unlisted(`{"access_token":"s3cret-token","expires_in":3599,"token_type":"Bearer"}`),
		"identity": unlisted("s3cret-identity"),
	}
	return map[string]any{
		"instance": map[string]any{
			"attributes": map[string]any{
				"ssh-keys": "alice:ssh-ed25519 AAAA alice", "sshKeys": "old:ssh-rsa BBBB old", "windows-keys": `{"userName":"w","modulus":"m"}`,
				"startup-script": "#!/bin/sh\necho hello", "user-data": "#cloud-config\n{}", "myOwnName": "mine", "enable-oslogin": "FALSE",
			},
			"cpuPlatform": "AMD Milan", "description": "", "hostname": "vm1.c.project-1.internal", "id": json.Number("5737554347302044216"),
			"image": "projects/debian-cloud/global/images/debian-12", "machineType": "projects/523/machineTypes/e2-medium",
			"maintenanceEvent": "NONE", "name": "vm1", "preempted": "FALSE", "remainingCpuTime": json.Number("-1"), "tags": asJSON{"web", "db"},
			"zone":                "projects/523/zones/us-central1-f",
			"disks":               []any{map[string]any{"deviceName": "vm1", "index": json.Number("0"), "interface": "SCSI", "mode": "READ_WRITE", "type": "PERSISTENT"}},
			"guestAttributes":     map[string]any{"hostkeys": map[string]any{"ssh-rsa": "AAAA"}},
			"partnerAttributes":   map[string]any{"iam.googleapis.com": map[string]any{"workload-identity": "spiffe://pool/ns/a/sa/b"}},
			"licenses":            []any{map[string]any{"id": "1000205"}},
			"scheduling":          map[string]any{"automaticRestart": "TRUE", "onHostMaintenance": "MIGRATE", "preemptible": "FALSE"},
			"serviceAccounts":     map[string]any{"default": account, "1-compute@developer.gserviceaccount.com": account},
			"virtualClock":        map[string]any{"driftToken": "0"},
			"somethingOfNextYear": "new",
			"networkInterfaces": []any{map[string]any{
				"accessConfigs": []any{map[string]any{"externalIp": "203.0.113.7", "type": "ONE_TO_ONE_NAT"}},
				"dnsServers":    lines{"169.254.169.254"}, "forwardedIps": []any{"203.0.113.8"}, "gateway": "10.128.0.1", "ip": "10.128.0.7",
				"ipAliases": []any{}, "mac": "42:01:0a:80:00:07", "mtu": json.Number("1460"), "network": "projects/523/networks/default",
				"subnetmask": "255.255.240.0", "targetInstanceIps": []any{},
			}},
		},
		"oslogin": map[string]any{"authenticate": map[string]any{"sessions": map[string]any{}}},
		"project": map[string]any{
			"attributes":       map[string]any{"ssh-keys": "bob:ssh-ed25519 CCCC bob", "team": "blue"},
			"numericProjectId": json.Number("523926462582"), "projectId": "project-1",
		},
		"universe": map[string]any{"universe-domain": "googleapis.com"},
	}
}

// Set changes an attribute of the instance, or takes it away where value is "", and
// answers who waits for that.
func (g *GCE) Set(name, value string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	attributes := g.document["instance"].(map[string]any)["attributes"].(map[string]any)
	if attributes[name] = value; value == "" {
		delete(attributes, name)
	}
	close(g.changed)
	g.changed = make(chan struct{})
}

// Waiting is how many requests wait for a change.
func (g *GCE) Waiting() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.waiting
}

// Requests gives the requests so far.
func (g *GCE) Requests() []*http.Request {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.requests)
}

// Forget forgets them.
func (g *GCE) Forget() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.requests = nil
}

// ServeHTTP answers as Google's server does.
func (g *GCE) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	g.requests = append(g.requests, r)
	g.mu.Unlock()
	// "query", "Before you begin": every answer is marked, also to who does not know.
	w.Header().Set("Metadata-Flavor", "Google")
	w.Header().Set("Server", "Metadata Server for VM")
	switch {
	case r.Header.Get("X-Forwarded-For") != "": // "query", "Limitations": proxies
		http.Error(w, "Forbidden", http.StatusForbidden)
		return
	case r.URL.Path == "/": // what metadata.testOnGCE asks for, without the header
		fmt.Fprint(w, "0.1/\ncomputeMetadata/\n")
		return
	case r.Header.Get("Metadata-Flavor") != "Google": // "query", "Parts of a metadata request"
		http.Error(w, "Missing Metadata-Flavor:Google header.", http.StatusForbidden)
		return
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		http.Error(w, "Method Not Allowed", http.StatusMethodNotAllowed)
		return
	case r.URL.Path == "/computeMetadata/":
		fmt.Fprint(w, "v1/\n")
		return
	}
	rest, found := strings.CutPrefix(r.URL.Path, "/computeMetadata/v1")
	if !found || rest != "" && rest[0] != '/' {
		http.NotFound(w, r)
		return
	}
	g.value(w, r, rest)
}

// value answers for a directory or a value, now or at a change.
func (g *GCE) value(w http.ResponseWriter, r *http.Request, path string) {
	query := r.URL.Query()
	value, tag, changed := g.look(path)
	if query.Get("wait_for_change") == "true" {
		// "query", "Wait for metadata to change": until the value's tag is another than
		// last_etag, or at most timeout_sec, and then whatever there is.
		last := query.Get("last_etag")
		if last == "" {
			last = tag
		}
		var timeout <-chan time.Time
		if seconds, err := strconv.Atoi(query.Get("timeout_sec")); err == nil {
			timeout = time.After(time.Duration(seconds) * time.Second)
		}
		g.count(1)
		for over := false; tag == last && !over; {
			select {
			case <-changed:
			case <-timeout:
				over = true
			case <-r.Context().Done():
				g.count(-1)
				return
			}
			value, tag, changed = g.look(path)
		}
		g.count(-1)
	}
	if value == nil {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("ETag", tag)
	directory := isDirectory(value)
	if directory && !strings.HasSuffix(path, "/") {
		// As curl showed it: 301 and the path, in Location and in the body.
		w.Header().Set("Location", "http://metadata.google.internal"+r.URL.Path+"/"+strings.TrimSuffix("?"+r.URL.RawQuery, "?"))
		w.WriteHeader(http.StatusMovedPermanently)
		fmt.Fprintln(w, r.URL.Path+"/")
		return
	}
	if strings.HasSuffix(path, "/identity") && query.Get("audience") == "" {
		// docs.cloud.google.com/compute/docs/instances/verifying-instance-identity
		http.Error(w, "non-empty audience parameter required", http.StatusBadRequest)
		return
	}
	recursive := strings.EqualFold(query.Get("recursive"), "true") // cloud-init says True
	if directory && recursive || query.Get("alt") == "json" {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(g.recursive(value))
		return
	}
	w.Header().Set("Content-Type", "application/text")
	fmt.Fprint(w, plain(value))
}

func (g *GCE) count(n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.waiting += n
}

// look gives what stands at a path, its tag, and what tells of the next change.
func (g *GCE) look(path string) (value any, tag string, changed <-chan struct{}) {
	g.mu.Lock()
	defer g.mu.Unlock()
	value = any(g.document)
	for name := range strings.SplitSeq(strings.Trim(path, "/"), "/") {
		if name == "" {
			continue
		}
		value = member(value, name)
	}
	hash := fnv.New64a()
	_ = json.NewEncoder(hash).Encode(g.recursive(value))
	return value, fmt.Sprintf("%016x", hash.Sum64()), g.changed
}

// member is what a path names: machine-type is machineType ("query", "Data output
// formats"), but attributes have one name.
func member(value any, name string) any {
	switch value := value.(type) {
	case map[string]any:
		if exact, ok := value[name]; ok {
			return exact
		}
		for camel, member := range value {
			if hyphens(camel) == name {
				return member
			}
		}
	case []any:
		if index, err := strconv.Atoi(name); err == nil && index < len(value) {
			return value[index]
		}
	}
	return nil
}

func hyphens(camel string) string {
	var text strings.Builder
	for _, r := range camel {
		if 'A' <= r && r <= 'Z' {
			text.WriteByte('-')
			r += 'a' - 'A'
		}
		text.WriteRune(r)
	}
	return text.String()
}

func isDirectory(value any) bool {
	switch value.(type) {
	case map[string]any, []any:
		return true
	}
	return false
}

// recursive is a value as JSON has it.
func (g *GCE) recursive(value any) any {
	switch value := value.(type) {
	case map[string]any:
		document := make(map[string]any, len(value))
		for name, member := range value {
			if _, secret := member.(unlisted); !secret || g.Leaks {
				document[name] = g.recursive(member)
			}
		}
		return document
	case []any:
		document := make([]any, 0, len(value))
		for _, member := range value {
			document = append(document, g.recursive(member))
		}
		return document
	}
	return value
}

// plain is a value, or the names in a directory, as text.
func plain(value any) string {
	var text strings.Builder
	switch value := value.(type) {
	case map[string]any:
		attributes := false // only they have names with hyphens and such as sshKeys
		for name := range value {
			attributes = attributes || strings.Contains(name, "-")
		}
		for _, name := range slices.Sorted(maps.Keys(value)) {
			shown := name
			if !attributes {
				shown = hyphens(name)
			}
			if isDirectory(value[name]) {
				shown += "/"
			}
			text.WriteString(shown + "\n")
		}
	case []any:
		for i, member := range value {
			text.WriteString(strconv.Itoa(i))
			if isDirectory(member) {
				text.WriteByte('/')
			}
			text.WriteByte('\n')
		}
	case lines:
		for _, line := range value {
			fmt.Fprintln(&text, line)
		}
	case asJSON:
		_ = json.NewEncoder(&text).Encode(value)
	default:
		fmt.Fprint(&text, value)
	}
	return text.String()
}
