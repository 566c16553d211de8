// SPDX-License-Identifier: Apache-2.0

package response

import (
	"mime"
	"strings"

	"github.com/metaguard/metaguard/module/decision"
)

// CheckCharset refuses an answer that a client may decode into other text than
// what redaction reads. Hidden names are looked for in UTF-8; a client that is
// told utf-7 or utf-16 could still find one in the same bytes. It is for
// answers that are redacted.
//
//	response_unreadable   charset: neither utf-8 nor us-ascii, or a Content-Type that cannot be parsed
//
// Parameters that others read otherwise than we do do not pass: all but the
// charset are dropped.
func CheckCharset(a *Answer) *decision.Refusal {
	value := a.Header.Get("Content-Type")
	kind, parameters, err := mime.ParseMediaType(value)
	if err != nil || strings.Contains(value, "*") { // an RFC 2231 charset; one parameter twice is an error, too
		return decision.Refuse(decision.ResponseUnreadable, "charset")
	}
	charset := strings.ToLower(parameters["charset"])
	switch charset {
	case "":
	case "utf-8", "utf8", "us-ascii", "ascii":
		kind += "; charset=" + charset
	default:
		return decision.Refuse(decision.ResponseUnreadable, "charset")
	}
	if !strings.EqualFold(value, kind) {
		a.Header["Content-Type"] = []string{kind}
	}
	return nil
}
