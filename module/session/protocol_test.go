// SPDX-License-Identifier: Apache-2.0

package session

import (
	"net/http"
	"testing"
	"time"

	"github.com/metaguard/metaguard/module/decision"
)

func TestEndpointAt(t *testing.T) {
	for _, test := range []struct {
		segments []string
		slash    bool
		header   string
	}{
		{[]string{"latest", "api", "token"}, false, HeaderAWSTTL},
		{[]string{"metaguard", "session"}, false, HeaderTTL},
		{[]string{"latest", "api", "token"}, true, ""},
		{[]string{"metaguard", "session"}, true, ""},
		{[]string{"latest", "api", "token", ""}, false, ""},
		{[]string{"latest", "api", "Token"}, false, ""},
		{[]string{"2009-04-04", "api", "token"}, false, ""},
		{[]string{"latest", "api"}, false, ""},
		{[]string{"metaguard"}, false, ""},
		{nil, false, ""},
	} {
		endpoint := EndpointAt(test.segments, test.slash)
		if (endpoint == nil) != (test.header == "") || (endpoint != nil && endpoint.TTLHeader != test.header) {
			t.Errorf("%q %t: %+v", test.segments, test.slash, endpoint)
		}
	}
}

func TestTTL(t *testing.T) {
	for _, test := range []struct {
		values []string
		limit  time.Duration
		want   time.Duration
	}{
		{[]string{"1"}, MaxTTL, time.Second},
		{[]string{"21600"}, MaxTTL, MaxTTL},
		{[]string{"60"}, time.Minute, time.Minute},
		{[]string{"61"}, time.Minute, time.Minute},
		{[]string{"21601"}, MaxTTL, 0},
		{[]string{"21601"}, time.Minute, 0},
		{[]string{"99999"}, 24 * time.Hour, 0},
		{nil, MaxTTL, 0},
		{[]string{}, MaxTTL, 0},
		{[]string{""}, MaxTTL, 0},
		{[]string{"60", "60"}, MaxTTL, 0},
		{[]string{"0"}, MaxTTL, 0},
		{[]string{"-1"}, MaxTTL, 0},
		{[]string{"+60"}, MaxTTL, 0},
		{[]string{"060"}, MaxTTL, 0},
		{[]string{"0x3c"}, MaxTTL, 0},
		{[]string{"6_0"}, MaxTTL, 0},
		{[]string{"6e1"}, MaxTTL, 0},
		{[]string{"60.0"}, MaxTTL, 0},
		{[]string{" 60"}, MaxTTL, 0},
		{[]string{"60, 60"}, MaxTTL, 0},
		{[]string{"६०"}, MaxTTL, 0},
		{[]string{"18446744073709551617"}, MaxTTL, 0},
	} {
		ttl, refusal := endpoints[0].TTL(http.Header{HeaderAWSTTL: test.values}, test.limit)
		if ttl != test.want || (test.want == 0) != (refusal != nil) {
			t.Errorf("%q: %s %v", test.values, ttl, refusal)
		}
		if refusal != nil && (refusal.Reason != decision.HeaderRefused || refusal.Code != "session_ttl") {
			t.Errorf("%q: %v", test.values, refusal)
		}
	}
}

func TestPresented(t *testing.T) {
	for _, test := range []struct {
		header  http.Header
		token   string
		present bool
		code    string
	}{
		{http.Header{}, "", false, ""},
		{http.Header{HeaderAWS: {"a"}}, "a", true, ""},
		{http.Header{Header: {"a"}}, "a", true, ""},
		{http.Header{Header: {"a"}, HeaderAWS: {"a"}}, "a", true, ""},
		{http.Header{Header: {""}}, "", true, ""},
		{http.Header{Header: {"a"}, HeaderAWS: {"b"}}, "", true, "session_doubled"},
		{http.Header{Header: {"a", "a"}}, "", true, "session_doubled"},
		{http.Header{HeaderAWS: {"a", "b"}}, "", true, "session_doubled"},
	} {
		token, present, refusal := Presented(test.header)
		if token != test.token || present != test.present || code(refusal) != test.code {
			t.Errorf("%v: %q %t %v", test.header, token, present, refusal)
		}
	}
}

// FuzzTTL takes nothing but decimal digits.
func FuzzTTL(f *testing.F) {
	f.Add("60")
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		ttl, refusal := endpoints[1].TTL(http.Header{HeaderTTL: {text}}, MaxTTL)
		if refusal == nil && (ttl < MinTTL || ttl > MaxTTL || text[0] < '1' || text[0] > '9') {
			t.Errorf("%q: %s", text, ttl)
		}
	})
}
