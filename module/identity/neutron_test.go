// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/metaguard/metaguard/module/decision"
)

// with changes a copy of what a real agent sends: pairs of name and value; the
// value "-" removes, and the same name twice doubles.
func with(pairs ...string) http.Header {
	h := signed(planted)
	done := map[string]bool{}
	for i := 0; i < len(pairs); i += 2 {
		name, value := pairs[i], pairs[i+1]
		switch {
		case value == "-":
			delete(h, name)
		case done[name]:
			h[name] = append(h[name], value)
		default:
			h[name] = []string{value}
		}
		done[name] = true
	}
	return h
}

func only(name, value string) http.Header { return http.Header{name: {value}, "User-Agent": {"curl"}} }

func TestNeutronIdentify(t *testing.T) {
	n := newNeutron(t)
	goodSignature := Sign(decision.NewSecret(planted), instanceA)
	good := &decision.Caller{
		Source: "neutron", ID: "instance:" + instanceA, InstanceID: instanceA, ProjectID: tenantA,
		Address: netip.MustParseAddr("10.0.0.5"),
	}
	at := func(address string) *decision.Caller {
		c := *good
		c.Address = netip.Addr{}
		if address != "" {
			c.Address = netip.MustParseAddr(address)
		}
		return &c
	}
	of := func(project string) *decision.Caller {
		c := *good
		c.ProjectID = project
		return &c
	}
	tests := map[string]struct {
		headers http.Header
		peer    netip.Addr // default: loopback
		caller  *decision.Caller
		code    string // with neither, the request is not claimed
	}{
		"good":                     {headers: signed(planted), caller: good},
		"good, second secret":      {headers: signed(older), caller: good},
		"good, ::1":                {headers: signed(planted), peer: netip.IPv6Loopback(), caller: good},
		"good, mapped loopback":    {headers: signed(planted), peer: netip.MustParseAddr("::ffff:127.9.9.9"), caller: good},
		"no address":               {headers: with("X-Forwarded-For", "-"), caller: at("")},
		"IPv6 address":             {headers: with("X-Forwarded-For", "fe80::f816:3eff:fe00:1"), caller: at("fe80::f816:3eff:fe00:1")},
		"mapped address":           {headers: with("X-Forwarded-For", "::ffff:10.0.0.6"), caller: at("10.0.0.6")},
		"tenant with dashes":       {headers: with("X-Tenant-Id", instanceB), caller: of(instanceB)},
		"tenant is not signed":     {headers: with("X-Tenant-Id", "another"), caller: of("another")},
		"no claim":                 {headers: http.Header{"User-Agent": {"curl"}}},
		"no claim, stranger":       {headers: http.Header{}, peer: stranger},
		"address alone":            {headers: only("X-Forwarded-For", "10.0.0.5")},
		"name without values":      {headers: http.Header{"X-Instance-Id": nil}},
		"only id":                  {headers: only("X-Instance-Id", instanceA), code: "neutron_signature_missing"},
		"only tenant":              {headers: only("X-Tenant-Id", tenantA), code: "neutron_instance_missing"},
		"only signature":           {headers: only("X-Instance-Id-Signature", goodSignature), code: "neutron_instance_missing"},
		"only provider":            {headers: only("X-Metadata-Provider", instanceA), code: "neutron_provider_header"},
		"only provider signature":  {headers: only("X-Metadata-Provider-Signature", goodSignature), code: "neutron_provider_header"},
		"good and provider":        {headers: with("X-Metadata-Provider", instanceA), code: "neutron_provider_header"},
		"good and empty provider":  {headers: with("X-Metadata-Provider", ""), code: "neutron_provider_header"},
		"good and provider's sign": {headers: with("X-Metadata-Provider-Signature", goodSignature), code: "neutron_provider_header"},
		"stranger":                 {headers: signed(planted), peer: stranger, code: "neutron_sender_untrusted"},
		"stranger, any header":     {headers: only("X-Tenant-Id", ""), peer: stranger, code: "neutron_sender_untrusted"},
		"stranger, provider":       {headers: only("X-Metadata-Provider", "x"), peer: stranger, code: "neutron_sender_untrusted"},
		"Unix socket":              {headers: signed(planted), peer: netip.Addr{}, code: "neutron_sender_untrusted"},
		"id missing":               {headers: with("X-Instance-Id", "-"), code: "neutron_instance_missing"},
		"id empty":                 {headers: with("X-Instance-Id", ""), code: "neutron_instance_missing"},
		"id doubled":               {headers: with("X-Instance-Id", instanceA, "X-Instance-Id", instanceA), code: "neutron_header_doubled"},
		"id doubled, other":        {headers: with("X-Instance-Id", instanceA, "X-Instance-Id", instanceB), code: "neutron_header_doubled"},
		"id doubled, empty":        {headers: with("X-Instance-Id", "", "X-Instance-Id", instanceA), code: "neutron_header_doubled"},
		"id joined":                {headers: with("X-Instance-Id", instanceA+","+instanceA), code: "neutron_instance_malformed"},
		"id upper case":            {headers: with("X-Instance-Id", strings.ToUpper(instanceB)), code: "neutron_instance_malformed"},
		"id without dashes":        {headers: with("X-Instance-Id", strings.ReplaceAll(instanceA, "-", "")), code: "neutron_instance_malformed"},
		"id in braces":             {headers: with("X-Instance-Id", "{"+instanceA+"}"), code: "neutron_instance_malformed"},
		"id with blank":            {headers: with("X-Instance-Id", instanceA+" "), code: "neutron_instance_malformed"},
		"id not hexadecimal":       {headers: with("X-Instance-Id", "g"+instanceA[1:]), code: "neutron_instance_malformed"},
		"id with NUL":              {headers: with("X-Instance-Id", instanceA[:35]+"\x00"), code: "neutron_instance_malformed"},
		"someone else's id":        {headers: with("X-Instance-Id", instanceB), code: "neutron_signature_wrong"},
		"tenant missing":           {headers: with("X-Tenant-Id", "-"), code: "neutron_tenant_missing"},
		"tenant empty":             {headers: with("X-Tenant-Id", ""), code: "neutron_tenant_missing"},
		"tenant doubled":           {headers: with("X-Tenant-Id", tenantA, "X-Tenant-Id", tenantA), code: "neutron_header_doubled"},
		"tenant joined":            {headers: with("X-Tenant-Id", tenantA+","+tenantA), code: "neutron_tenant_malformed"},
		"tenant too long":          {headers: with("X-Tenant-Id", strings.Repeat("a", 65)), code: "neutron_tenant_malformed"},
		"tenant with blank":        {headers: with("X-Tenant-Id", "a b"), code: "neutron_tenant_malformed"},
		"tenant not ASCII":         {headers: with("X-Tenant-Id", "\xe4"), code: "neutron_tenant_malformed"},
		"signature missing":        {headers: with("X-Instance-Id-Signature", "-"), code: "neutron_signature_missing"},
		"signature empty":          {headers: with("X-Instance-Id-Signature", ""), code: "neutron_signature_missing"},
		"signature doubled":        {headers: with("X-Instance-Id-Signature", goodSignature, "X-Instance-Id-Signature", goodSignature), code: "neutron_header_doubled"},
		"signature joined":         {headers: with("X-Instance-Id-Signature", goodSignature+","+goodSignature), code: "neutron_signature_malformed"},
		"signature upper case":     {headers: with("X-Instance-Id-Signature", strings.ToUpper(goodSignature)), code: "neutron_signature_malformed"},
		"signature cut":            {headers: with("X-Instance-Id-Signature", goodSignature[:63]), code: "neutron_signature_malformed"},
		"signature longer":         {headers: with("X-Instance-Id-Signature", goodSignature+"0"), code: "neutron_signature_malformed"},
		"signature not ASCII":      {headers: with("X-Instance-Id-Signature", goodSignature[:62]+"\xc3\xa4"), code: "neutron_signature_malformed"},
		"signature wrong":          {headers: with("X-Instance-Id-Signature", strings.Repeat("0", 64)), code: "neutron_signature_wrong"},
		"signature, first digit":   {headers: with("X-Instance-Id-Signature", otherDigit(goodSignature[0])+goodSignature[1:]), code: "neutron_signature_wrong"},
		"signature, last digit":    {headers: with("X-Instance-Id-Signature", goodSignature[:63]+otherDigit(goodSignature[63])), code: "neutron_signature_wrong"},
		"someone else's signature": {headers: with("X-Instance-Id-Signature", Sign(decision.NewSecret(planted), instanceB)), code: "neutron_signature_wrong"},
		"someone else's secret":    {headers: signed("another"), code: "neutron_signature_wrong"},
		"empty secret":             {headers: signed(""), code: "neutron_signature_wrong"},
		"address doubled":          {headers: with("X-Forwarded-For", "10.0.0.5", "X-Forwarded-For", "10.0.0.5"), code: "neutron_address_doubled"},
		"address list":             {headers: with("X-Forwarded-For", "10.0.0.5, 10.0.0.6"), code: "neutron_address_malformed"},
		"address empty":            {headers: with("X-Forwarded-For", ""), code: "neutron_address_malformed"},
		"address with port":        {headers: with("X-Forwarded-For", "10.0.0.5:80"), code: "neutron_address_malformed"},
		"address with zone":        {headers: with("X-Forwarded-For", "fe80::1%eth0"), code: "neutron_address_malformed"},
		"address unspecified":      {headers: with("X-Forwarded-For", "0.0.0.0"), code: "neutron_address_malformed"},
		"address a name":           {headers: with("X-Forwarded-For", "unknown"), code: "neutron_address_malformed"},
		"address octal":            {headers: with("X-Forwarded-For", "010.0.0.5"), code: "neutron_address_malformed"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			peer := test.peer
			if name != "Unix socket" && !peer.IsValid() {
				peer = loopback
			}
			caller, refusal := n.Identify(request(test.headers), peer)
			if !reflect.DeepEqual(caller, test.caller) {
				t.Errorf("caller %+v, want %+v", caller, test.caller)
			}
			switch {
			case test.code == "" && refusal != nil:
				t.Errorf("refused: %v", refusal)
			case test.code != "" && refusal == nil:
				t.Errorf("not refused, want %s", test.code)
			case refusal != nil && (refusal.Code != test.code || refusal.Reason != decision.IdentityInvalid):
				t.Errorf("refusal %v, want identity_invalid (%s)", refusal, test.code)
			}
			noSecret(t, refusal, fmt.Sprintf("%+v", refusal))
		})
	}
}

