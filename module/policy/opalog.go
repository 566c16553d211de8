// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"
	"maps"
	"regexp"

	"github.com/open-policy-agent/opa/v1/logging"
)

// LogHook receives what OPA's own machinery logs: level is "info", "warn" or
// "error". What OPA says at debug level is left out: it shows requests to its
// services.
type LogHook func(level, message string, fields map[string]any)

// WithLog sends what OPA logs about bundles, discovery and its services to hook.
func WithLog(hook LogHook) Option {
	return func(e *Engine) { e.opaLog = hook }
}

// opaLogger is OPA's logger.
type opaLogger struct {
	log    LogHook
	fields map[string]any
}

var _ logging.Logger = opaLogger{}

func (l opaLogger) write(level, format string, args []any) {
	if l.log != nil {
		fields := maps.Clone(l.fields)
		for name, value := range fields {
			switch value := value.(type) {
			case string:
				fields[name] = withoutQueries(value)
			case error:
				fields[name] = withoutQueries(value.Error())
			}
		}
		l.log(level, withoutQueries(fmt.Sprintf(format, args...)), fields)
	}
}

var queryOfURL = regexp.MustCompile(`(https?://[^\s"'?]*)\?[^\s"']*`)

// withoutQueries takes the queries out of URLs: some services take a token there.
func withoutQueries(text string) string {
	return queryOfURL.ReplaceAllString(text, "$1?[redacted]")
}

// Debug implements OPA's logger, and says nothing.
func (opaLogger) Debug(string, ...any) {}

// Info implements OPA's logger.
func (l opaLogger) Info(format string, args ...any) { l.write("info", format, args) }

// Warn implements OPA's logger.
func (l opaLogger) Warn(format string, args ...any) { l.write("warn", format, args) }

// Error implements OPA's logger.
func (l opaLogger) Error(format string, args ...any) { l.write("error", format, args) }

// WithFields implements OPA's logger.
func (l opaLogger) WithFields(fields map[string]any) logging.Logger {
	merged := maps.Clone(l.fields)
	if merged == nil {
		merged = map[string]any{}
	}
	maps.Copy(merged, fields)
	return opaLogger{log: l.log, fields: merged}
}

// GetLevel implements OPA's logger.
func (opaLogger) GetLevel() logging.Level { return logging.Info }

// SetLevel implements OPA's logger; the level is Caddy's to set.
func (opaLogger) SetLevel(logging.Level) {}
