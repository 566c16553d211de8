// SPDX-License-Identifier: Apache-2.0

package tests

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/metaguard/metaguard/tests/harness"
)

// gceSite is a site of the dialect gce in front of a scripted server.
type gceSite struct {
	*site
	server *harness.GCE
	admin  *harness.Admin
}

// gceInventory makes 127.0.0.1 an instance that may have tokens, and 127.0.0.2 and
// 127.0.1.0/24 ones that may not.
func gceInventory() string {
	entries := []string{
		`{"address": "127.0.0.1", "instance_id": "` + instance1 + `", "project_id": "p", "roles": ["tokens"]}`,
		`{"address": "127.0.0.2", "instance_id": "` + instance2 + `", "project_id": "p"}`,
	}
	for i := range 16 {
		entries = append(entries, fmt.Sprintf(`{"address": "127.0.1.%d", "instance_id": "33333333-3333-4333-8333-%012d", "project_id": "p"}`, i, i))
	}
	return "[" + strings.Join(entries, ",") + "]"
}

const (
	gcePolicy = "policy policy {\n\ttimeout 20s\n}" // the machine may be busy
	gceGrants = `{"metaguard": {"grants": {"role": {"tokens": ["credentials:read"]}}}}`
)

func gcePrepare(t *testing.T, settings string, files map[string]string) *gceSite {
	t.Helper()
	all := map[string]string{"inventory.json": gceInventory(), "policy/data.json": gceGrants}
	for name, content := range files {
		all[name] = content
	}
	if settings == "" {
		settings = "identify remote_ip inventory.json\n" + gcePolicy
	}
	s := &gceSite{site: prepareSite(t, settings, all), server: harness.NewGCE(t), admin: harness.NewAdmin(t)}
	s.edit(t, "Caddyfile", "dialect openstack", "dialect gce")
	s.edit(t, "Caddyfile", "upstream "+s.upstream.Address, "upstream "+s.server.Address)
	s.edit(t, "Caddyfile", "admin off", "admin "+s.admin.Listen)
	s.edit(t, "Caddyfile", "level DEBUG", "level INFO")
	return s
}

func gceRun(t *testing.T, settings string, files map[string]string) *gceSite {
	t.Helper()
	s := gcePrepare(t, settings, files)
	s.Run(s.address)
	return s
}

const gceHeader = "Metadata-Flavor: Google\r\n"

// from asks as a client from an address of the loopback range does.
func (s *gceSite) from(t *testing.T, from, method, target, headers string) harness.Answer {
	t.Helper()
	return harness.RawFrom(t, from, s.address, method+" "+target+" HTTP/1.1\r\nHost: metadata\r\nConnection: close\r\n"+headers+"\r\n")
}

func (s *gceSite) ask(t *testing.T, target string) harness.Answer {
	t.Helper()
	return s.from(t, "127.0.0.1", http.MethodGet, target, gceHeader)
}