func otherDigit(c byte) string {
	if c == '0' {
		return "1"
	}
	return "0"
}

// noSecret fails where a secret or a signature that it makes can be seen.
func noSecret(tb testing.TB, values ...any) {
	tb.Helper()
	for _, value := range values {
		document, err := json.Marshal(value)
		if err != nil {
			document = nil
		}
		text := fmt.Sprintf("%v\n%+v\n%#v\n%s\n%q\n%x\n%s", value, value, value, value, value, value, document)
		for _, secret := range []string{planted, older} {
			for _, id := range []string{instanceA, instanceB} {
				for what, hidden := range map[string]string{
					"secret": secret, "secret in hexadecimal": fmt.Sprintf("%x", secret),
					"secret as bytes": strings.Trim(fmt.Sprintf("%d", []byte(secret)), "[]"),
					"signature":       Sign(decision.NewSecret(secret), id),
				} {
					if strings.Contains(text, hidden) {
						tb.Errorf("%T shows a %s: %s", value, what, text)
					}
				}
			}
		}
	}
}

func TestNeutronShowsNoSecret(t *testing.T) {
	n := newNeutron(t)
	if _, refusal := n.Identify(request(signed(planted)), loopback); refusal != nil { // fills the pools
		t.Fatal(refusal)
	}
	noSecret(t, n, *n, n.Assertion(), *n.Assertion(), n.signers, n.signers[0], &n.signers[0].states)
}

