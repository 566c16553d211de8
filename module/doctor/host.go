// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"fmt"
	"os"
	"strings"
)

// migrateRequests is the kernel's setting that hands connections in the queue of
// a listener that closes over to the next one.
const migrateRequests = "/proc/sys/net/ipv4/tcp_migrate_req"

// checkMigrate tells of connections that a reload loses.
func checkMigrate(_ context.Context, _ *examination, f *finder) {
	value, err := os.ReadFile(migrateRequests)
	switch {
	case err != nil:
		f.leftOut(migrateRequests, "this kernel has no such setting")
	case strings.TrimSpace(string(value)) == "0":
		f.found(migrateRequests, "net.ipv4.tcp_migrate_req is 0")
	}
}

// filesPerWait is a connection of the client's and one to the server; the rest
// is for everything else.
const (
	filesPerWait = 2
	waits        = 4096
	otherFiles   = 256
)

// checkFileLimit finds a limit of open files that is lower than what requests
// that wait may need.
func checkFileLimit(_ context.Context, x *examination, f *finder) {
	for _, g := range x.guards {
		if g.dialect.Traits().MaxWait == 0 {
			continue
		}
		limit, of, err := x.fileLimit()
		needed := uint64(filesPerWait*waits + otherFiles)
		switch {
		case err != nil:
			f.unable("", plain(err))
		case limit < needed:
			f.found(of, fmt.Sprintf("%d files may be open, and %d requests that wait need %d", limit, waits, needed))
		}
		return
	}
}