// Every kind of resource, for who may have tokens, who may not, and who is nobody.
func TestGCEKinds(t *testing.T) {
	t.Parallel()
	s := gceRun(t, "", nil)
	const v1 = "/computeMetadata/v1/"
	for target, test := range map[string]struct {
		trusted, other int
		body           string
	}{
		"/":                                 {200, 200, "computeMetadata/\n"},
		"/computeMetadata/":                 {200, 200, "v1/\n"},
		v1:                                  {200, 200, "instance/\nproject/\nuniverse/\n"},
		v1 + "instance/id":                  {200, 200, "5737554347302044216"},
		v1 + "instance/id?alt=json":         {200, 200, "5737554347302044216\n"},
		v1 + "instance/tags":                {200, 200, `["web","db"]` + "\n"},
		v1 + "project/project-id":           {200, 200, "project-1"},
		v1 + "instance/attributes/":         {200, 200, "enable-oslogin\nmyOwnName\nssh-keys\nsshKeys\nstartup-script\nuser-data\nwindows-keys\n"},
		v1 + "instance/attributes/ssh-keys": {200, 200, "alice:ssh-ed25519 AAAA alice"},
		v1 + "instance/attributes/startup-script":                                        {200, 200, "#!/bin/sh\necho hello"},
		v1 + "instance/attributes/none":                                                  {404, 404, ""},
		v1 + "instance/network-interfaces/0/access-configs/0/external-ip":                {200, 200, "203.0.113.7"},
		v1 + "instance/network-interfaces/0/forwarded-ips/":                              {200, 200, "0\n"},
		v1 + "instance/guest-attributes/hostkeys/ssh-rsa":                                {200, 200, "AAAA"},
		v1 + "instance/partner-attributes/iam.googleapis.com/workload-identity":          {200, 200, "spiffe://pool/ns/a/sa/b"},
		v1 + "instance/service-accounts/default/email":                                   {200, 200, "1-compute@developer.gserviceaccount.com"},
		v1 + "instance/service-accounts/1-compute@developer.gserviceaccount.com/email":   {200, 200, "1-compute@developer.gserviceaccount.com"},
		v1 + "instance/service-accounts/1-compute%40developer.gserviceaccount.com/token": {200, 404, `{"access_token":"s3cret-token","expires_in":3599,"token_type":"Bearer"}`},
		v1 + "instance/service-accounts/default/token":                                   {200, 404, `{"access_token":"s3cret-token","expires_in":3599,"token_type":"Bearer"}`},
		v1 + "instance/service-accounts/default/token?scopes=a%2Cb":                      {200, 404, `{"access_token":"s3cret-token","expires_in":3599,"token_type":"Bearer"}`},
		v1 + "instance/service-accounts/default/identity?audience=https://x&format=full": {200, 404, "s3cret-identity"},
		v1 + "instance/something-of-next-year":                                           {404, 404, ""},
		v1 + "oslogin/":                                                                  {404, 404, ""},
		"/0.1/":                                                                          {404, 404, ""},
		"/computeMetadata/v1beta1/instance/service-accounts/default/token":               {404, 404, ""},
	} {
		for from, want := range map[string]int{"127.0.0.1": test.trusted, "127.0.0.2": test.other, "127.0.0.9": 401} {
			s.server.Forget()
			answer := s.from(t, from, http.MethodGet, target, gceHeader)
			if answer.Status != want || want == 200 && answer.Body != test.body {
				t.Errorf("%s of %s: %d %q", target, from, answer.Status, answer.Body)
			}
			if answer.Header.Get("Metadata-Flavor") != "Google" || len(answer.Header.Values("Metadata-Flavor")) != 1 {
				t.Errorf("%s of %s is not marked: %v", target, from, answer.Header)
			}
			if asked := len(s.server.Requests()); asked > 0 && want != 200 && !strings.HasSuffix(target, "/none") {
				t.Errorf("%s of %s reached the server", target, from)
			}
			head := s.from(t, from, http.MethodHead, target, gceHeader)
			if head.Status != answer.Status || head.Body != "" {
				t.Errorf("HEAD of %s of %s: %d %q", target, from, head.Status, head.Body)
			}
			if from != "127.0.0.1" {
				continue
			}
			for _, method := range []string{http.MethodPut, http.MethodPost, http.MethodDelete, http.MethodOptions} {
				if got := s.from(t, from, method, target, gceHeader+"Content-Length: 0\r\n"); got.Status != 405 || got.Header.Get("Allow") != "GET, HEAD" {
					t.Errorf("%s of %s: %d %q", method, target, got.Status, got.Body)
				}
			}
		}
	}
}

