// SPDX-License-Identifier: Apache-2.0

package module

import (
	"sync"
	"sync/atomic"
)

// logOutput is what Caddy has of a buffered log. It counts the configurations that
// write to it by itself: Caddy asks for it once, keeps it for all configurations with
// the same key, and never closes it (Logging.openLogs tells a copy of the Context
// what to do in the end).
type logOutput struct {
	users int                      // configurations with this log; under logOutputs
	queue atomic.Pointer[logQueue] // open while there are any
}

// logOutputs are those that Caddy has, by their keys.
var logOutputs = struct {
	sync.Mutex
	byKey map[string]*logOutput
}{byKey: make(map[string]*logOutput)}

// beginLog begins to write to a log, for one more configuration.
func beginLog(key string, open func() (*logQueue, error)) (*logOutput, error) {
	logOutputs.Lock()
	defer logOutputs.Unlock()
	output := logOutputs.byKey[key]
	if output == nil {
		output = new(logOutput)
	}
	if output.users == 0 {
		queue, err := open()
		if err != nil {
			return nil, err
		}
		output.queue.Store(queue)
	}
	output.users++
	logOutputs.byKey[key] = output
	return output, nil
}

// end is called when one of the configurations ends. The last one writes what waits.
func (o *logOutput) end() error {
	logOutputs.Lock()
	defer logOutputs.Unlock()
	if o.users--; o.users > 0 {
		return nil
	}
	return o.queue.Load().Close()
}

// Write takes a line, also after the end: requests of an earlier configuration may
// still be on their way.
func (o *logOutput) Write(line []byte) (int, error) { return o.queue.Load().Write(line) }

// Close does nothing: others may write to it.
func (*logOutput) Close() error { return nil }
