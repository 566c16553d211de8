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
func CheckCharset(a *Answer) *decision.Refusal {
	_, parameters, err := mime.ParseMediaType(a.Header.Get("Content-Type"))
	if err != nil { // one parameter twice is an error, too
		return decision.Refuse(decision.ResponseUnreadable, "charset")
	}
	switch strings.ToLower(parameters["charset"]) {
	case "", "utf-8", "utf8", "us-ascii", "ascii":
		return nil
	}
	return decision.Refuse(decision.ResponseUnreadable, "charset")
}
