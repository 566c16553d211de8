// SPDX-License-Identifier: Apache-2.0

package decision

import (
	"fmt"
	"time"
)

// Refusal is the error by which any step ends a request. What it says goes to
// the log; only its Reason goes to the client. It must never hold a secret.
type Refusal struct {
	// Reason is from the closed vocabulary.
	Reason Reason
	// Code is a short, stable word for what exactly was wrong, such as
	// "path_dot_segment". It appears in logs and tests, never at the client.
	Code string
	// Status is the HTTP status in the place of the reason's own, where a
	// protocol wants another; 0 is none.
	Status int
	// RetryAfter says when to ask again; 0: as usual for the status.
	RetryAfter time.Duration
	// Allow lists the methods for a 405 answer.
	Allow []string
	// Err is the cause, if another error is.
	Err error
}

// Refuse makes a refusal without another cause.
func Refuse(reason Reason, code string) *Refusal {
	return &Refusal{Reason: reason, Code: code}
}

// RefuseWith makes a refusal that another error caused.
func RefuseWith(reason Reason, code string, err error) *Refusal {
	return &Refusal{Reason: reason, Code: code, Err: err}
}

func (r *Refusal) Error() string {
	text := string(r.Reason)
	if r.Code != "" {
		text += " (" + r.Code + ")"
	}
	if r.Err != nil {
		return fmt.Sprintf("%s: %v", text, r.Err)
	}
	return text
}

// Unwrap returns the cause.
func (r *Refusal) Unwrap() error { return r.Err }
