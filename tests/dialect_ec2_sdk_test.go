// SPDX-License-Identifier: Apache-2.0

package tests

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials/ec2rolecreds"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"

	"github.com/metaguard/metaguard/tests/harness"
)

// ec2Tap notes what a server is asked on its way there.
type ec2Tap struct {
	address string

	mu       sync.Mutex
	requests []string
}

func newEC2Tap(t *testing.T, server string) *ec2Tap {
	t.Helper()
	tap := new(ec2Tap)
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(&url.URL{Scheme: "http", Host: server})
		r.Out.Header["X-Forwarded-For"] = r.In.Header["X-Forwarded-For"]
		text, _ := httputil.DumpRequest(r.In, false)
		tap.mu.Lock()
		defer tap.mu.Unlock()
		tap.requests = append(tap.requests, string(text))
	}}
	listener := httptest.NewServer(proxy)
	t.Cleanup(listener.Close)
	tap.address = listener.Listener.Addr().String()
	return tap
}

// take gives what came since it was last asked.
func (tap *ec2Tap) take() string {
	tap.mu.Lock()
	defer tap.mu.Unlock()
	defer func() { tap.requests = nil }()
	return strings.ToLower(strings.Join(tap.requests, ""))
}

// ec2Client is the SDK as a program has it, but for where it asks. Without fallback
// it makes do with IMDSv2 only.
func ec2Client(address string, fallback aws.Ternary) *imds.Client {
	return imds.New(imds.Options{Endpoint: "http://" + address, EnableFallback: fallback})
}

func ec2Metadata(client *imds.Client, path string) (string, error) {
	output, err := client.GetMetadata(context.Background(), &imds.GetMetadataInput{Path: path})
	if err != nil {
		return "", err
	}
	defer output.Content.Close()
	text, err := io.ReadAll(output.Content)
	return string(text), err
}

// ec2Status is the status with which the SDK was refused, 0 if it was not.
func ec2Status(err error) int {
	var response interface{ HTTPStatusCode() int }
	if errors.As(err, &response) {
		return response.HTTPStatusCode()
	}
	return 0
}

// The AWS SDK for Go, unmodified, through Metaguard before Amazon's own mock: with
// sessions of Metaguard's before a server of IMDSv1, with the server's own, and
// without.
func TestEC2SDK(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		settings    string
		files       map[string]string
		mock        []string
		fallback    aws.Ternary
		credentials bool // are got
		upstream    bool // the server sees tokens
	}{
		"IMDSv2 before IMDSv1":                    {"session required", nil, nil, aws.FalseTernary, true, false},
		"IMDSv2 and IMDSv1 before IMDSv1":         {"session optional", nil, nil, aws.TrueTernary, true, false},
		"the server's own IMDSv2":                 {"", nil, []string{"--imdsv2"}, aws.FalseTernary, false, true},
		"the server's own IMDSv2, with a grant":   {"", ec2Grant, []string{"--imdsv2"}, aws.FalseTernary, true, true},
		"the server's own IMDSv2, with fallback":  {"session off", nil, []string{"--imdsv2"}, aws.TrueTernary, false, true},
		"IMDSv1 with a grant, tokens for nothing": {"session off", ec2Grant, nil, aws.TrueTernary, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tap := newEC2Tap(t, harness.EC2Mock(t, test.mock...))
			s := ec2Site(t, tap.address, byAddress+"\n"+test.settings, test.files)
			client := ec2Client(s.address, test.fallback)
			for path, want := range map[string]string{
				"instance-id":                                           "i-1234567890abcdef0",
				"network/interfaces/macs/":                              "0e:49:61:0f:c3:11/",
				"placement/availability-zone":                           "us-east-1a",
				"tags/instance/Name":                                    "test-instance",
				"public-keys/0/openssh-key":                             "ssh-rsa ",
				"spot/instance-action":                                  `"terminate"`,
				"network/interfaces/macs/0e:49:61:0f:c3:11/local-ipv4s": "172.16.34.43",
			} {
				if text, err := ec2Metadata(client, path); err != nil || !strings.HasPrefix(text, want) && !strings.Contains(text, want) {
					t.Errorf("%s: %q %v", path, text, err)
				}
			}
			if _, err := ec2Metadata(client, "nothing"); ec2Status(err) != http.StatusNotFound {
				t.Errorf("what is not there: %v", err)
			}
			if output, err := client.GetUserData(context.Background(), nil); err != nil {
				t.Errorf("user data: %v", err)
			} else if text, _ := io.ReadAll(output.Content); string(text) != "1234,john,reboot,true\n" {
				t.Errorf("user data: %q", text)
			}
			region, err := client.GetRegion(context.Background(), nil)
			if got := err == nil && region.Region == "us-east-1"; got != test.credentials || !got && ec2Status(err) != http.StatusNotFound {
				t.Errorf("identity document: %v %v", region, err)
			}
			provider := ec2rolecreds.New(func(o *ec2rolecreds.Options) { o.Client = client })
			role, err := provider.Retrieve(context.Background())
			if got := err == nil && role.AccessKeyID == "12345678901"; got != test.credentials {
				t.Errorf("credentials: %s %v", role.AccessKeyID, err)
			}
			if seen := tap.take(); strings.Contains(seen, "x-aws-ec2-metadata-token") != test.upstream {
				t.Errorf("the server saw tokens, want %t: %s", test.upstream, seen)
			}
		})
	}
}

