// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// maxToken is the longest token in bytes.
const maxToken = 16 << 10

// base64URL is the only spelling that a part of a token may have.
var base64URL = base64.RawURLEncoding.Strict()

// token is a token taken apart. It is read strictly, since what has two
// readings may be signed in the one and used in the other.
type token struct {
	header    tokenHeader
	signed    []byte // the header and the payload as they came
	signature []byte
	claimSet
}

// tokenHeader is what counts of a token's header. Keys and addresses of keys
// in it are not even read.
type tokenHeader struct {
	alg, kid, typ         string
	named, typed, content bool // kid, typ and cty are there
	critical              bool
}

// parseToken takes the compact form apart; claims says which members of the
// payload are of interest. It gives the code of what is wrong instead.
func parseToken(text string, claims *claimReader) (*token, string) {
	const malformed = "jwt_malformed"
	if len(text) > maxToken {
		return nil, "jwt_too_long"
	}
	// Exactly three parts: five would be encrypted. The decoder skips line
	// ends, so each byte is looked at.
	for i := range len(text) {
		if !tokenByte(text[i]) {
			return nil, malformed
		}
	}
	signed := strings.LastIndexByte(text, '.')
	end := strings.IndexByte(text, '.')
	if end < 0 || signed == end || strings.Count(text, ".") != 2 {
		return nil, malformed
	}
	t := &token{signed: []byte(text[:signed])}
	header, err := base64URL.DecodeString(text[:end])
	if err != nil {
		return nil, malformed
	}
	payload, err := base64URL.DecodeString(text[end+1 : signed])
	if err != nil {
		return nil, malformed
	}
	if t.signature, err = base64URL.DecodeString(text[signed+1:]); err != nil {
		return nil, malformed
	}
	if t.header, err = parseHeader(header); err != nil {
		return nil, malformed
	}
	if t.claimSet, err = claims.read(payload); err != nil {
		return nil, malformed
	}
	return t, ""
}

func tokenByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_' || c == '.'
}

func parseHeader(text []byte) (header tokenHeader, err error) {
	err = eachMember(text, func(name []byte, value jsontext.Value) (err error) {
		switch string(name) {
		case "alg":
			header.alg, err = textOf(value)
		case "kid":
			header.kid, err = textOf(value)
			header.named = true
		case "typ":
			header.typ, err = textOf(value)
			header.typed = true
		case "cty":
			header.content = true
		case "crit", "b64": // b64 is void without crit, and another reading
			header.critical = true
		}
		return err
	})
	return header, err
}

// acceptedType tells whether it is a token of identity or access, by its media
// type. A content type would be that of a token within the token.
func acceptedType(header tokenHeader) bool {
	if header.content {
		return false
	}
	if !header.typed {
		return true
	}
	const prefix = "application/"
	typ := header.typ
	if len(typ) > len(prefix) && strings.EqualFold(typ[:len(prefix)], prefix) {
		typ = typ[len(prefix):]
	}
	return strings.EqualFold(typ, "JWT") || strings.EqualFold(typ, "at+jwt")
}

// errToken is all that is said of a text that is not what it must be: whoever
// sent it knows it, and it may hold secrets.
var errToken = errors.New("not one well-formed JSON object without doubled names")

// eachMember goes through the members of one JSON object. The values are parts
// of text. Doubled names, at any depth, and what is no UTF-8 are errors.
func eachMember(text []byte, member func(name []byte, value jsontext.Value) error) error {
	reader := jsontext.NewDecoder(bytes.NewBuffer(text))
	next := func() (jsontext.Value, error) {
		value, err := reader.ReadValue()
		if err != nil {
			return nil, errToken
		}
		end := reader.InputOffset()
		return text[end-int64(len(value)) : end], nil
	}
	if reader.PeekKind() != '{' {
		return errToken
	}
	if _, err := reader.ReadToken(); err != nil {
		return errToken
	}
	for reader.PeekKind() != '}' {
		name, err := next()
		if err != nil {
			return err
		}
		plainName, err := unquote(name)
		if err != nil {
			return err
		}
		value, err := next()
		if err != nil {
			return err
		}
		if err := member(plainName, value); err != nil {
			return err
		}
	}
	if _, err := reader.ReadToken(); err != nil {
		return errToken
	}
	if _, err := reader.ReadToken(); !errors.Is(err, io.EOF) {
		return errToken
	}
	return nil
}

// unquote gives the text of a JSON string, without a copy where it can.
func unquote(value jsontext.Value) ([]byte, error) {
	if value.Kind() != '"' {
		return nil, errToken
	}
	if bytes.IndexByte(value, '\\') < 0 {
		return value[1 : len(value)-1], nil
	}
	text, err := jsontext.AppendUnquote(nil, value)
	if err != nil {
		return nil, errToken
	}
	return text, nil
}

func textOf(value jsontext.Value) (string, error) {
	text, err := unquote(value)
	return string(text), err
}