// Listings name what the same caller can read, and recursive answers hold what its
// parts would say.
func TestGCERedaction(t *testing.T) {
	t.Parallel()
	s := gceRun(t, "", map[string]string{"policy/team.rego": `package metaguard.team

deny contains "no_keys" if {
	input.resource.sensitive
	input.resource.kind == "metadata"
	input.caller.instance_id == "` + instance2 + `"
}`})
	s.server.Leaks = true // to see that Metaguard does not
	const accounts = "/computeMetadata/v1/instance/service-accounts/default/"
	for from, want := range map[string]string{"127.0.0.1": "aliases\nemail\nidentity\nscopes\ntoken\n", "127.0.0.2": "aliases\nemail\nscopes\n"} {
		if answer := s.from(t, from, http.MethodGet, accounts, gceHeader); answer.Body != want {
			t.Errorf("%s sees %q", from, answer.Body)
		}
	}
	for from, hidden := range map[string][]string{
		"127.0.0.1": {"somethingOfNextYear", "oslogin"},
		"127.0.0.2": {"somethingOfNextYear", "oslogin", "token", "identity", "ssh-keys", "sshKeys", "windows-keys"},
	} {
		for _, top := range []string{"", "instance/", "instance/attributes/", "instance/service-accounts/", "project/", "instance/network-interfaces/", "universe/"} {
			direct, through := gceTree(t, s.server.Address, "127.0.0.1", top), gceTree(t, s.address, from, top)
			gceWithout(direct, hidden)
			want, _ := json.Marshal(direct)
			got, _ := json.Marshal(through)
			if string(want) != string(got) {
				t.Errorf("%q of %s: %s, want %s", top, from, got, want)
			}
			gceCompareParts(t, s, from, "/computeMetadata/v1/"+top, through)
		}
	}
	if answer := s.from(t, "127.0.0.2", http.MethodGet, "/computeMetadata/v1/?recursive=true", gceHeader); strings.Contains(answer.Body, "s3cret") || answer.Status != 200 {
		t.Errorf("%d %s", answer.Status, answer.Body)
	}
}

func gceTree(t *testing.T, address, from, top string) (document any) {
	t.Helper()
	answer := harness.RawFrom(t, from, address, "GET /computeMetadata/v1/"+top+"?recursive=True&alt=json HTTP/1.1\r\nHost: m\r\nConnection: close\r\n"+gceHeader+"\r\n")
	if err := json.Unmarshal([]byte(answer.Body), &document); err != nil || answer.Status != 200 || !strings.HasPrefix(answer.Header.Get("Content-Type"), "application/json") {
		t.Fatalf("%s: %d %v %q", top, answer.Status, err, answer.Body)
	}
	return document
}

func gceWithout(document any, hidden []string) {
	switch document := document.(type) {
	case map[string]any:
		for name, member := range document {
			if slices.Contains(hidden, name) {
				delete(document, name)
			} else {
				gceWithout(member, hidden)
			}
		}
	case []any:
		for _, member := range document {
			gceWithout(member, hidden)
		}
	}
}

// gceCompareParts asks for what a listing names, and finds each in the document.
func gceCompareParts(t *testing.T, s *gceSite, from, path string, document any) {
	t.Helper()
	listing := s.from(t, from, http.MethodGet, path, gceHeader)
	if listing.Status != 200 {
		t.Errorf("%s of %s: %d", path, from, listing.Status)
	}
	entries := strings.Fields(listing.Body)
	members := 0
	switch document := document.(type) {
	case map[string]any:
		members = len(document)
	case []any:
		members = len(document)
	}
	if len(entries) != members {
		t.Errorf("%s of %s lists %q, and the document has %d members", path, from, entries, members)
	}
	for _, entry := range entries {
		if answer := s.from(t, from, http.MethodGet, path+entry, gceHeader); answer.Status != 200 && entry != "identity" { // which wants an audience
			t.Errorf("%s%s of %s is advertised: %d", path, entry, from, answer.Status)
		}
	}
}