func TestNeutronTrust(t *testing.T) {
	n := newNeutron(t, "192.0.2.0/29", "::ffff:198.51.100.1", "::ffff:203.0.113.0/120", "2001:db8::/32")
	for address, want := range map[string]bool{
		"192.0.2.7": true, "192.0.2.8": false, "::ffff:192.0.2.7": true, "198.51.100.1": true, "198.51.100.2": false,
		"203.0.113.200": true, "203.0.114.1": false, "2001:db8::1": true, "2001:db9::1": false,
		"127.0.0.1": false, "::1": false, // naming others replaces the default
	} {
		if got := n.Trusts(netip.MustParseAddr(address)); got != want {
			t.Errorf("%s: trusted %v, want %v", address, got, want)
		}
	}
	if n.Trusts(netip.Addr{}) {
		t.Error("a Unix socket is trusted")
	}
}

func TestNeutronProvisionErrors(t *testing.T) {
	t.Setenv("METAGUARD_TEST_SECRET", planted)
	t.Setenv("METAGUARD_TEST_EMPTY", "")
	secret := []string{"{env.METAGUARD_TEST_SECRET}"}
	for name, test := range map[string]struct {
		source Neutron
		want   string
	}{
		"no secret":      {Neutron{}, "needs a secret"},
		"literal secret": {Neutron{Secrets: []string{planted}}, "literal"},
		"empty secret":   {Neutron{Secrets: []string{"{env.METAGUARD_TEST_EMPTY}"}}, "{env.METAGUARD_TEST_EMPTY}"},
		"second empty":   {Neutron{Secrets: []string{secret[0], "{env.METAGUARD_TEST_EMPTY}"}}, "secret 2"},
		"everybody":      {Neutron{Secrets: secret, Trust: []string{"0.0.0.0/0"}}, "covers every address"},
		"no address":     {Neutron{Secrets: secret, Trust: []string{"agent"}}, "neither an address"},
	} {
		t.Run(name, func(t *testing.T) {
			err := provisionError(t, test.source.Provision)
			if err == nil {
				err = test.source.Validate()
			}
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("error %v, want %q", err, test.want)
			}
			noSecret(t, err)
		})
	}
}

func TestNeutronHeadersAreCanonical(t *testing.T) {
	for _, name := range new(Neutron).Headers() {
		if http.CanonicalHeaderKey(name) != name {
			t.Errorf("%s is not canonical", name)
		}
	}
}
