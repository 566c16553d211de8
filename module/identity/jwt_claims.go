// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"bytes"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/go-json-experiment/json/jsontext"
)

// The claims that every token is judged by, as indexes.
const (
	claimIss = iota
	claimSub
	claimAud
	claimExp
	claimNbf
	claimIat
)

var judgedClaims = []string{"iss", "sub", "aud", "exp", "nbf", "iat"}

// maxTime is the last second of the year 9999.
const maxTime = 253402300799

// claimReader knows which members of a payload are of interest.
type claimReader struct {
	allowed []string       // what policies see
	index   map[string]int // members at the top that are looked at
}

// newClaimReader takes the names that policies see, and others to look up.
func newClaimReader(allowed []string, others ...string) *claimReader {
	c := &claimReader{allowed: allowed, index: make(map[string]int)}
	for _, name := range judgedClaims {
		c.index[name] = len(c.index)
	}
	for _, names := range [][]string{allowed, others} {
		for _, name := range names {
			for end := len(name); end > 0; end = strings.LastIndexByte(name[:end], '.') {
				if _, ok := c.index[name[:end]]; !ok {
					c.index[name[:end]] = len(c.index)
				}
			}
		}
	}
	return c
}

// read goes through a payload once.
func (c *claimReader) read(payload []byte) (claimSet, error) {
	set := claimSet{reader: c, values: make([]jsontext.Value, len(c.index))}
	err := eachMember(payload, func(name []byte, value jsontext.Value) error {
		if i, ok := c.index[string(name)]; ok {
			set.values[i] = value
		}
		return nil
	})
	return set, err
}

// claimSet is what a payload says, not decoded yet. A nil value is not there.
type claimSet struct {
	reader *claimReader
	values []jsontext.Value
}

// text gives a string.
func (s claimSet) text(claim int) (string, bool) {
	if s.values[claim] == nil {
		return "", false
	}
	text, err := textOf(s.values[claim])
	return text, err == nil
}

// list gives a string, or a list of strings, as a list.
func (s claimSet) list(claim int) ([]string, bool) {
	value := s.values[claim]
	if value.Kind() == '"' {
		text, err := textOf(value)
		return []string{text}, err == nil
	}
	if value.Kind() != '[' {
		return nil, false
	}
	var list []string
	reader := jsontext.NewDecoder(bytes.NewBuffer(value))
	if _, err := reader.ReadToken(); err != nil {
		return nil, false
	}
	for reader.PeekKind() != ']' {
		item, err := reader.ReadValue()
		if err != nil {
			return nil, false
		}
		text, err := textOf(item)
		if err != nil {
			return nil, false
		}
		list = append(list, text)
	}
	return list, true
}

// time gives a number of seconds as a time, whether it is there, and whether
// it is one if it is.
func (s claimSet) time(claim int) (at time.Time, present, ok bool) {
	value := s.values[claim]
	if value == nil {
		return time.Time{}, false, true
	}
	if value.Kind() != '0' {
		return time.Time{}, true, false
	}
	if seconds, err := strconv.ParseInt(string(value), 10, 64); err == nil {
		return time.Unix(seconds, 0), true, 0 <= seconds && seconds <= maxTime
	}
	seconds, err := strconv.ParseFloat(string(value), 64)
	if err != nil || !(0 <= seconds && seconds <= maxTime) {
		return time.Time{}, true, false
	}
	whole := int64(seconds)
	return time.Unix(whole, int64((seconds-float64(whole))*1e9)), true, true
}

// find gives the claim of a name: the member of the whole name, or what the
// longest part before a dot leads to. It is nil if it is not there, or null.
func (s claimSet) find(name string) (any, error) {
	for end := len(name); end > 0; end = strings.LastIndexByte(name[:end], '.') {
		i, ok := s.reader.index[name[:end]]
		if !ok || s.values[i] == nil {
			continue
		}
		value, err := decodeClaim(s.values[i])
		if err == nil && end < len(name) {
			value = within(value, name[end+1:])
		}
		return value, err
	}
	return nil, nil
}

// within goes on where find is inside of an object.
func within(value any, name string) any {
	object, _ := value.(map[string]any)
	for end := len(name); end > 0; end = strings.LastIndexByte(name[:end], '.') {
		inner, ok := object[name[:end]]
		switch {
		case !ok:
		case end == len(name):
			return inner
		default:
			return within(inner, name[end+1:])
		}
	}
	return nil
}

// allowed gives what policies see.
func (s claimSet) allowed() (map[string]any, error) {
	claims := make(map[string]any, len(s.reader.allowed))
	for _, name := range s.reader.allowed {
		value, err := s.find(name)
		if err != nil {
			return nil, err
		}
		if value == nil {
			continue
		}
		if text, single := value.(string); single && name == "aud" {
			// Two forms of one thing would be two policies.
			value = []any{text}
		}
		claims[name] = value
	}
	return claims, nil
}

// errNumber is about a number that policies could not count with.
var errNumber = errors.New("a number is too large")

// decodeClaim gives a value as JSON knows it. Numbers stay as they are
// written: a large id is not rounded.
func decodeClaim(value jsontext.Value) (any, error) {
	if value.Kind() == '"' {
		return textOf(value)
	}
	var decoded any
	decoder := json.NewDecoder(bytes.NewReader(value))
	decoder.UseNumber()
	if err := decoder.Decode(&decoded); err != nil {
		return nil, err
	}
	if !countable(decoded) {
		return nil, errNumber
	}
	return decoded, nil
}

// maxExponent is a little more than a float's.
const maxExponent = 400

// countable tells whether all numbers are within a float's range: to add one
// to 1e999999999 or to 1e-999999999 takes memory without end. The latter is zero
// to Float64, so exponents are looked at, too.
func countable(value any) bool {
	switch value := value.(type) {
	case json.Number:
		_, err := value.Float64()
		if at := strings.IndexAny(string(value), "eE"); at >= 0 && err == nil {
			var exponent int
			exponent, err = strconv.Atoi(string(value[at+1:]))
			return err == nil && -maxExponent <= exponent && exponent <= maxExponent
		}
		return err == nil
	case []any:
		for _, item := range value {
			if !countable(item) {
				return false
			}
		}
	case map[string]any:
		for _, item := range value {
			if !countable(item) {
				return false
			}
		}
	}
	return true
}

// rolesOf reads a list of strings, or one string with blanks between roles. No
// claim is no roles.
func rolesOf(value any) ([]string, bool) {
	var roles []string
	switch value := value.(type) {
	case nil:
		return nil, true
	case string:
		roles = strings.Fields(value)
	case []any:
		for _, item := range value {
			role, ok := item.(string)
			if !ok {
				return nil, false
			}
			roles = append(roles, role)
		}
	default:
		return nil, false
	}
	for _, role := range roles {
		if role == "" || strings.ContainsFunc(role, unicode.IsControl) {
			return nil, false
		}
	}
	return roles, true
}
