// SPDX-License-Identifier: Apache-2.0

package response

import (
	"net/http"
	"strings"
	"testing"
)

func TestCheckCharset(t *testing.T) {
	for contentType, passes := range map[string]bool{
		"application/json":                          true,
		"text/plain; charset=utf-8":                 true,
		"text/plain; charset=UTF-8":                 true,
		`text/plain; charset="utf-8"`:               true,
		"TEXT/PLAIN;CHARSET=us-ascii":               true,
		"text/plain; format=flowed":                 true,
		`text/plain; x="; charset=utf-7"`:           true, // what others take for a charset is dropped
		"text/plain; charset*=iso-8859-1''utf-7":    false,
		"text/plain; charset=utf-7":                 false,
		"text/plain; charset=utf-16":                false,
		"text/plain; charset=iso-8859-1":            false,
		"text/plain; charset=bogus":                 false,
		"text/plain; charset=utf-8; charset=utf-7":  false,
		"text/plain; charset*=us-ascii''utf-7":      false,
		"text/plain; charset=utf-8; charset=utf-8x": false,
		"text/plain; charset":                       false,
		"text/plain; =utf-7":                        false,
		"charset=utf-7":                             false,
		"/":                                         false,
	} {
		a := &Answer{Status: 200, Header: http.Header{"Content-Type": {contentType}}}
		if got := code(CheckCharset(a)); (got == "") != passes || (!passes && got != "response_unreadable/charset") {
			t.Errorf("%s: %q", contentType, got)
		}
		if got := a.Header.Get("Content-Type"); passes && strings.Contains(got, "utf-7") {
			t.Errorf("%s passes as %s", contentType, got)
		}
	}
}
