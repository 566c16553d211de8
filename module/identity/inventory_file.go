// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/metaguard/metaguard/module/pace"
)

// inventoryInterval is how often a file is looked at. A change counts when it
// is seen twice alike, so it is in force within about two seconds.
const inventoryInterval = time.Second

// InventoryFile is an inventory that follows its file: edited in place,
// replaced by renaming, or behind symbolic links that are switched, as a
// Kubernetes ConfigMap is. A file that is bad or vanishes keeps the last good
// inventory; the error is logged once and stands in Status until the file is
// good again. It is safe for concurrent use.
type InventoryFile struct {
	path     string
	logger   *zap.Logger
	interval time.Duration
	load     func(path string, p *pace.Pace) (*Inventory, error) // LoadInventory, but in tests
	// changed tells that the file changed while it was read last.
	changed bool
	// hurry is closed when the one who polls is to end.
	hurry   <-chan struct{}
	current atomic.Pointer[Inventory]
	status  atomic.Pointer[InventoryStatus]

	// What the file looked like, for the one who polls.
	loaded, failed, pending fileSignature
	reported                string // the error that was logged last

	running sync.Mutex // guards the two below
	stop    chan struct{}
	stopped chan struct{}
}

// InventoryStatus says how an inventory file fares.
type InventoryStatus struct {
	Path string `json:"path"`
	// Entries and Digest (SHA-256, lower-case hexadecimal) are of the
	// inventory in force, LoadedAt is when it was read.
	Entries  int       `json:"entries"`
	Digest   string    `json:"digest"`
	LoadedAt time.Time `json:"loaded_at"`
	// LastError is why the file as it is now is not in force; empty if it is.
	LastError string `json:"last_error,omitempty"`
}

// OpenInventory reads the file at path, and fails if it is bad. It starts
// nothing: the file is followed from Start on.
func OpenInventory(path string, logger *zap.Logger) (*InventoryFile, error) {
	return openInventory(path, logger, LoadInventory)
}

func openInventory(path string, logger *zap.Logger, load func(string, *pace.Pace) (*Inventory, error)) (*InventoryFile, error) {
	f := &InventoryFile{path: path, logger: logger, interval: inventoryInterval, load: load}
	before, err := signatureOf(path)
	if err != nil {
		return nil, fmt.Errorf("opening inventory: %w", err)
	}
	inventory, err := f.load(path, new(pace.Pace))
	if err != nil {
		return nil, err
	}
	f.accept(inventory, before)
	return f, nil
}

// Lookup asks the inventory in force, which may change between two calls.
func (f *InventoryFile) Lookup(addr netip.Addr) (Entry, bool) { return f.current.Load().Lookup(addr) }

// Inventory is the one in force.
func (f *InventoryFile) Inventory() *Inventory { return f.current.Load() }

// Status says which inventory is in force, and why the file is not if so.
func (f *InventoryFile) Status() InventoryStatus { return *f.status.Load() }

// Start follows the file until Stop. Starting twice is the same as once.
func (f *InventoryFile) Start() error {
	f.running.Lock()
	defer f.running.Unlock()
	if f.stop != nil {
		return nil
	}
	stop, stopped := make(chan struct{}), make(chan struct{})
	f.stop, f.stopped, f.hurry = stop, stopped, stop
	go func() {
		defer close(stopped)
		ticker := time.NewTicker(f.interval)
		defer ticker.Stop()
		for {
			select {
			case <-stop:
				return
			case <-ticker.C:
				f.poll()
			}
		}
	}()
	return nil
}

// Stop ends what Start began and waits for it. The inventory stays usable.
func (f *InventoryFile) Stop() {
	f.running.Lock()
	defer f.running.Unlock()
	if f.stop == nil {
		return
	}
	close(f.stop)
	<-f.stopped
	f.stop, f.stopped = nil, nil
}

