// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"net/http"
	"reflect"
	"sync"
	"testing"

	"github.com/metaguard/metaguard/module/decision"
)

// The values are from `printf %s TEXT | openssl dgst -sha256 -hmac KEY`.
func TestSign(t *testing.T) {
	for _, test := range []struct{ key, text, want string }{
		{"key", "The quick brown fox jumps over the lazy dog", "f7bc83f430538424b13298e6aa6fb143ef4d59a14946175997479dbc2d1a3cd8"},
		{"metaguard", instanceA, "31914d9d9399a2fcab543d99016e59dc2ea5c1f98914cd108ba7f2a5aa60369e"},
	} {
		if got := Sign(decision.NewSecret(test.key), test.text); got != test.want {
			t.Errorf("%s: %s, want %s", test.text, got, test.want)
		}
	}
}

func TestSignerAgreesWithSign(t *testing.T) {
	secret := decision.NewSecret(planted)
	s := newSigner(secret)
	var work sync.WaitGroup
	for _, id := range []string{instanceA, instanceB, instanceA, instanceB} {
		work.Go(func() {
			want := Sign(secret, id)
			for range 200 {
				var got [signatureLen]byte
				s.sign(&got, id)
				if string(got[:]) != want {
					t.Errorf("%s: %s, want %s", id, got, want)
					return
				}
			}
		})
	}
	work.Wait()
}

func TestAssertion(t *testing.T) {
	secret := decision.NewSecret(planted)
	assertion, err := NewAssertion(secret)
	if err != nil {
		t.Fatal(err)
	}
	dirty := func() http.Header {
		return http.Header{
			"Accept": {"*/*"}, "X-Instance-Id": {"forged", "twice"}, "X-Tenant-Id": {"forged"}, "X-Instance-Id-Signature": {"forged"},
			"X-Metadata-Provider": {"forged"}, "X-Metadata-Provider-Signature": {"forged"},
		}
	}
	for name, test := range map[string]struct {
		target decision.Target
		code   string
	}{
		"good":               {decision.Target{InstanceID: instanceB, ProjectID: tenantA}, ""},
		"nobody":             {decision.Target{}, "assert_instance_missing"},
		"no instance":        {decision.Target{ProjectID: tenantA}, "assert_instance_missing"},
		"malformed instance": {decision.Target{InstanceID: instanceB + "\r\nX: y", ProjectID: tenantA}, "assert_instance_malformed"},
		"no project":         {decision.Target{InstanceID: instanceB}, "assert_project_missing"},
		"malformed project":  {decision.Target{InstanceID: instanceB, ProjectID: "a\nb"}, "assert_project_malformed"},
	} {
		t.Run(name, func(t *testing.T) {
			h, want := dirty(), http.Header{"Accept": {"*/*"}}
			asserted, refusal := assertion.Sign(test.target)
			if test.code == "" {
				asserted.Set(h)
				want["X-Instance-Id"], want["X-Tenant-Id"] = []string{instanceB}, []string{tenantA}
				want["X-Instance-Id-Signature"] = []string{Sign(secret, instanceB)}
				if refusal != nil {
					t.Fatal(refusal)
				}
				if !reflect.DeepEqual(h, want) {
					t.Errorf("headers %v, want %v", h, want)
				}
			} else if asserted != nil || refusal == nil || refusal.Code != test.code || refusal.Reason != decision.TargetUnknown {
				t.Errorf("%v, refusal %v, want target_unknown (%s)", asserted, refusal, test.code)
			}
			noSecret(t, refusal, assertion)
		})
	}
}

// What Metaguard asserts, a Metaguard that trusts it accepts.
func TestAssertionIsAccepted(t *testing.T) {
	n := newNeutron(t)
	h := http.Header{}
	asserted, refusal := n.Assertion().Sign(decision.Target{InstanceID: instanceB, ProjectID: tenantA})
	if refusal != nil {
		t.Fatal(refusal)
	}
	asserted.Set(h)
	if h.Get("X-Instance-ID-Signature") != Sign(decision.NewSecret(planted), instanceB) {
		t.Error("not signed with the first secret")
	}
	caller, refusal := n.Identify(request(h), loopback)
	if refusal != nil || caller == nil || caller.InstanceID != instanceB {
		t.Errorf("caller %+v, refusal %v", caller, refusal)
	}
}

func TestAssertionNeedsASecret(t *testing.T) {
	if _, err := NewAssertion(decision.NewSecret("")); err == nil {
		t.Error("an empty secret signs")
	}
}
