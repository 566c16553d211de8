// SPDX-License-Identifier: Apache-2.0

package password

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

func init() {
	caddy.RegisterModule(new(FileLatch))
}

// maxFileOps bounds how many calls are at the disk at once, so that a file
// system that hangs holds up no more than these.
const maxFileOps = 64

// FileLatch keeps passwords' states as small files below one directory, which
// replicas may share: a local file system, or any POSIX one with hard links
// whose exclusive creation holds between machines (NFS does). It survives
// crashes; files are synced before a call returns.
//
// Mount a shared directory before Metaguard starts, and let the bare mount
// point be unwritable: a replica that starts on it would begin a latch of its
// own. If the directory vanishes or changes later, password requests are
// refused until it is back or Metaguard is started anew.
//
// Nothing is deleted but what newer records replace: about two files of 4 KiB
// on disk per instance that ever wrote a password. To forget one instance,
// reset it; removing its directory while Metaguard runs does the same.
type FileLatch struct {
	// Where the files are, an absolute path. Made with mode 0700 at start, if
	// missing; one that everyone may write to is refused. Placeholders are
	// those that Caddy knows at start. Default: `metaguard/latch` in Caddy's
	// data directory.
	Directory string `json:"directory,omitempty"`

	root  string
	slots chan struct{}
	step  func(string) // tests: what the store has just done

	mu   sync.Mutex
	open *fileStore // nil until the directory was found usable
}

// CaddyModule names the guest module.
func (*FileLatch) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "metaguard.latches.file",
		New: func() caddy.Module { return new(FileLatch) },
	}
}

// Provision checks what can be checked without making anything.
func (l *FileLatch) Provision(caddy.Context) error {
	directory := l.Directory
	if directory == "" {
		directory = filepath.Join(caddy.AppDataDir(), "metaguard", "latch")
	}
	directory, err := caddy.NewReplacer().ReplaceOrErr(directory, true, true)
	if err != nil {
		return fmt.Errorf("latch file: %w", err)
	}
	if !filepath.IsAbs(directory) {
		return fmt.Errorf("latch file: the directory %q is not an absolute path", directory)
	}
	l.prepare(filepath.Clean(directory))
	if info, err := os.Stat(l.root); err == nil {
		return usable(l.root, info)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("latch file: %w", err)
	}
	return nil
}

func (l *FileLatch) prepare(root string) {
	l.root = root
	l.slots = make(chan struct{}, maxFileOps)
}

// Contains tells whether a path lies in the latch's directory, where a key of
// fingerprints must not be.
func (l *FileLatch) Contains(path string) bool {
	relative, err := filepath.Rel(l.root, path)
	return err == nil && filepath.IsLocal(relative)
}

// usable tells whether a directory that exists may hold the files.
func usable(path string, info fs.FileInfo) error {
	if !info.IsDir() {
		return fmt.Errorf("latch file: %s is not a directory", path)
	}
	if info.Mode().Perm()&0o002 != 0 {
		return fmt.Errorf("latch file: everyone may write to the directory %s", path)
	}
	return nil
}

// Start makes the directory, if it is missing, and checks that it does what
// the latch needs.
func (l *FileLatch) Start() error {
	ctx, cancel := context.WithTimeout(context.Background(), latchTimeout)
	defer cancel()
	_, err := onDisk(ctx, l, func(*fileStore) (struct{}, error) { return struct{}{}, nil })
	return err
}

// Load reads the newest record.
func (l *FileLatch) Load(ctx context.Context, key Key) (Record, Version, error) {
	got, err := onDisk(ctx, l, func(store *fileStore) (loaded, error) {
		newest, err := store.newest(key.name)
		if err != nil || newest.generation == 0 {
			return loaded{}, err
		}
		record, err := DecodeRecord(key, newest.data)
		if err != nil {
			return loaded{}, fmt.Errorf("%s: %w", newest.path, err)
		}
		return loaded{record, newest.version()}, nil
	})
	return got.record, got.version, err
}

// Swap writes the next record, if none came since the old one.
func (l *FileLatch) Swap(ctx context.Context, key Key, old Version, next Record) (Version, error) {
	data, err := EncodeRecord(key, next)
	if err != nil {
		return "", err
	}
	return onDisk(ctx, l, func(store *fileStore) (Version, error) { return store.replace(key.name, old, data) })
}

// Reset puts an empty record after whatever is there.
func (l *FileLatch) Reset(ctx context.Context, key Key) error {
	_, err := onDisk(ctx, l, func(store *fileStore) (struct{}, error) { return struct{}{}, store.reset(ctx, key) })
	return err
}

// onDisk makes one call on the open store.
func onDisk[T any](ctx context.Context, l *FileLatch, call func(*fileStore) (T, error)) (T, error) {
	var none T
	if err := ctx.Err(); err != nil {
		return none, fmt.Errorf("latch directory: %w", err)
	}
	select {
	case l.slots <- struct{}{}:
	case <-ctx.Done():
		return none, fmt.Errorf("latch directory is busy: %w", ctx.Err())
	}
	return untilDone(ctx, "the latch directory", func() (T, error) {
		defer func() { <-l.slots }()
		store, err := l.opened()
		if err != nil {
			return none, err
		}
		return call(store)
	})
}

// opened makes the directory usable once. After that it is never made again,
// so that one that vanished is noticed.
func (l *FileLatch) opened() (*fileStore, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open == nil {
		store, err := openFileStore(l.root)
		if err != nil {
			return nil, fmt.Errorf("latch file: %w", err)
		}
		store.step = l.step
		l.open = store
	}
	return l.open, nil
}

// UnmarshalCaddyfile reads
//
//	file [<directory>]
//
// A relative directory is relative to the Caddyfile.
func (l *FileLatch) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the module's name
	if d.NextArg() {
		l.Directory = d.Val()
		if l.Directory == "" {
			return d.Err("latch file: the directory is empty")
		}
		if !filepath.IsAbs(l.Directory) && !strings.HasPrefix(l.Directory, "{") {
			beside, err := filepath.Abs(filepath.Dir(d.File()))
			if err != nil {
				return d.WrapErr(err)
			}
			l.Directory = filepath.Join(beside, l.Directory)
		}
	}
	if d.NextArg() {
		return d.ArgErr()
	}
	if d.NextBlock(d.Nesting()) {
		return d.Errf("latch file has no setting %q", d.Val())
	}
	return nil
}

var (
	_ caddy.Provisioner     = (*FileLatch)(nil)
	_ caddyfile.Unmarshaler = (*FileLatch)(nil)
	_ Latch                 = (*FileLatch)(nil)
	_ Starter               = (*FileLatch)(nil)
)
