// SPDX-License-Identifier: Apache-2.0

package canonical

import (
	"net/http/httptest"
	"strings"
	"testing"
)

func TestRequiredHeader(t *testing.T) {
	c, err := Rules{Required: []Header{{"metadata-flavor", "Google"}}}.Compile()
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name   string
		values []string
		fine   bool
	}{
		{"Metadata-Flavor", []string{"Google"}, true},
		{"Metadata-Flavor", []string{"gOOGLE"}, true},
		{"Metadata-Flavor", nil, false},
		{"Metadata-Flavor", []string{""}, false},
		{"Metadata-Flavor", []string{"Google "}, false},
		{"Metadata-Flavor", []string{"Google", "Google"}, false},
		{"Metadata-Flavour", []string{"Google"}, false},
		{"Metadata_Flavor", []string{"Google"}, false},
	} {
		r := httptest.NewRequest("GET", "/", nil)
		if test.values != nil {
			r.Header[test.name] = test.values
		}
		_, refusal := c.Canonicalize(r)
		if (refusal == nil) != test.fine || (refusal != nil && refusal.Code != "header_required") {
			t.Errorf("%s %q: %v", test.name, test.values, refusal)
		}
	}
}

func TestRequiredHeaderRefused(t *testing.T) {
	for _, test := range []struct {
		name, value, want string
	}{
		{"", "x", "empty"},
		{"Metadata", "", "printable"},
		{"Metadata", " true", "blank"},
		{"Metadata", "tr\nue", "printable"},
		{"Meta_data", "true", "hyphen"},
		{"Host", "x", "writes it"},
		{"X-Forwarded-For", "x", "who calls"},
		{"X-Own-Token", "x", "cannot be the same"},
	} {
		_, err := Rules{Required: []Header{{test.name, test.value}}, Identity: []string{"X-Own-Token"}}.Compile()
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%q %q: %v, want %q", test.name, test.value, err, test.want)
		}
	}
}