// What the server would refuse, or two could read in two ways, is refused, and told so.
func TestGCERefusals(t *testing.T) {
	t.Parallel()
	s := gceRun(t, "", nil)
	const instance = "/computeMetadata/v1/instance/"
	for name, test := range map[string]struct{ target, headers, code string }{
		"no flavor":               {"/", "", "header_required"},
		"another flavor":          {"/", "Metadata-Flavor: Amazon\r\n", "header_required"},
		"two flavors":             {"/", gceHeader + gceHeader, "header_doubled"},
		"the flavor of old":       {"/", "X-Google-Metadata-Request: True\r\n", "header_required"},
		"through a proxy":         {instance + "id", gceHeader + "X-Forwarded-For: 127.0.0.1\r\n", "header_forwarded"},
		"through another":         {instance + "id", gceHeader + "Forwarded: for=127.0.0.1\r\n", "header_forwarded"},
		"a tree as text":          {instance + "?recursive=true&alt=text", gceHeader, "query_recursive_text"},
		"names as JSON":           {instance + "?alt=json", gceHeader, "query_listing_json"},
		"a time that is none":     {instance + "?wait_for_change=true&timeout_sec=soon", gceHeader, "query_timeout_sec"},
		"recursive, perhaps":      {instance + "?recursive=1", gceHeader, "query_value"},
		"recursive twice":         {instance + "?recursive=false&recursive=true", gceHeader, "query_repeated"},
		"recursive, in capitals":  {instance + "?RECURSIVE=true", gceHeader, "query_unexpected"},
		"recursive, escaped":      {instance + "?%72ecursive=true&alt=te%78t", gceHeader, "query_recursive_text"},
		"an unknown query":        {instance + "?prettyPrint=true", gceHeader, "query_unexpected"},
		"dots":                    {instance + "attributes/../service-accounts/default/token", gceHeader, "path_dot_segment"},
		"dots, escaped":           {instance + "attributes/%2e%2e/service-accounts/default/token", gceHeader, "path_dot_segment"},
		"a slash, escaped":        {instance + "attributes%2Fssh-keys", gceHeader, "path_encoded_slash"},
		"a parameter":             {instance + "service-accounts/default/token;x", gceHeader, "path_parameter"},
		"a body where none is":    {instance + "id", gceHeader + "Content-Length: 1\r\n\r\nx", "body"},
		"the query as a fragment": {instance + "?recursive=true%23", gceHeader, "query_value"},
	} {
		s.server.Forget()
		answer := s.from(t, "127.0.0.1", http.MethodGet, test.target, test.headers)
		if answer.Status != 400 || answer.Header.Get("Metadata-Flavor") != "Google" {
			t.Errorf("%s: %d %q %v", name, answer.Status, answer.Body, answer.Header)
		}
		if len(s.server.Requests()) != 0 {
			t.Errorf("%s reached the server", name)
		}
		lines := s.decisions(t, 1)
		id := answer.Header.Get("X-Metaguard-Decision")
		s.Eventually("logged", func() bool { lines = s.decisions(t, 1); return fmt.Sprint(lines[len(lines)-1]["decision_id"]) == id })
		if code := lines[len(lines)-1]["code"]; code != test.code {
			t.Errorf("%s: code %v", name, code)
		}
	}
	// However the path is spelled, it is the token's.
	for _, target := range []string{"//computeMetadata//v1/instance/service-accounts/default/token", instance + "service-accounts/default/%74oken", instance + "service-accounts/default/token/"} {
		if answer := s.from(t, "127.0.0.2", http.MethodGet, target, gceHeader); answer.Status != 404 || reason(answer) != "policy_deny" {
			t.Errorf("%s: %d %q", target, answer.Status, answer.Body)
		}
	}
}

