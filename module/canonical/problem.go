// SPDX-License-Identifier: Apache-2.0

package canonical

import "github.com/metaguard/metaguard/module/decision"

// problem is what is wrong with a request. Of several in its headers the first
// in this order is reported, whatever order a map has.
type problem uint8

const (
	fine problem = iota

	methodConnect
	methodMalformed

	pathTooLong
	pathNotOriginForm
	pathBadEscape
	pathEncodedSlash
	pathDotSegment
	pathFragment
	pathParameter
	pathBackslash
	pathControl
	pathNonASCII
	pathByte
	targetMismatch

	queryUnexpected
	queryMalformed
	queryBadEscape
	queryByte
	queryRepeated
	queryValue

	tlsEarlyData
	headerEarlyData
	headerUpgrade
	headerMethodOverride
	headerFraming
	headerIdentityAlias
	headerIdentityDoubled
	headerIdentityTrailer
	headerForwarded
	headerConnection
	headerDoubled
	headerTooLong
	headerValue

	hostMalformed
	hostUnknown

	headerRequired

	problems // how many there are
)

// refusals gives every problem its reason and its stable code.
var refusals = [problems]struct {
	reason decision.Reason
	code   string
}{
	methodConnect:   {decision.MethodNotAllowed, "method_connect"},
	methodMalformed: {decision.MethodNotAllowed, "method_malformed"}, // not 1 to 32 capital letters

	pathTooLong:       {decision.RequestAmbiguous, "path_too_long"}, // target over 1,024 bytes, as sent or as forwarded
	pathNotOriginForm: {decision.RequestAmbiguous, "path_not_origin_form"},
	pathBadEscape:     {decision.RequestAmbiguous, "path_bad_escape"},
	pathEncodedSlash:  {decision.RequestAmbiguous, "path_encoded_slash"},
	pathDotSegment:    {decision.RequestAmbiguous, "path_dot_segment"},
	pathFragment:      {decision.RequestAmbiguous, "path_fragment"},  // #, plain or escaped
	pathParameter:     {decision.RequestAmbiguous, "path_parameter"}, // ;
	pathBackslash:     {decision.RequestAmbiguous, "path_backslash"},
	pathControl:       {decision.RequestAmbiguous, "path_control"}, // NUL to 0x1f and DEL
	pathNonASCII:      {decision.RequestAmbiguous, "path_non_ascii"},
	pathByte:          {decision.RequestAmbiguous, "path_byte"}, // any other that is not allowed, such as an escaped % or ?
	targetMismatch:    {decision.RequestAmbiguous, "target_mismatch"},

	queryUnexpected: {decision.RequestAmbiguous, "query_unexpected"}, // a name that the dialect does not know
	queryMalformed:  {decision.RequestAmbiguous, "query_malformed"},  // an empty pair or name
	queryBadEscape:  {decision.RequestAmbiguous, "query_bad_escape"},
	queryByte:       {decision.RequestAmbiguous, "query_byte"},
	queryRepeated:   {decision.RequestAmbiguous, "query_repeated"},
	queryValue:      {decision.RequestAmbiguous, "query_value"}, // none that the server knows for this name

	tlsEarlyData:          {decision.HeaderRefused, "tls_early_data"},
	headerEarlyData:       {decision.HeaderRefused, "header_early_data"},
	headerUpgrade:         {decision.HeaderRefused, "header_upgrade"},
	headerMethodOverride:  {decision.HeaderRefused, "header_method_override"},
	headerFraming:         {decision.HeaderRefused, "header_framing"},
	headerIdentityAlias:   {decision.HeaderRefused, "header_identity_alias"}, // X_Instance_ID and the like
	headerIdentityDoubled: {decision.HeaderRefused, "header_identity_doubled"},
	headerIdentityTrailer: {decision.HeaderRefused, "header_identity_trailer"},
	headerForwarded:       {decision.HeaderRefused, "header_forwarded"},  // a proxy passed it on, and the dialect's server takes nothing from one
	headerConnection:      {decision.HeaderRefused, "header_connection"}, // Connection names another header
	headerDoubled:         {decision.HeaderRefused, "header_doubled"},
	headerTooLong:         {decision.HeaderRefused, "header_too_long"},
	headerValue:           {decision.HeaderRefused, "header_value"}, // a byte that is neither printable ASCII nor a tab

	hostMalformed: {decision.HostRefused, "host_malformed"},
	hostUnknown:   {decision.HostRefused, "host_unknown"}, // not on require_host's list

	headerRequired: {decision.HeaderRefused, "header_required"}, // not there, twice, or with another value than require_header's
}

// refusal is what Canonicalize gives for a problem. It holds nothing of the
// request, which may be a secret sent to the wrong place.
func (p problem) refusal() *decision.Refusal {
	return decision.Refuse(refusals[p].reason, refusals[p].code)
}
