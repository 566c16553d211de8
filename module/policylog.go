// SPDX-License-Identifier: Apache-2.0

package module

import (
	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/metaguard/metaguard/module/policy"
)

// policyLogger is looked up when it is used: an engine outlives the
// configuration, and so the logger, that it was made under.
func policyLogger() *zap.Logger { return caddy.Log().Named("metaguard.policy") }

// policyLogging connects an engine with Caddy's log.
func policyLogging() []policy.Option {
	return []policy.Option{
		policy.WithPrint(
			func() bool { return policyLogger().Core().Enabled(zapcore.DebugLevel) },
			func(file string, line int, text string) {
				policyLogger().Debug("print", zap.String("file", file), zap.Int("line", line), zap.String("text", text))
			}),
		policy.WithLoadHook(func(event policy.LoadEvent) {
			if event.Err != nil {
				policyLogger().Error("policy not loaded, the last good one stays in force",
					zap.Error(event.Err), zap.String("revision", event.Revision))
				return
			}
			policyLogger().Info("policy loaded", zap.String("revision", event.Revision))
		}),
		policy.WithLog(func(level, message string, fields map[string]any) {
			at, err := zapcore.ParseLevel(level)
			if err != nil {
				at = zapcore.InfoLevel
			}
			policyLogger().Named("opa").Log(at, message, zap.Any("opa", fields))
		}),
	}
}
