// SPDX-License-Identifier: Apache-2.0

package session

import (
	"net/http"
	"strconv"
	"time"

	"github.com/metaguard/metaguard/module/decision"
)

// The headers of the protocol, in Go's canonical spelling.
const (
	HeaderAWS    = "X-Aws-Ec2-Metadata-Token"
	HeaderAWSTTL = "X-Aws-Ec2-Metadata-Token-Ttl-Seconds"
	Header       = "X-Metaguard-Session"
	HeaderTTL    = "X-Metaguard-Session-Ttl-Seconds"
)

// Headers lists all of them. None is ever forwarded, and a request that has one
// twice is refused.
func Headers() []string { return []string{HeaderAWS, HeaderAWSTTL, Header, HeaderTTL} }

// Endpoint is where tokens are had with a PUT.
type Endpoint struct {
	segments [3]string
	// TTLHeader says for how many seconds a token is asked, and in the answer
	// for how many it was made.
	TTLHeader string
}

// One as in EC2, and one that no metadata server has.
var endpoints = [...]Endpoint{
	{[3]string{"latest", "api", "token"}, HeaderAWSTTL},
	{[3]string{"metaguard", "session"}, HeaderTTL},
}

// EndpointAt gives the endpoint at a canonical path, or nil. One with a slash at
// its end is another path.
func EndpointAt(segments []string, trailingSlash bool) *Endpoint {
	var path [3]string
	if trailingSlash || len(segments) > len(path) {
		return nil
	}
	copy(path[:], segments)
	for i := range endpoints {
		if endpoints[i].segments == path {
			return &endpoints[i]
		}
	}
	return nil
}

// TTL reads for how long a token is asked: 1 to 21600 seconds in decimal digits
// without a leading zero. More than limit is limit.
func (e *Endpoint) TTL(header http.Header, limit time.Duration) (time.Duration, *decision.Refusal) {
	values := header[e.TTLHeader]
	if len(values) != 1 {
		return 0, decision.Refuse(decision.HeaderRefused, "session_ttl")
	}
	text := values[0]
	if text == "" || text[0] == '0' || len(text) > len("21600") {
		return 0, decision.Refuse(decision.HeaderRefused, "session_ttl")
	}
	seconds, err := strconv.ParseUint(text, 10, 32) // takes digits only
	ttl := time.Duration(seconds) * time.Second
	if err != nil || ttl > MaxTTL {
		return 0, decision.Refuse(decision.HeaderRefused, "session_ttl")
	}
	// Some clients, such as cloud-init, ask for six hours and for nothing else. The
	// answer says what they get.
	return min(ttl, limit), nil
}

// Presented gives the token that a request shows, in either header or the same
// one in both.
func Presented(header http.Header) (token string, present bool, _ *decision.Refusal) {
	theirs, ours := header[HeaderAWS], header[Header]
	switch {
	case len(theirs) > 1, len(ours) > 1,
		len(theirs) == 1 && len(ours) == 1 && theirs[0] != ours[0]:
		return "", true, decision.Refuse(decision.SessionInvalid, "session_doubled")
	case len(theirs) == 1:
		return theirs[0], true, nil
	case len(ours) == 1:
		return ours[0], true, nil
	}
	return "", false, nil
}