// What reaches the server is a direct, marked request; what comes back are Google's
// answer, its tag, and its redirects to directories.
func TestGCEForwarding(t *testing.T) {
	t.Parallel()
	s := gceRun(t, "", nil)
	answer := s.ask(t, "/computeMetadata/v1/instance/?recursive=True&last_etag=a%2bb")
	requests := s.server.Requests()
	if len(requests) != 1 || answer.Status != 200 {
		t.Fatalf("%d %v", answer.Status, requests)
	}
	r := requests[0]
	if r.RequestURI != "/computeMetadata/v1/instance/?last_etag=a%2Bb&recursive=True" || r.Header.Get("Metadata-Flavor") != "Google" {
		t.Errorf("%s %v", r.RequestURI, r.Header)
	}
	for _, name := range []string{"X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "Forwarded"} {
		if len(r.Header[name]) != 0 {
			t.Errorf("%s: %q", name, r.Header[name])
		}
	}
	direct := harness.Raw(t, s.server.Address, "GET /computeMetadata/v1/instance/?recursive=true HTTP/1.1\r\nHost: m\r\nConnection: close\r\n"+gceHeader+"\r\n")
	if tag := answer.Header.Get("Etag"); tag == "" || tag != direct.Header.Get("Etag") {
		t.Errorf("the tag of a redacted answer is %q, the server's is %q", tag, direct.Header.Get("Etag"))
	}
	for target, location := range map[string]string{
		"/computeMetadata":                              "",
		"/computeMetadata/v1":                           "/computeMetadata/v1/",
		"/computeMetadata/v1/instance":                  "/computeMetadata/v1/instance/",
		"/computeMetadata/v1/instance?recursive=true":   "/computeMetadata/v1/instance/?recursive=true",
		"/computeMetadata/v1/project/attributes":        "/computeMetadata/v1/project/attributes/",
		"/computeMetadata/v1/instance/disks/0":          "/computeMetadata/v1/instance/disks/0/",
		"/computeMetadata/v1/instance/shutdown-details": "",
	} {
		answer := s.ask(t, target)
		if location == "" {
			if answer.Status != 404 {
				t.Errorf("%s: %d", target, answer.Status)
			}
			continue
		}
		if answer.Status != 301 || answer.Header.Get("Location") != location || answer.Header.Get("Metadata-Flavor") != "Google" {
			t.Errorf("%s: %d %v", target, answer.Status, answer.Header)
		}
	}
}

// A server that does not say that it is Google's is some other.
func TestGCEUnmarked(t *testing.T) {
	t.Parallel()
	s := gcePrepare(t, "identify remote_ip inventory.json\nresponse {\n\tmax_buffer 4KiB\n\toverflow stream\n}\n"+gcePolicy, nil)
	s.edit(t, "Caddyfile", "upstream "+s.server.Address, "upstream "+s.upstream.Address)
	s.Run(s.address)
	for name, body := range map[string]string{"whole": "1", "longer than the buffer": strings.Repeat("x", 64<<10)} {
		s.upstream.Script(func(string) string { return harness.OK(body) })
		if answer := s.ask(t, "/computeMetadata/v1/instance/id"); answer.Status != 502 || reason(answer) != "response_unreadable" || answer.Header.Get("Metadata-Flavor") != "Google" {
			t.Errorf("%s: %d, %d bytes", name, answer.Status, len(answer.Body))
		}
	}
}

// Tokens are for who was granted them or has a session, of its own instance.
func TestGCECredentials(t *testing.T) {
	t.Parallel()
	s := gceRun(t, "identify remote_ip inventory.json\nidentify anonymous\nsession optional\n"+gcePolicy, nil)
	const token = "/computeMetadata/v1/instance/service-accounts/default/token"
	session := s.from(t, "127.0.0.2", http.MethodPut, "/latest/api/token", gceHeader+"X-aws-ec2-metadata-token-ttl-seconds: 60\r\nContent-Length: 0\r\n")
	if session.Status != 200 {
		t.Fatalf("%d %q", session.Status, session.Body)
	}
	with := gceHeader + "X-aws-ec2-metadata-token: " + session.Body + "\r\n"
	for name, test := range map[string]struct {
		from, headers string
		status        int
	}{
		"granted":           {"127.0.0.1", gceHeader, 200},
		"without a session": {"127.0.0.2", gceHeader, 404},
		"with one":          {"127.0.0.2", with, 200},
		"with another's":    {"127.0.1.1", with, 401},
		"anonymous":         {"127.0.0.9", gceHeader, 404},
		"anonymous, with":   {"127.0.0.9", with, 401},
	} {
		if answer := s.from(t, test.from, http.MethodGet, token, test.headers); answer.Status != test.status {
			t.Errorf("%s: %d %q", name, answer.Status, answer.Body)
		}
	}
	if strings.Contains(s.Log(), "s3cret-token") || strings.Contains(s.Log(), session.Body) {
		t.Error("a secret is in the log")
	}
}

