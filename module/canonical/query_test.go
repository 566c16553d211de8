// SPDX-License-Identifier: Apache-2.0

package canonical

import (
	"net/url"
	"reflect"
	"strings"
	"testing"
)

func TestQuery(t *testing.T) {
	for name, test := range map[string]struct {
		query string
		want  url.Values
		raw   string
		code  string
	}{
		"none":                    {},
		"one":                     {query: "alt=json", want: url.Values{"alt": {"json"}}, raw: "alt=json"},
		"sorted":                  {query: "recursive=true&alt=json", want: url.Values{"alt": {"json"}, "recursive": {"true"}}, raw: "alt=json&recursive=true"},
		"without a value":         {query: "recursive", want: url.Values{"recursive": {""}}, raw: "recursive="},
		"empty value":             {query: "recursive=", want: url.Values{"recursive": {""}}, raw: "recursive="},
		"escaped name":            {query: "%61lt=json", want: url.Values{"alt": {"json"}}, raw: "alt=json"},
		"raw URL":                 {query: "resource=https://a.b/?c", want: url.Values{"resource": {"https://a.b/?c"}}, raw: "resource=https%3A%2F%2Fa.b%2F%3Fc"},
		"escaped URL":             {query: "resource=https%3a%2f%2fa.b%2f", want: url.Values{"resource": {"https://a.b/"}}, raw: "resource=https%3A%2F%2Fa.b%2F"},
		"escaped delimiters":      {query: "alt=a%26resource%3d1%3B%23%25", want: url.Values{"alt": {"a&resource=1;#%"}}, raw: "alt=a%26resource%3D1%3B%23%25"},
		"equals sign in value":    {query: "alt=YQ==", want: url.Values{"alt": {"YQ=="}}, raw: "alt=YQ%3D%3D"},
		"plus and blank":          {query: "alt=a+b%20c%2Bd", want: url.Values{"alt": {"a b c+d"}}, raw: "alt=a%20b%20c%2Bd"},
		"unknown name":            {query: "x=1", code: "query_unexpected"},
		"name in another case":    {query: "Alt=json", code: "query_unexpected"},
		"unknown beside a known":  {query: "alt=json&x", code: "query_unexpected"},
		"name with a bracket":     {query: "alt%5B%5D=json", code: "query_unexpected"},
		"only a question mark":    {query: "?", code: "query_unexpected"},
		"empty pair":              {query: "alt=json&", code: "query_malformed"},
		"empty pair before":       {query: "&alt=json", code: "query_malformed"},
		"empty name":              {query: "=json", code: "query_malformed"},
		"bad escape":              {query: "alt=%zz", code: "query_bad_escape"},
		"half an escape":          {query: "alt=%2", code: "query_bad_escape"},
		"bad escape in the name":  {query: "al%t=1", code: "query_bad_escape"},
		"semicolon":               {query: "alt=a;recursive=true", code: "query_byte"},
		"bracket":                 {query: "alt[]=a", code: "query_byte"},
		"fragment":                {query: "alt=a#b", code: "query_byte"},
		"backslash":               {query: `alt=a\b`, code: "query_byte"},
		"control byte":            {query: "alt=%00", code: "query_byte"},
		"line break":              {query: "alt=%0a", code: "query_byte"},
		"not ASCII":               {query: "alt=\xc3\xa9", code: "query_byte"},
		"escaped, not ASCII":      {query: "alt=%c3%a9", code: "query_byte"},
		"twice":                   {query: "alt=json&alt=text", code: "query_repeated"},
		"twice, once escaped":     {query: "alt=json&a%6Ct=json", code: "query_repeated"},
		"one of its values":       {query: "format=JSON", want: url.Values{"format": {"JSON"}}, raw: "format=JSON"},
		"none of its values":      {query: "format=xml", code: "query_value"},
		"no value where it needs": {query: "format", code: "query_value"},
		"too long when forwarded": {query: "alt=" + strings.Repeat("/", 400), code: "path_too_long"},
	} {
		t.Run(name, func(t *testing.T) {
			c := compile(t, Rules{Query: map[string][]string{"alt": nil, "recursive": nil, "resource": nil, "format": {"json", "text"}}})
			q, refusal := c.Canonicalize(request("/x?" + test.query))
			if refusal != nil || test.code != "" {
				if refusal == nil || refusal.Code != test.code {
					t.Fatalf("got %v, want %q", refusal, test.code)
				}
				return
			}
			if !reflect.DeepEqual(q.Query, test.want) || q.RawQuery != test.raw || q.Path != "/x" {
				t.Errorf("got %q %q", q.Query, q.RawQuery)
			}
			// Go's own reading of what is forwarded is the one that was judged.
			again, err := url.ParseQuery(q.RawQuery)
			if err != nil || len(again)+len(q.Query) > 0 && !reflect.DeepEqual(again, q.Query) {
				t.Errorf("%q is read as %q, %v", q.RawQuery, again, err)
			}
		})
	}
}
