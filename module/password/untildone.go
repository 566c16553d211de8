// SPDX-License-Identifier: Apache-2.0

package password

import (
	"context"
	"fmt"
)

// untilDone makes a call in a goroutine of its own and gives up on it when ctx
// ends: a system call that hangs ends for nothing, and go-redis not when it is
// cancelled. A call that was given up on may still be made later, but changes
// nothing but the state that it knew: a record that it swaps in holds until its
// time is up. What it gives goes through the channel, for it may come after this
// has returned.
func untilDone[T any](ctx context.Context, whom string, call func() (T, error)) (T, error) {
	type answer struct {
		value T
		err   error
	}
	done := make(chan answer, 1)
	go func() {
		value, err := call()
		done <- answer{value, err}
	}()
	var none T
	select {
	case got := <-done:
		if got.err != nil {
			return none, got.err
		}
		return got.value, nil
	case <-ctx.Done():
		return none, fmt.Errorf("no answer from %s: %w", whom, ctx.Err())
	}
}