// A source or limit that waits for what the dialect refuses cannot work.
func TestGCEValidate(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ settings, want string }{
		"an identity": {"identify remote_ip inventory.json {\n\taddress client_ip\n}", "identify remote_ip: address client_ip cannot work"},
		"a target":    {"identify process {\n\ttarget remote_ip inventory.json client_ip\n}", "identify process: target by client_ip cannot work"},
		"a limit":     {"identify remote_ip inventory.json\nlimit {\n\trefusals 1/s\n\taddress client_ip\n}", "limit: address client_ip cannot work"},
		"an agent":    {"identify neutron {\n\tsecret {env.METAGUARD_NEUTRON_SECRET}\n}", "identify neutron cannot work"},
		"settings":    {"identify remote_ip inventory.json", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := gcePrepare(t, test.settings, nil)
			s.edit(t, "Caddyfile", "persist_config off", "persist_config off\n\tservers {\n\t\ttrusted_proxies static 127.0.0.1\n\t\ttrusted_proxies_strict\n\t}")
			output, err := s.Command("validate", "--config", "Caddyfile")
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(output, test.want)) {
				t.Errorf("%v: %s", err, output)
			}
			if test.want == "" {
				s.edit(t, "Caddyfile", "dialect gce", "dialect gce {\n\t\t\tx\n\t\t}")
				if output, err := s.Command("validate", "--config", "Caddyfile"); err == nil || !strings.Contains(output, "dialect gce has no settings") || !strings.Contains(output, "Caddyfile:") {
					t.Errorf("%v: %s", err, output)
				}
			}
		})
	}
	for name, setting := range map[string]string{"unhealthy_latency": "1s", "unhealthy_request_count": "100"} {
		s := gcePrepare(t, "", nil)
		address := s.server.Address
		s.edit(t, "Caddyfile", "upstream "+address, "upstream "+address+" {\n\t\t\t"+name+" "+setting+"\n\t\t}")
		if output, err := s.Command("validate", "--config", "Caddyfile"); err == nil || !strings.Contains(output, name+" is not possible with dialect gce") {
			t.Errorf("%v: %s", err, output)
		}
	}
	for _, name := range []string{"read_body", "write"} {
		s := gcePrepare(t, "", nil)
		s.edit(t, "Caddyfile", "persist_config off", "persist_config off\n\tservers {\n\t\ttimeouts {\n\t\t\t"+name+" 30s\n\t\t}\n\t}")
		if output, err := s.Command("validate", "--config", "Caddyfile"); err == nil || !strings.Contains(output, "timeouts "+name+" 30s of the server would cut off") {
			t.Errorf("%v: %s", err, output)
		}
	}
	// Another header than those that the dialect refuses works.
	s := gcePrepare(t, "identify remote_ip inventory.json {\n\taddress client_ip\n}", nil)
	s.edit(t, "Caddyfile", "persist_config off", "persist_config off\n\tservers {\n\t\ttrusted_proxies static 127.0.0.1\n\t\ttrusted_proxies_strict\n\t\tclient_ip_headers X-Client\n\t}")
	if output, err := s.Command("validate", "--config", "Caddyfile"); err != nil {
		t.Errorf("%v: %s", err, output)
	}
}