// Without a session that it could get, the SDK goes on as IMDSv1, and gets what
// needs none.
func TestEC2SDKWithoutTokens(t *testing.T) {
	t.Parallel()
	tap := newEC2Tap(t, harness.EC2Mock(t))
	team := map[string]string{"policy/team.rego": "package metaguard.team\n\ndeny contains \"no_tokens\" if input.resource.kind == \"token\"\n"}
	for _, mode := range []string{"optional", "off"} { // refused by Metaguard with 404, as by a server that has no tokens
		s := ec2Site(t, tap.address, byAddress+"\nsession "+mode, team)
		client := ec2Client(s.address, aws.TrueTernary)
		if text, err := ec2Metadata(client, "instance-id"); err != nil || text != "i-1234567890abcdef0" {
			t.Errorf("%s: %q %v", mode, text, err)
		}
		provider := ec2rolecreds.New(func(o *ec2rolecreds.Options) { o.Client = client })
		if role, err := provider.Retrieve(context.Background()); err == nil {
			t.Errorf("%s: credentials without a session: %s", mode, role.AccessKeyID)
		}
		if seen := tap.take(); strings.Contains(seen, "token") {
			t.Errorf("%s: the server saw %s", mode, seen)
		}
	}
}

// timesIn are the times of an answer, which go on from one to the next.
var timesIn = regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d`)

// A crawl of Amazon's mock is the same through Metaguard as without it.
func TestEC2MockCrawl(t *testing.T) {
	t.Parallel()
	mock := harness.EC2Mock(t)
	s := ec2Site(t, mock, byAddress+"\nsession required", nil)
	direct, guarded := make(map[string]string), make(map[string]string)
	own := tokenHeader + ": " + s.token(t, "")
	for _, path := range []string{"/latest/meta-data/", "/latest/dynamic/"} {
		ec2Crawl(t, func(path string) harness.Answer {
			return harness.Raw(t, mock, "GET "+path+" HTTP/1.1\r\nHost: m\r\nConnection: close\r\n\r\n")
		}, path, direct)
		ec2Crawl(t, func(path string) harness.Answer { return s.ask(t, "", "GET "+path, own) }, path, guarded)
	}
	if len(direct) < 80 || len(guarded) != len(direct) {
		t.Errorf("%d found, and %d directly", len(guarded), len(direct))
	}
	for path, body := range direct {
		got := guarded[path]
		if timesIn.ReplaceAllString(got, "") != timesIn.ReplaceAllString(body, "") && !strings.Contains(body, "GMT") && !strings.HasPrefix(body, "404") {
			t.Errorf("%s: %q, directly %q", path, got, body)
		}
	}
}
