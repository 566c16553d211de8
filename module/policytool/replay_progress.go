// SPDX-License-Identifier: Apache-2.0

package policytool

import (
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/term"
)

// progress shows on a terminal how far a log is read.
type progress struct {
	decisions atomic.Int64
	bytes     atomic.Int64
	done      chan struct{}
	stopped   chan struct{}
}

// startProgress shows progress on out until it is stopped, if out is a
// terminal. Otherwise it only counts.
func startProgress(out io.Writer, logs []string) *progress {
	p := &progress{}
	file, ok := out.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return p
	}
	p.done, p.stopped = make(chan struct{}), make(chan struct{})
	go p.show(out, totalSize(logs))
	return p
}

func (p *progress) stop() {
	if p.done != nil {
		close(p.done)
		<-p.stopped
	}
}

func (p *progress) show(out io.Writer, total int64) {
	defer close(p.stopped)
	ticker := time.NewTicker(200 * time.Millisecond)
	defer ticker.Stop()
	start := time.Now()
	for {
		select {
		case <-p.done:
			_, _ = fmt.Fprint(out, "\r\x1b[K")
			return
		case now := <-ticker.C:
			_, _ = fmt.Fprint(out, "\r\x1b[K"+p.text(now.Sub(start), total))
		}
	}
}

// text is one line of progress; total is 0 where it is not known.
func (p *progress) text(since time.Duration, total int64) string {
	decisions := p.decisions.Load()
	text := fmt.Sprintf("%d decisions, %.0f a second", decisions, float64(decisions)/since.Seconds())
	if total > 0 {
		text = fmt.Sprintf("%3d%%  %s", min(100, 100*p.bytes.Load()/total), text)
	}
	return text
}

// totalSize is the size of all logs, or 0 where one is no plain file.
func totalSize(logs []string) int64 {
	var total int64
	for _, path := range logs {
		info, err := os.Stat(path)
		if err != nil || !info.Mode().IsRegular() {
			return 0
		}
		total += info.Size()
	}
	return total
}
