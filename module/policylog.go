// SPDX-License-Identifier: Apache-2.0

package module

import (
	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/metaguard/metaguard/module/policy"
)

// runningLogger is the log of the configuration in force, for what outlives the one
// that it was made under. Caddy's own default logger is another one's after a
// reload that failed, whose files are closed.
func runningLogger() *zap.Logger {
	if loaded, err := caddy.ActiveContext().AppIfConfigured("metaguard"); err == nil {
		if app, ok := loaded.(*App); ok {
			return app.logger
		}
	}
	return caddy.Log().Named("metaguard") // at the first start
}

func policyLogger() *zap.Logger { return runningLogger().Named("policy") }

// policyLogging connects an engine with Caddy's log. The name is the policy's in
// metrics.
func policyLogging(name string, candidate bool) []policy.Option {
	which := []zap.Field{zap.String("engine", name)}
	if candidate {
		which = append(which, zap.Bool("candidate", true))
	}
	named := func() *zap.Logger { return policyLogger().With(which...) }
	return []policy.Option{
		policy.WithPrint(
			func() bool { return policyLogger().Core().Enabled(zapcore.DebugLevel) },
			func(file string, line int, text string) {
				policyLogger().Debug("print", zap.String("file", file), zap.Int("line", line), zap.String("text", text))
			}),
		policy.WithLoadHook(func(event policy.LoadEvent) {
			switch {
			case event.Err != nil && event.Revision == "":
				named().Error("policy not loaded, and there is none yet", zap.Error(event.Err))
			case event.Err != nil:
				named().Error("policy not loaded, the last good one stays in force",
					zap.Error(event.Err), zap.String("revision", event.Revision))
			default:
				named().Info("policy loaded", zap.String("revision", event.Revision))
				logWarnings(named(), event.Warnings)
			}
		}),
		policy.WithLog(func(level, message string, fields map[string]any) {
			at, err := zapcore.ParseLevel(level)
			if err != nil {
				at = zapcore.InfoLevel
			}
			named().Named("opa").Log(at, message, zap.Any("opa", fields))
		}),
	}
}

// logWarnings tells what is odd about a policy, and no reason to refuse it.
func logWarnings(logger *zap.Logger, warnings []policy.Finding) {
	for _, warning := range warnings {
		logger.Warn("policy", zap.String("warning", warning.String()), zap.String("code", warning.Code))
	}
}
