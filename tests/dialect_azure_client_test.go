// SPDX-License-Identifier: Apache-2.0

package tests

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"github.com/metaguard/metaguard/tests/azureserver"
)

// azureClient is the Azure SDK with its own retries, only faster. No variable
// moves its endpoint (managed_identity_client.go, imdsEndpoint; those that there
// are, such as IDENTITY_ENDPOINT, stand for servers with other protocols), so
// 169.254.169.254 is where a network would have it be: at Metaguard.
func azureClient(s *site) azcore.ClientOptions {
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		if address != "169.254.169.254:80" {
			return nil, fmt.Errorf("nothing is at %s", address)
		}
		return new(net.Dialer).DialContext(ctx, network, s.address)
	}
	return azcore.ClientOptions{
		Transport: &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}},
		Retry:     policy.RetryOptions{RetryDelay: time.Millisecond, MaxRetryDelay: 2 * time.Millisecond},
	}
}

// azureGet gets a token for a scope, which no other test asks for: the SDK keeps
// tokens for the whole process.
func azureGet(t *testing.T, credential azcore.TokenCredential, scope string) (string, error) {
	t.Helper()
	token, err := credential.GetToken(t.Context(), policy.TokenRequestOptions{Scopes: []string{"https://" + scope + ".example/.default"}})
	return token.Token, err
}

func azureManaged(t *testing.T, s *site, id azidentity.ManagedIDKind) azcore.TokenCredential {
	t.Helper()
	credential, err := azidentity.NewManagedIdentityCredential(&azidentity.ManagedIdentityCredentialOptions{ClientOptions: azureClient(s), ID: id})
	if err != nil {
		t.Fatal(err)
	}
	return credential
}

// The Azure SDK gets a managed identity's token where there is a grant: it cannot
// carry a session's token.
func TestAzureIdentity(t *testing.T) {
	t.Parallel()
	granted := newAzureSite(t, byAddress+"\nrequire_host 169.254.169.254", map[string]string{"policy/data.json": grant(instance1, "credentials:read")})
	if token, err := azureGet(t, azureManaged(t, granted, nil), "granted"); err != nil || token != azureserver.Token {
		t.Errorf("with a grant: %q %v", token, err)
	}
	for name, id := range map[string]azidentity.ManagedIDKind{
		"client_id=22222222-0000-4000-8000-000000000000": azidentity.ClientID("22222222-0000-4000-8000-000000000000"),
		"object_id=33333333-0000-4000-8000-000000000000": azidentity.ObjectID("33333333-0000-4000-8000-000000000000"),
		"msi_res_id=": azidentity.ResourceID("/subscriptions/s/resourceGroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/i"),
	} {
		granted.upstream.Forget()
		token, err := azureGet(t, azureManaged(t, granted, id), "identity")
		requests := granted.upstream.Requests()
		if err != nil || token != azureserver.Token || len(requests) != 1 || !strings.Contains(requests[0], name) {
			t.Errorf("%s: %q %v %q", name, token, err, requests)
		}
	}
	if _, err := azureGet(t, azureManaged(t, granted, azidentity.ClientID("44444444-0000-4000-8000-000000000000")), "unassigned"); err == nil || !strings.Contains(err.Error(), "isn't assigned") {
		t.Errorf("an identity that is not there: %v", err)
	}
	refused := newAzureSite(t, byAddress, nil)
	_, err := azureGet(t, azureManaged(t, refused, nil), "refused")
	var failed *azidentity.AuthenticationFailedError
	if !errors.As(err, &failed) || failed.RawResponse == nil || failed.RawResponse.StatusCode != 403 {
		t.Errorf("without a grant: %v", err)
	}
	if requests := refused.upstream.Requests(); len(requests) != 0 {
		t.Errorf("the server saw %q", requests)
	}
	if lines := refused.decisions(t, 1); len(lines) != 1 {
		t.Errorf("refused, it asked %d times", len(lines))
	}
}

// The default chain probes without the header first: Metaguard's 400 is an answer
// as the service's own is.
func TestAzureIdentityProbe(t *testing.T) {
	t.Parallel()
	s := newAzureSite(t, byAddress, map[string]string{"policy/data.json": grant(instance1, "credentials:read")})
	credential, err := azidentity.NewDefaultAzureCredential(&azidentity.DefaultAzureCredentialOptions{ClientOptions: azureClient(s)})
	if err != nil {
		t.Fatal(err)
	}
	if token, err := azureGet(t, credential, "probed"); err != nil || token != azureserver.Token {
		t.Errorf("%q %v", token, err)
	}
	lines := s.decisions(t, 2)
	if fmt.Sprint(lines[0]["reason"]) != "header_refused" || fmt.Sprint(lines[0]["status"]) != "400" || fmt.Sprint(lines[1]["reason"]) != "policy_allow" {
		t.Errorf("%v", lines)
	}
}

// What the Azure SDK does with a status, as the dialect's comment says.
func TestAzureIdentityStatuses(t *testing.T) {
	t.Parallel()
	s := newAzureSite(t, byAddress, map[string]string{"policy/data.json": grant(instance1, "credentials:read")})
	for status, asked := range map[int]int{400: 1, 401: 1, 403: 1, 404: 7, 405: 1, 409: 1, 410: 7, 429: 7, 500: 7, 502: 7, 503: 7} {
		s.upstream.Forget()
		s.upstream.Script(func(string) string {
			return fmt.Sprintf("HTTP/1.1 %d x\r\nContent-Length: 0\r\n\r\n", status)
		})
		_, err := azureGet(t, azureManaged(t, s, nil), fmt.Sprint("status", status))
		if got := len(s.upstream.Requests()); err == nil || got != asked {
			t.Errorf("%d: asked %d times, want %d: %v", status, got, asked, err)
		}
	}
}
