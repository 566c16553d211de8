// SPDX-License-Identifier: Apache-2.0

package module

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/dustin/go-humanize"
	"go.uber.org/zap"
)

func init() { caddy.RegisterModule(new(LogBuffer)) }

const (
	defaultLogBuffer   = 8 << 20
	leastLogBuffer     = 256 << 10
	defaultLogInterval = caddy.Duration(100 * time.Millisecond)
	mostLogInterval    = caddy.Duration(10 * time.Second)
)

// LogBuffer writes a log in batches, for an `output` of Caddy's that would else get
// each line by itself: a request never waits for a disk, or for whoever reads the
// standard error, and writing costs a fraction. A line is written after `interval`
// at the latest, and when a configuration or the process ends; a process that is
// killed loses those that still wait. Until a first configuration is in force, each
// line is written at once.
//
// Lines that find no room in the buffer are dropped, and counted in
// `caddy_metaguard_log_lines_dropped_total`.
type LogBuffer struct {
	// Where the log goes, a log writer of Caddy's. Default: the standard error.
	WriterRaw json.RawMessage `json:"writer,omitempty" caddy:"namespace=caddy.logging.writers inline_key=output"`

	// How many bytes may wait. Default: 8 MiB; at least 256 KiB.
	Size int64 `json:"size,omitempty"`

	// How long a line may wait. Default: 100ms; at most 10s.
	Interval caddy.Duration `json:"interval,omitempty"`

	// What happens where the buffer is full. `drop` (default): lines are dropped.
	// `refuse`: requests of all guarded sites are refused, with the reason
	// `log_full`, before they are forwarded, while the last eighth of the buffer is
	// in use; that is for the lines of requests on their way.
	Full string `json:"full,omitempty"`

	writer caddy.WriterOpener
	output *logOutput // nil: not opened
}

// CaddyModule returns the Caddy module information.
func (*LogBuffer) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "caddy.logging.writers.metaguard_buffered",
		New: func() caddy.Module { return new(LogBuffer) },
	}
}

// Provision opens the log, if nobody has: OpenWriter is called once only for each
// key, whatever configurations come and go.
func (b *LogBuffer) Provision(ctx caddy.Context) error {
	setDefault(&b.Size, defaultLogBuffer)
	setDefault(&b.Interval, defaultLogInterval)
	setDefault(&b.Full, logFullDrop)
	if err := b.provisionWriter(ctx); err != nil {
		return err
	}
	if err := b.check(); err != nil {
		return err
	}
	var err error
	b.output, err = beginLog(b.WriterKey(), b.open)
	return err
}

func (b *LogBuffer) provisionWriter(ctx caddy.Context) error {
	b.writer = new(caddy.StderrWriter)
	if b.WriterRaw == nil {
		return nil
	}
	loaded, err := ctx.LoadModule(b, "WriterRaw")
	if err != nil {
		return fmt.Errorf("loading log writer: %w", err)
	}
	var ok bool
	if b.writer, ok = loaded.(caddy.WriterOpener); !ok {
		return fmt.Errorf("%T is no log writer", loaded)
	}
	return nil
}

// check refuses settings that cannot work.
func (b *LogBuffer) check() error {
	if _, nested := b.writer.(*LogBuffer); nested {
		return errors.New("metaguard_buffered: one buffer is enough: give it the output itself")
	}
	if b.Size < leastLogBuffer || b.Size > 1<<30 {
		return fmt.Errorf("metaguard_buffered: size %d: it is %s to 1 GiB", b.Size, humanize.IBytes(leastLogBuffer))
	}
	if b.Interval < 0 || b.Interval > mostLogInterval {
		return fmt.Errorf("metaguard_buffered: interval %s: it is at most %s", time.Duration(b.Interval), time.Duration(mostLogInterval))
	}
	if b.Full != logFullDrop && b.Full != logFullRefuse {
		return fmt.Errorf("metaguard_buffered: full %q: it is %s or %s", b.Full, logFullDrop, logFullRefuse)
	}
	return nil
}

func (b *LogBuffer) open() (*logQueue, error) {
	to, err := b.writer.OpenWriter()
	if err != nil {
		return nil, fmt.Errorf("opening log %s: %w", b.writer, err)
	}
	queue := newLogQueue(to, int(b.Size), time.Duration(b.Interval), b.Full == logFullRefuse)
	// After a start that fails, and after `validate`, Caddy ends the process without closing
	// logs, and the last line is the one that says why.
	queue.starting.Store(!reloading())
	return queue, nil
}

// Cleanup ends the log, unless another configuration goes on with it. Its error is
// none of Caddy's, which would write it to the standard error by itself, and wait
// for that.
func (b *LogBuffer) Cleanup() error {
	if b.output == nil {
		return nil
	}
	if err := b.output.end(); err != nil {
		caddy.Log().Error("closing a log", zap.String("log", b.String()), zap.Error(err))
	}
	return nil
}

// String names the log.
func (b *LogBuffer) String() string { return "buffered " + b.writer.String() }

// WriterKey is the same for the same log with the same settings, which a reload
// goes on with.
func (b *LogBuffer) WriterKey() string {
	return "metaguard_buffered " + strconv.FormatInt(b.Size, 10) + " " + time.Duration(b.Interval).String() + " " + b.Full + " " + b.writer.WriterKey()
}

// OpenWriter gives the log that was opened.
func (b *LogBuffer) OpenWriter() (io.WriteCloser, error) { return b.output, nil }

// UnmarshalCaddyfile sets up the buffer:
//
//	output metaguard_buffered {
//		output   <writer> ...
//		size     <bytes>
//		interval <duration>
//		full     drop|refuse
//	}
func (b *LogBuffer) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the name
	return block(d, map[string]func() error{
		"output":   func() error { return b.unmarshalOutput(d) },
		"size":     func() error { return size(d, &b.Size) },
		"interval": func() error { return duration(d, &b.Interval) },
		"full":     func() error { return oneOf(d, &b.Full, logFullDrop, logFullRefuse) },
	})
}

// unmarshalOutput reads `output` as Caddy's `log` does
// (caddyconfig/httpcaddyfile/builtins.go, parseLogHelper).
func (b *LogBuffer) unmarshalOutput(d *caddyfile.Dispenser) error {
	if !d.NextArg() {
		return d.ArgErr()
	}
	var writer any
	name := d.Val()
	switch name {
	case "stdout":
		writer = caddy.StdoutWriter{}
	case "stderr":
		writer = caddy.StderrWriter{}
	case "discard":
		writer = caddy.DiscardWriter{}
	default:
		var err error
		if writer, err = caddyfile.UnmarshalModule(d, "caddy.logging.writers."+name); err != nil {
			return err
		}
	}
	var warnings []caddyconfig.Warning
	b.WriterRaw = caddyconfig.JSONModuleObject(writer, "output", name, &warnings)
	for _, warning := range warnings {
		return d.Errf("output %s: %s", name, warning.Message)
	}
	return nil
}

// Interface guards.
var (
	_ caddy.WriterOpener    = (*LogBuffer)(nil)
	_ caddy.Provisioner     = (*LogBuffer)(nil)
	_ caddy.CleanerUpper    = (*LogBuffer)(nil)
	_ caddyfile.Unmarshaler = (*LogBuffer)(nil)
)
