// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/metaguard/metaguard/module/decision"
)

// The bounds of a decision. What is beyond is malformed; nothing is cut.
const (
	maxItems  = 1024
	maxLength = 1024
)

// refusalStatuses are what a decision may say of a refusal.
var refusalStatuses = []int{
	http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusTooManyRequests,
}

// emptyStatus answers a password read as if there were none.
const emptyStatus = http.StatusOK

// decode reads the decision document, strictly: names are compared letter by
// letter, and whatever does not belong makes the whole decision malformed. Only a read of a
// password may be answered as empty.
func decode(value ast.Value, passwordRead bool) (decision.Decision, error) {
	object, ok := value.(ast.Object)
	if !ok {
		return decision.Decision{}, fmt.Errorf("a decision must be an object, this is %s", ast.ValueName(value))
	}
	var (
		d                             decision.Decision
		hasAllow, hasStatus, hasHides bool
	)
	err := each(object, func(name string, value ast.Value) (err error) {
		switch name {
		case "allow":
			allow, ok := value.(ast.Boolean)
			if !ok {
				return fmt.Errorf("allow must be a boolean, this is %s", ast.ValueName(value))
			}
			d.Allow, hasAllow = bool(allow), true
		case "status":
			d.Status, hasStatus = 0, true
			if d.Status, ok = statusOf(value); !ok {
				return fmt.Errorf("status must be an integer, this is %v", value)
			}
		case "reasons":
			d.Reasons, err = stringsOf(value, name)
		case "redact":
			hasHides = true
			d.Redact, err = redactOf(value)
		default:
			return unknownName(name, "allow", "status", "reasons", "redact")
		}
		return err
	})
	switch {
	case err != nil:
		return decision.Decision{}, err
	case !hasAllow:
		return decision.Decision{}, errors.New("allow is missing")
	case d.Allow && hasStatus:
		return decision.Decision{}, errors.New("status belongs to a refusal")
	case !d.Allow && hasHides:
		return decision.Decision{}, errors.New("redact belongs to an allow")
	case hasStatus && d.Status == emptyStatus && !passwordRead:
		return decision.Decision{}, errors.New("status 200 belongs to a password read")
	case hasStatus && d.Status != emptyStatus && !slices.Contains(refusalStatuses, d.Status):
		return decision.Decision{}, fmt.Errorf("status %d is none of 401, 403, 404, 429", d.Status)
	}
	return d, nil
}

// each calls f for every member; names must be strings.
func each(object ast.Object, f func(name string, value ast.Value) error) error {
	return object.Iter(func(key, value *ast.Term) error {
		name, ok := key.Value.(ast.String)
		if !ok {
			return fmt.Errorf("the name %v is not a string", key)
		}
		return f(string(name), value.Value)
	})
}

func unknownName(name string, known ...string) error {
	if len(name) > maxLength {
		name = name[:maxLength]
	}
	hint := didYouMean(name, known)
	if hint == "" {
		return fmt.Errorf("unknown name %q", name)
	}
	return fmt.Errorf("unknown name %q, %s", name, hint)
}

// statusOf reads an integer that is written as one: 403, not 403.0.
func statusOf(value ast.Value) (int, bool) {
	number, ok := value.(ast.Number)
	if !ok {
		return 0, false
	}
	status, err := strconv.Atoi(string(number))
	return status, err == nil
}

// stringsOf reads an array or a set of strings.
func stringsOf(value ast.Value, name string) ([]string, error) {
	var items interface {
		Len() int
		Iter(func(*ast.Term) error) error
	}
	switch list := value.(type) {
	case *ast.Array:
		items = list
	case ast.Set:
		items = list
	default:
		return nil, fmt.Errorf("%s must be an array of strings, this is %s", name, ast.ValueName(value))
	}
	if items.Len() == 0 {
		return nil, nil
	}
	if items.Len() > maxItems {
		return nil, fmt.Errorf("%s has more than %d items", name, maxItems)
	}
	read := make([]string, 0, items.Len())
	err := items.Iter(func(term *ast.Term) error {
		text, ok := term.Value.(ast.String)
		switch {
		case !ok:
			return fmt.Errorf("%s must hold strings, this is %s", name, ast.ValueName(term.Value))
		case text == "" || len(text) > maxLength:
			return fmt.Errorf("%s holds a string that is empty or longer than %d bytes", name, maxLength)
		}
		read = append(read, string(text))
		return nil
	})
	if err != nil {
		return nil, err
	}
	return read, nil
}

func redactOf(value ast.Value) (decision.Redact, error) {
	var r decision.Redact
	object, ok := value.(ast.Object)
	if !ok {
		return r, fmt.Errorf("redact must be an object, this is %s", ast.ValueName(value))
	}
	err := each(object, func(name string, value ast.Value) (err error) {
		switch name {
		case "json":
			r.JSON, err = stringsOf(value, "redact.json")
		case "keys":
			r.Keys, err = stringsOf(value, "redact.keys")
		case "listing":
			r.Listing, err = stringsOf(value, "redact.listing")
		default:
			return unknownName(name, "json", "keys", "listing")
		}
		return err
	})
	if err != nil {
		return decision.Redact{}, err
	}
	for _, pointer := range r.JSON {
		if !validPointer(pointer) {
			return decision.Redact{}, fmt.Errorf("redact.json holds %q, which is no JSON pointer", pointer)
		}
	}
	return r, nil
}

// validPointer tells an RFC 6901 pointer to a member. The empty pointer, which
// is the whole document, is none: hiding everything is a denial.
func validPointer(pointer string) bool {
	if !strings.HasPrefix(pointer, "/") {
		return false
	}
	for i := range len(pointer) {
		if pointer[i] == '~' && (i+1 == len(pointer) || pointer[i+1] != '0' && pointer[i+1] != '1') {
			return false
		}
	}
	return true
}
