// SPDX-License-Identifier: Apache-2.0

package password

import "net/http"

// Outcome is what became of a forwarded write.
type Outcome int

// The outcomes. The zero value is the one that assumes least.
const (
	// Unknown: the server may or may not have stored the password.
	Unknown Outcome = iota
	// Accepted: the server said that it stored the password.
	Accepted
	// AlreadySet: the server said that there is a password already.
	AlreadySet
	// Refused: the server said that it did not store the password.
	Refused
	// Unsent: no connection was made; the server saw nothing. Only who
	// forwards can tell.
	Unsent
)

// String gives the outcome's name for logs and tests.
func (o Outcome) String() string {
	switch o {
	case Accepted:
		return "accepted"
	case AlreadySet:
		return "already_set"
	case Refused:
		return "refused"
	case Unsent:
		return "unsent"
	case Unknown:
	}
	return "unknown"
}

// statusClientClosed is what Caddy's reverse_proxy writes when the request was
// cancelled on our side; no server said it.
const statusClientClosed = 499

// OutcomeOf reads the status of a complete answer of the legacy server: 2xx is
// Accepted, 409 AlreadySet, any other 4xx Refused, and everything else Unknown.
// Without a complete answer the outcome is Unknown, or Unsent where the
// connection failed.
func OutcomeOf(status int) Outcome {
	switch {
	case 200 <= status && status <= 299:
		return Accepted
	case status == http.StatusConflict:
		return AlreadySet
	case status == statusClientClosed:
		return Unknown
	case 400 <= status && status <= 499:
		return Refused
	}
	return Unknown
}
