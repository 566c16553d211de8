// SPDX-License-Identifier: Apache-2.0

package nova_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/metaguard/metaguard/tests/harness"
)

// TestLegacyHandler holds the quickstart's legacy server against the real one:
// the same requests, the same status, type and body, under both web servers.
func TestLegacyHandler(t *testing.T) {
	for _, kind := range webServers {
		t.Run(kind, func(t *testing.T) {
			nova := novaUnder(t, kind)
			copied := legacyUnder(t, kind)
			asked := 0
			compare := func(name string, raw []byte) {
				asked++
				want, got := send(t, "", nova.address, raw), send(t, "", copied, raw)
				if stable(got) != stable(want) || got.value("Content-Type") != want.value("Content-Type") {
					t.Errorf("%s\n got %s %q\nwant %s %q", name, got.value("Content-Type"), stable(got), want.value("Content-Type"), stable(want))
				}
				if length := got.value("Content-Length") != ""; !want.closed() && length != (want.value("Content-Length") != "") {
					t.Errorf("%s: an answer with Content-Length: %t", name, length)
				}
			}
			for _, target := range legacyTargets() {
				for _, digit := range []rune{withPassword, withExtras, withAdmin, unknown} {
					compare(fmt.Sprintf("GET %s as %c", target, digit), request("GET", target, signed(digit), nil))
				}
			}
			for _, method := range []string{"HEAD", "PUT", "DELETE", "OPTIONS", "FOO"} {
				for _, target := range []string{"/", "/openstack/latest/password", "/openstack/latest/user_data", "/openstack/2012-08-10/password"} {
					compare(method+" "+target, request(method, target, signed(withPassword), nil))
				}
			}
			compare("POST to a password that is set", request("POST", "/openstack/latest/password", signed(withPassword), []byte("second")))
			compare("POST that is too long", request("POST", "/openstack/latest/password", signed(withPassword), []byte(strings.Repeat("x", 1021))))
			for i, line := range signed(withPassword)[1:] { // one of the three is missing, and wrong
				others := append([]string(nil), signed(withPassword)...)
				others = append(others[:i+1], others[i+2:]...)
				compare("without "+line, request("GET", "/openstack/latest/", others, nil))
				compare("wrong "+line, request("GET", "/openstack/latest/", append(others, line+"0"), nil))
			}
			if asked < 200 {
				t.Errorf("only %d requests", asked)
			}
		})
	}
}

// legacyTargets are the paths that Nova knows, and some that it does not.
func legacyTargets() []string {
	targets := []string{
		"/", "/openstack", "/openstack/", "/healthcheck", "/healthcheck/", "/ec2", "/latest", "/latest/", "/2009-04-04/meta-data/", "/1.0/",
		"/latest/user-data", "/latest/meta-data", "/openstack/content", "/openstack/2099-01-01/", "/nothing", "/openstack//latest//password/",
		"/openstack/latest/x/../password", "/openstack//../latest/password", "/openstack/latest/%70assword", "/openstack/latest/password?x=1",
	}
	for _, version := range []string{"2012-08-10", "2013-04-04", "2013-10-17", "2015-10-15", "2018-08-27", "2020-10-14", "latest"} {
		for _, name := range []string{"", "meta_data.json", "user_data", "password", "vendor_data.json", "vendor_data2.json", "network_data.json", "version", "nothing"} {
			targets = append(targets, "/openstack/"+version+"/"+name)
		}
	}
	for _, name := range []string{"hostname", "public-keys/", "public-keys/0/openssh-key", "placement/availability-zone", "block-device-mapping/", "reservation-id", "nothing"} {
		targets = append(targets, "/latest/meta-data/"+name)
	}
	return targets
}

// legacyUnder runs the legacy server with the instances that Nova has.
func legacyUnder(t *testing.T, kind string) string {
	t.Helper()
	at := fmt.Sprint("127.0.0.1:", harness.FreePort(t))
	var instances strings.Builder
	// The first is there for the others' numbers: nobody asks as it.
	for _, digit := range []rune{overwritten, withPassword, withExtras, withAdmin} {
		fmt.Fprintf(&instances, "\t\tinstance %s {\n\t\t\tproject %s\n\t\t\tname vm-%c\n\t\t\tuser_data `#cloud-config\n{}\n`\n\t\t\tmeta role test\n", instanceID(digit), projectID(digit), digit)
		switch digit {
		case withPassword:
			fmt.Fprintf(&instances, "\t\t\tpassword password_0 %s\n\t\t\tpassword password_1 %s\n", passwordOf2[:255], passwordOf2[255:])
		case withExtras:
			for _, key := range [][2]string{{"password_", "[bare]"}, {"password_0", "[0]"}, {"password_1", "[1]"}, {"password_2", "[2]"}, {"password_3", "[3]"}, {"password_10", "[10]"}, {"password_evil", "[evil]"}, {"Password_9", "[upper]"}} {
				fmt.Fprintf(&instances, "\t\t\tpassword %s %s\n", key[0], key[1])
			}
		case withAdmin:
			instances.WriteString("\t\t\tmeta admin_pass clear-text-of-4\n")
		}
		instances.WriteString("\t\t}\n")
	}
	harness.Start(t, at, map[string]string{"Caddyfile": fmt.Sprintf(`{
	admin off
	persist_config off
}
http://:%s {
	bind 127.0.0.1
	metaguard_legacy {
		server %s
		secret {env.METAGUARD_NEUTRON_SECRET}
%s	}
}
`, strings.TrimPrefix(at, "127.0.0.1:"), kind, instances.String())}, "METAGUARD_NEUTRON_SECRET="+secret)
	return at
}
