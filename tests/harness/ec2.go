// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"bufio"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// EC2 is a scripted metadata service that behaves as Amazon's, in what Amazon's own
// mock leaves out: dated versions, keys listed as "0=name", directories that
// redirect, refusals of tokens, and answers that differ by caller. The pages that it
// follows are of the EC2 User Guide:
//
//   - "How Instance Metadata Service Version 2 works": PUT /latest/api/token with a
//     life of 1 to 21600 seconds gives a token, 400 without or with another; 403
//     for a PUT with X-Forwarded-For; 401 for a token that is not valid, and for
//     none where IMDSv2 is required.
//   - "Access instance metadata for an EC2 instance": listings end directories in a
//     slash, have no line end at the end, and keys as "0=my-public-key"; 404 for
//     what is not there.
//   - "Instance identity documents", "Retrieve security credentials from instance
//     metadata": the shape of documents.
type EC2 struct {
	*Upstream

	values   map[string]string // by path below a version, such as "meta-data/ami-id"
	required bool              // IMDSv2
}

// EC2Token is the one that the scripted service gives.
const EC2Token = "AQAEAscripted-token=="

// NewEC2 starts a scripted service that has these values. An answer holds the
// caller's address where a value says {caller}.
func NewEC2(tb testing.TB, values map[string]string, requireToken bool) *EC2 {
	tb.Helper()
	e := &EC2{values: values, required: requireToken}
	e.Upstream = NewUpstream(tb, e.answer)
	return e
}

func (e *EC2) answer(text string) string {
	request, err := http.ReadRequest(bufio.NewReader(strings.NewReader(text)))
	if err != nil {
		return ec2Answer(http.StatusBadRequest, "")
	}
	path, header := request.URL.Path, request.Header
	token := header.Get("X-Aws-Ec2-Metadata-Token")
	switch {
	case path == "/latest/api/token":
		return ec2TokenAnswer(request)
	case request.Method != http.MethodGet && request.Method != http.MethodHead:
		return ec2Answer(http.StatusMethodNotAllowed, "")
	case token != "" && token != EC2Token, token == "" && e.required:
		return ec2Answer(http.StatusUnauthorized, "")
	case path == "/":
		return OK("1.0\n2009-04-04\n2018-09-24\n2021-03-23\n2099-01-01\nlatest")
	}
	_, below, _ := strings.Cut(path[1:], "/")
	if value, found := e.values[strings.TrimSuffix(below, "/")]; found {
		return OK(strings.ReplaceAll(value, "{caller}", header.Get("X-Forwarded-For")))
	}
	listing := e.List(below)
	switch {
	case listing == "":
		return ec2Answer(http.StatusNotFound, "")
	case !strings.HasSuffix(path, "/"):
		return ec2Answer(http.StatusMovedPermanently, "Location: http://"+request.Host+path+"/\r\n")
	}
	return OK(listing)
}

// List gives what a directory below a version lists.
func (e *EC2) List(directory string) string {
	if directory = strings.Trim(directory, "/"); directory != "" {
		directory += "/"
	}
	entries := make(map[string]bool)
	for path := range e.values {
		rest, found := strings.CutPrefix(path, directory)
		if !found {
			continue
		}
		name, _, deeper := strings.Cut(rest, "/")
		switch {
		case directory == "meta-data/public-keys/":
			name += "=my-public-key"
		case deeper && directory != "": // a version's own are listed without
			name += "/"
		}
		entries[name] = true
	}
	return strings.Join(slices.Sorted(maps.Keys(entries)), "\n")
}

func ec2TokenAnswer(request *http.Request) string {
	seconds, err := strconv.Atoi(request.Header.Get("X-Aws-Ec2-Metadata-Token-Ttl-Seconds"))
	switch {
	case request.Method != http.MethodPut:
		return ec2Answer(http.StatusMethodNotAllowed, "Allow: OPTIONS, PUT\r\n")
	case request.Header["X-Forwarded-For"] != nil:
		return ec2Answer(http.StatusForbidden, "")
	case err != nil || seconds < 1 || seconds > 21600:
		return ec2Answer(http.StatusBadRequest, "")
	}
	return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nX-Aws-Ec2-Metadata-Token-Ttl-Seconds: %d\r\nContent-Length: %d\r\n\r\n%s",
		seconds, len(EC2Token), EC2Token)
}

func ec2Answer(status int, headers string) string {
	body := "<html>" + http.StatusText(status) + "</html>"
	return fmt.Sprintf("HTTP/1.1 %d %s\r\nContent-Type: text/html\r\n%sContent-Length: %d\r\n\r\n%s", status, http.StatusText(status), headers, len(body), body)
}