// poll looks at the file once. One goroutine at a time calls it.
func (f *InventoryFile) poll() {
	now, err := signatureOf(f.path)
	switch {
	case err != nil:
		f.pending = fileSignature{}
		f.report(fmt.Errorf("looking at inventory: %w", err))
	case now.same(f.loaded):
		f.pending = fileSignature{}
		f.recovered()
	case now.same(f.failed):
		// Said already; only another file can be better.
	case !now.same(f.pending):
		f.pending = now
	default:
		f.reload(now)
	}
}

// reload reads a file that has settled at the signature before.
func (f *InventoryFile) reload(before fileSignature) {
	f.pending = fileSignature{}
	var inventory *Inventory
	var err error
	gently := pace.Gentle(f.hurry) // requests are served meanwhile
	if f.changed {
		gently = new(pace.Pace) // or it is never done before the next change
	}
	same := pacedDigest(f.path, gently) == f.current.Load().Digest()
	if !same {
		inventory, err = f.load(f.path, gently)
	}
	if after, statErr := signatureOf(f.path); statErr != nil || !after.same(before) {
		if f.changed { // and did the last time
			f.report(errors.New("the inventory changes each time while it is read"))
		}
		f.changed = true
		return // what was read may be half of each
	}
	f.changed = false
	if same { // only its time is new
		f.settle(before)
		f.recovered()
		return
	}
	if err != nil {
		// What is wrong in the file stays wrong until it is another file;
		// what is wrong with reading it may pass without a trace.
		if bad := new(InventoryError); errors.As(err, &bad) {
			f.failed = before
		}
		f.report(err)
		return
	}
	f.accept(inventory, before)
	f.reported = ""
	f.logger.Info("inventory loaded",
		zap.String("path", f.path), zap.Int("entries", inventory.Len()), zap.String("digest", inventory.Digest()))
}

// accept puts an inventory into force.
func (f *InventoryFile) accept(inventory *Inventory, signature fileSignature) {
	f.settle(signature)
	f.current.Store(inventory)
	f.status.Store(&InventoryStatus{
		Path: f.path, Entries: inventory.Len(), Digest: inventory.Digest(), LoadedAt: time.Now(),
	})
}

// settle notes what the file in force looks like.
func (f *InventoryFile) settle(signature fileSignature) {
	f.loaded, f.failed = signature, fileSignature{}
	if age := time.Since(signature.modified()); age >= 0 && age < 2*f.interval {
		// A second edit within the file system's clock tick would look the
		// same, so a file as young as this is read once more.
		f.loaded = fileSignature{}
	}
}

// report keeps the last good inventory and says why, once per error.
func (f *InventoryFile) report(err error) {
	text := err.Error()
	if f.reported == text {
		return
	}
	f.reported = text
	status := f.Status()
	status.LastError = text
	f.status.Store(&status)
	f.logger.Error("inventory not loaded; the last good one stays in force",
		zap.String("path", f.path), zap.Error(err), zap.String("digest", status.Digest))
}

// recovered notes that the file is again the one in force.
func (f *InventoryFile) recovered() {
	f.failed = fileSignature{}
	if f.reported == "" {
		return
	}
	f.reported = ""
	status := f.Status()
	status.LastError = ""
	f.status.Store(&status)
	f.logger.Info("inventory is good again", zap.String("path", f.path), zap.String("digest", status.Digest))
}

// fileSignature is by what a file's change is noticed: where symbolic links
// lead, which file it is, its size and its time. The zero one is like none.
type fileSignature struct {
	target string
	info   os.FileInfo
}

func signatureOf(path string) (fileSignature, error) {
	target, err := filepath.EvalSymlinks(path)
	if err != nil {
		return fileSignature{}, err
	}
	info, err := os.Stat(target)
	if err != nil {
		return fileSignature{}, err
	}
	return fileSignature{target: target, info: info}, nil
}

func (s fileSignature) same(other fileSignature) bool {
	return s.info != nil && other.info != nil && s.target == other.target && os.SameFile(s.info, other.info) &&
		s.info.Size() == other.info.Size() && s.info.ModTime().Equal(other.info.ModTime())
}

func (s fileSignature) modified() time.Time { return s.info.ModTime() }
