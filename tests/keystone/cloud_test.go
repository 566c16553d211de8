// SPDX-License-Identifier: Apache-2.0

package keystone_test

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/applicationcredentials"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/projects"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/roles"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/tokens"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/trusts"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/users"

	"github.com/metaguard/metaguard/tests/harness"
)

const (
	domain        = "default"
	adminPassword = "admin-of-the-tests" // keystone.sh's
)

// server is a running Keystone.
type server struct {
	port  int
	state string
}

func (s *server) url() string { return fmt.Sprintf("http://127.0.0.1:%d/v3", s.port) }

// startServer starts a Keystone that runs until the tests are done, or until it
// is stopped.
func startServer(tb testing.TB, env ...string) *server {
	tb.Helper()
	state, err := os.MkdirTemp("", "metaguard-keystone-state-")
	if err != nil {
		tb.Fatal(err)
	}
	s := &server{state: state}
	servers.Started(state)
	tb.Cleanup(func() { s.explain(tb) })
	// The database is made before the port is bound, which may be another's then.
	for attempt := 1; ; attempt++ {
		s.port = harness.FreePort(tb)
		command := exec.Command("./keystone.sh", "start", state)
		command.Env = append(append(os.Environ(), fmt.Sprint("PORT=", s.port), "LIMIT=600"), env...)
		output, err := command.CombinedOutput()
		if err == nil {
			break
		}
		if attempt == 3 {
			tb.Fatalf("keystone.sh start: %v\n%s", err, output)
		}
		tb.Logf("keystone.sh start: %v\n%s", err, output)
	}
	// The first requests of each kind take seconds.
	token := s.admin(tb)
	if err := tokens.Get(tb.Context(), s.client(token), token).Err; err != nil {
		tb.Fatal(err)
	}
	return s
}

// explain shows the end of Keystone's log when a test has failed.
func (s *server) explain(tb testing.TB) {
	tb.Helper()
	if log, err := os.ReadFile(filepath.Join(s.state, "server.log")); tb.Failed() && err == nil {
		tb.Logf("Keystone says:\n%s", log[max(0, len(log)-8000):])
	}
}

func (s *server) stop(tb testing.TB) {
	tb.Helper()
	if output, err := exec.Command("./keystone.sh", "stop", s.state).CombinedOutput(); err != nil {
		tb.Fatalf("keystone.sh stop: %v\n%s", err, output)
	}
}

// client speaks to Keystone with a token, or without.
func (s *server) client(token string) *gophercloud.ServiceClient {
	return &gophercloud.ServiceClient{
		ProviderClient: &gophercloud.ProviderClient{TokenID: token, HTTPClient: http.Client{Transport: oneRequest}},
		Endpoint:       s.url() + "/", Type: "identity",
	}
}

// oneRequest uses no connection twice: uWSGI may close one that waits, and a POST
// that meets that is not sent again.
var oneRequest = &http.Transport{DisableKeepAlives: true}

// token logs in.
func (s *server) token(tb testing.TB, options *tokens.AuthOptions) string {
	tb.Helper()
	if options.Username != "" {
		options.DomainID = domain
	}
	token, err := tokens.Create(tb.Context(), s.client(""), options).ExtractTokenID()
	if err != nil {
		tb.Fatal(err)
	}
	return token
}

// admin logs in as the user who may do everything, for the project admin.
func (s *server) admin(tb testing.TB) string {
	tb.Helper()
	return s.token(tb, &tokens.AuthOptions{
		Username: "admin", Password: adminPassword, Scope: tokens.Scope{ProjectName: "admin", DomainID: domain},
	})
}

func (s *server) revoke(tb testing.TB, token string) {
	tb.Helper()
	if err := tokens.Revoke(tb.Context(), s.client(token), token).Err; err != nil {
		tb.Fatal(err)
	}
}

// cloud is what all tests share: alice is metadata_reader in the project blue,
// bob is reader in green.
type cloud struct {
	*server
	blue, green string
	alice, bob  string
}

var theCloud struct {
	once sync.Once
	*cloud
}

func newCloud(tb testing.TB) *cloud {
	tb.Helper()
	need(tb)
	theCloud.once.Do(func() { theCloud.cloud = seedCloud(tb) })
	if theCloud.cloud == nil {
		tb.Fatal("there is no cloud")
	}
	tb.Cleanup(func() { theCloud.explain(tb) })
	return theCloud.cloud
}

func seedCloud(tb testing.TB) *cloud {
	tb.Helper()
	c := &cloud{server: startServer(tb)}
	admin, ctx := c.client(c.admin(tb)), tb.Context()
	project := func(name string) string {
		made, err := projects.Create(ctx, admin, projects.CreateOpts{Name: name, DomainID: domain}).Extract()
		if err != nil {
			tb.Fatal(err)
		}
		return made.ID
	}
	user := func(name, project, role string) string {
		made, err := users.Create(ctx, admin, users.CreateOpts{Name: name, DomainID: domain, Password: "password-of-" + name}).Extract()
		if err != nil {
			tb.Fatal(err)
		}
		if err := roles.Assign(ctx, admin, role, roles.AssignOpts{UserID: made.ID, ProjectID: project}).ExtractErr(); err != nil {
			tb.Fatal(err)
		}
		return made.ID
	}
	reading, err := roles.Create(ctx, admin, roles.CreateOpts{Name: "metadata_reader"}).Extract()
	if err != nil {
		tb.Fatal(err)
	}
	pages, err := roles.List(admin, roles.ListOpts{Name: "reader"}).AllPages(ctx)
	if err != nil {
		tb.Fatal(err)
	}
	readers, err := roles.ExtractRoles(pages)
	if err != nil || len(readers) != 1 {
		tb.Fatalf("%v, %v", readers, err)
	}
	c.blue, c.green = project("blue"), project("green")
	c.alice, c.bob = user("alice", c.blue, reading.ID), user("bob", c.green, readers[0].ID)
	return c
}

// of logs a user in for a project.
func (c *cloud) of(tb testing.TB, user, project string) string {
	tb.Helper()
	return c.token(tb, &tokens.AuthOptions{Username: user, Password: "password-of-" + user, Scope: tokens.Scope{ProjectID: project}})
}

// credential logs alice in by an application credential of hers, with access
// rules or without.
func (c *cloud) credential(tb testing.TB, name string, rules ...applicationcredentials.AccessRule) string {
	tb.Helper()
	made, err := applicationcredentials.Create(tb.Context(), c.client(c.of(tb, "alice", c.blue)), c.alice,
		applicationcredentials.CreateOpts{Name: name, Secret: "secret-of-" + name, AccessRules: rules}).Extract()
	if err != nil {
		tb.Fatal(err)
	}
	return c.token(tb, &tokens.AuthOptions{ApplicationCredentialID: made.ID, ApplicationCredentialSecret: "secret-of-" + name})
}

// trusted logs bob in by a trust of alice's, as himself or as her.
func (c *cloud) trusted(tb testing.TB, impersonation bool) string {
	tb.Helper()
	trust, err := trusts.Create(tb.Context(), c.client(c.of(tb, "alice", c.blue)), trusts.CreateOpts{
		Impersonation: impersonation, ProjectID: c.blue, Roles: []trusts.Role{{Name: "metadata_reader"}}, TrusteeUserID: c.bob, TrustorUserID: c.alice,
	}).Extract()
	if err != nil {
		tb.Fatal(err)
	}
	return c.token(tb, &tokens.AuthOptions{
		Username: "bob", Password: "password-of-bob", Scope: tokens.Scope{TrustID: trust.ID},
	})
}