// EC2Values are an instance's, one for every category or nearly so.
func EC2Values() map[string]string {
	const mac = "meta-data/network/interfaces/macs/02:29:96:8f:6a:2d/"
	credentials := func(id string) string {
		return `{"Code":"Success","LastUpdated":"2026-01-01T00:00:00Z","Type":"AWS-HMAC","AccessKeyId":"` + id +
			`","SecretAccessKey":"secret-key-of-{caller}","Token":"session-token","Expiration":"2036-01-01T00:00:00Z"}`
	}
	return map[string]string{
		"user-data":                                                            "#cloud-config\n{}\n",
		"dynamic/fws/instance-monitoring":                                      "disabled",
		"dynamic/instance-identity/document":                                   "{\n  \"accountId\" : \"123456789012\",\n  \"instanceId\" : \"i-1234567890abcdef0\",\n  \"privateIp\" : \"{caller}\",\n  \"region\" : \"us-west-2\"\n}",
		"dynamic/instance-identity/pkcs7":                                      "MIAGCSpkcs7",
		"dynamic/instance-identity/rsa2048":                                    "MIAGCSrsa2048",
		"dynamic/instance-identity/signature":                                  "c2lnbmF0dXJl",
		"meta-data/ami-id":                                                     "ami-0abcdef1234567890",
		"meta-data/ami-launch-index":                                           "0",
		"meta-data/ami-manifest-path":                                          "(unknown)",
		"meta-data/block-device-mapping/ami":                                   "/dev/xvda",
		"meta-data/block-device-mapping/root":                                  "/dev/xvda",
		"meta-data/events/maintenance/history":                                 "[]",
		"meta-data/hibernation/configured":                                     "false",
		"meta-data/hostname":                                                   "ip-10-251-50-12.ec2.internal",
		"meta-data/iam/info":                                                   `{"Code":"Success","InstanceProfileArn":"arn:aws:iam::123456789012:instance-profile/web","InstanceProfileId":"AIPA"}`,
		"meta-data/iam/security-credentials/web+role,a=b.c@d_e":                credentials("ASIAROLE"),
		"meta-data/identity-credentials/ec2/info":                              `{"Code":"Success","AccountId":"123456789012"}`,
		"meta-data/identity-credentials/ec2/security-credentials/ec2-instance": credentials("ASIAEC2"),
		"meta-data/instance-action":                                            "none",
		"meta-data/instance-id":                                                "i-1234567890abcdef0",
		"meta-data/instance-life-cycle":                                        "on-demand",
		"meta-data/instance-type":                                              "m5.large",
		"meta-data/ipv6":                                                       "2001:db8::2",
		"meta-data/local-hostname":                                             "ip-10-251-50-12.ec2.internal",
		"meta-data/local-ipv4":                                                 "10.251.50.12",
		"meta-data/mac":                                                        "02:29:96:8f:6a:2d",
		"meta-data/managed-ssh-keys/active-keys/ubuntu":                        "ssh-ed25519 AAAA temporary",
		"meta-data/managed-ssh-keys/signer-cert":                               "-----BEGIN CERTIFICATE-----",
		"meta-data/managed-ssh-keys/signer-ocsp/0123456789ABC":                 "b2NzcA==",
		"meta-data/metrics/vhostmd":                                            "<?xml version=\"1.0\"?>",
		mac + "device-number":                                                  "0",
		mac + "interface-id":                                                   "eni-0123",
		mac + "ipv4-associations/192.0.2.54":                                   "10.251.50.12",
		mac + "local-ipv4s":                                                    "10.251.50.12\n10.251.50.13",
		mac + "mac":                                                            "02:29:96:8f:6a:2d",
		mac + "subnet-ipv6-cidr-blocks":                                        "2001:db8::/64",
		mac + "vpc-id":                                                         "vpc-0123",
		"meta-data/placement/availability-zone":                                "us-west-2a",
		"meta-data/placement/region":                                           "us-west-2",
		"meta-data/profile":                                                    "default-hvm",
		"meta-data/public-keys/0/openssh-key":                                  "ssh-rsa AAAA my-public-key",
		"meta-data/reservation-id":                                             "r-fea54097",
		"meta-data/security-groups":                                            "default\nweb servers",
		"meta-data/services/domain":                                            "amazonaws.com",
		"meta-data/spot/instance-action":                                       `{"action":"stop","time":"2026-09-18T08:22:00Z"}`,
		"meta-data/spot/termination-time":                                      "2026-09-18T08:22:00Z",
		"meta-data/system":                                                     "nitro",
		"meta-data/tags/instance/Name":                                         "web",
		"meta-data/tags/instance/team:cost,center@x+y":                         "42",
	}
}
