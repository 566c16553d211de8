// SPDX-License-Identifier: Apache-2.0

package canonical

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// maxHeaderName is the longest header name that can be forwarded or identify
// somebody, in bytes.
const maxHeaderName = 128

// Why a header of the client may not be forwarded.
const (
	tellsCaller   = "it can tell the legacy server who calls, which only Metaguard does"
	isWritten     = "Metaguard or its transport writes it"
	isHopByHop    = "it belongs to the client's own connection"
	framesMessage = "it says how the body is to be read, which Metaguard rebuilds"
	changesTarget = "it can make the server read another method, path or host than was judged"
	repeats       = "it would make the transport send a request again"
	asksPart      = "the answer could be empty or a part, which cannot be checked"
)

// neverForwarded lists what forward_headers may not name. A name that ends in
// an asterisk stands for all that begin so.
var neverForwarded = []struct{ name, why string }{
	{"Forwarded", tellsCaller},
	{"X-Forwarded*", tellsCaller},
	{"X-Instance-Id*", tellsCaller},
	{"X-Tenant-Id*", tellsCaller},
	{"X-Metadata-Provider*", tellsCaller},
	{"X-Neutron-*", tellsCaller}, // Neutron's haproxy sets X-Neutron-Router-ID and X-Neutron-Network-ID for its agent
	{"X-Ovn-*", tellsCaller},     // so does OVN's, with X-OVN-Network-ID
	{"X-Real-Ip", tellsCaller},
	{"X-Client-Ip", tellsCaller},
	{"X-Cluster-Client-Ip", tellsCaller},
	{"True-Client-Ip", tellsCaller},
	{"Cf-Connecting-Ip", tellsCaller},
	{"Remote-*", tellsCaller},
	{"X-Remote-*", tellsCaller},

	{"Host", isWritten},
	{"Via", isWritten},
	{"X-Metaguard*", isWritten},
	{"Accept-Encoding", isWritten}, // always identity: answers are read

	{"Connection", isHopByHop},
	{"Keep-Alive", isHopByHop},
	{"Proxy-*", isHopByHop},
	{"Te", isHopByHop},
	{"Upgrade", isHopByHop},
	{"Http2-Settings", isHopByHop},
	{"Sec-Websocket-*", isHopByHop},
	{"Early-Data", isHopByHop},

	{"Content-Length", framesMessage},
	{"Content-Encoding", framesMessage},
	{"Content-Range", framesMessage},
	{"Transfer-Encoding", framesMessage},
	{"Trailer", framesMessage},
	{"Expect", framesMessage},

	{"X-Http-Method*", changesTarget},
	{"X-Method-Override", changesTarget},
	{"X-Original-*", changesTarget},
	{"X-Rewrite-*", changesTarget},
	{"X-Script-Name", changesTarget},
	{"X-Host", changesTarget},

	{"Idempotency-Key", repeats},
	{"X-Idempotency-Key", repeats},

	{"Range", asksPart},
	{"If-*", asksPart},
}

// CheckForwardHeader tells why forward_headers, or a header_up of upstream,
// cannot name a header; nil if it can. Cookie and Authorization can be named,
// since a legacy server may ask for them, but no policy sees their values.
func CheckForwardHeader(name string) error {
	if err := checkHeaderName(name); err != nil {
		return err
	}
	canonical := http.CanonicalHeaderKey(name)
	for _, never := range neverForwarded {
		prefix, isPrefix := strings.CutSuffix(never.name, "*")
		if canonical == never.name || (isPrefix && strings.HasPrefix(canonical, prefix)) {
			return fmt.Errorf("header %s: %s", name, never.why)
		}
	}
	return nil
}

// checkHeaderName takes names of letters, digits and hyphens. Underscores and
// dots are tokens in HTTP, but servers that make variables of header names read
// X_Instance_ID as X-Instance-ID, and Transfer_Encoding as worse.
func checkHeaderName(name string) error {
	if name == "" {
		return errors.New("header name is empty")
	}
	if len(name) > maxHeaderName {
		return fmt.Errorf("header name of %d bytes: at most %d can be used", len(name), maxHeaderName)
	}
	for i := range len(name) {
		switch b := name[i]; {
		case isAlphanumeric(b), b == '-':
		case b == '_', b == '.':
			return fmt.Errorf("header %s: with %q in its name, servers take it for the one with a hyphen; it is never forwarded", name, b)
		default:
			return fmt.Errorf("header %q: only letters, digits and hyphens can stand in a name", name)
		}
	}
	return nil
}

// secretWords in a header's name say that its value may be a credential.
var secretWords = []string{"auth", "cookie", "token", "secret", "signature", "passw", "credential", "session", "key", "jwt", "bearer"}

// mayHoldSecret tells whether a policy, and so a log of its input, must not see
// a header. A name too many hides a header; a name too few shows a secret.
func mayHoldSecret(name string) bool {
	name = strings.ToLower(name)
	for _, word := range secretWords {
		if strings.Contains(name, word) {
			return true
		}
	}
	return false
}
