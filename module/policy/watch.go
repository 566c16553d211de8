// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"context"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// An edit is live within two seconds: it is seen at the next poll, loaded when
// the files are the same at the one after, and loaded in any case at the third.
const (
	defaultInterval = 500 * time.Millisecond
	maxUnsettled    = 2
)

// watch polls until ctx is done. Notifications of the kernel are no help here:
// they miss network file systems, and links that change somewhere on the way
// to a file.
func (e *Engine) watch(ctx context.Context) {
	ticker := time.NewTicker(e.interval)
	defer ticker.Stop()
	// The first poll knows nothing, so the files are read once more: they may
	// have changed between New and Start.
	var w settling
	for {
		select {
		case <-ctx.Done():
			return
		case <-e.again:
			e.reloadAgain(ctx)
		case <-ticker.C:
			if w.due(signature(e.settings.Paths)) {
				e.reload(ctx)
			}
		}
	}
}

// hurryWhenChanged ends the gentleness of a load when the files change again, until it is
// told that they are loaded: the next edit may be a rule.
func (e *Engine) hurryWhenChanged() (loaded func()) {
	from := signature(e.settings.Paths)
	done := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() {
		ticker := time.NewTicker(e.interval)
		defer ticker.Stop()
		for {
			select {
			case <-done:
				return
			case <-ticker.C:
				if signature(e.settings.Paths) != from {
					e.hurry.now()
					return
				}
			}
		}
	})
	return func() {
		close(done)
		watching.Wait()
	}
}

// settling decides when changed files are worth loading.
type settling struct {
	seen, acted string
	waited      int
}

// due tells whether files with this signature are to be loaded now.
func (w *settling) due(now string) bool {
	if now == w.acted {
		w.seen, w.waited = now, 0
		return false
	}
	// Half-written files are bad policies; wait until writing is over. Files
	// that never come to rest must not keep an edit out, though.
	if now != w.seen && w.waited < maxUnsettled {
		w.seen = now
		w.waited++
		return false
	}
	w.seen, w.acted, w.waited = now, now, 0
	return true
}

// signature changes whenever what paths hold may have changed. It looks at
// names and metadata only, of the files that links lead to.
func signature(paths []string) string {
	var b strings.Builder
	w := walker{
		fail: func(path string, err error) { fmt.Fprintf(&b, "%s !%v\n", path, err) },
		file: func(path, _ string, _ []string, info fs.FileInfo) {
			fmt.Fprintf(&b, "%s %d %d %s %s\n", path, info.Size(), info.ModTime().UnixNano(), info.Mode(), FileIdentity(path, info))
		},
	}
	for _, path := range paths {
		resolved, err := filepath.EvalSymlinks(path)
		if err != nil {
			resolved = err.Error()
		}
		fmt.Fprintf(&b, "%s %s\n", path, resolved)
		w.root(path, nil)
	}
	return b.String()
}
