// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/metrics"
	"github.com/open-policy-agent/opa/v1/plugins"
	"github.com/open-policy-agent/opa/v1/plugins/logs"
	"github.com/open-policy-agent/opa/v1/server"
	"github.com/open-policy-agent/opa/v1/topdown/builtins"
	"github.com/open-policy-agent/opa/v1/version"
)

// Event is the record of one decision in OPA's own decision-log format. It
// holds the whole input, the time that the policy took for now and what
// non-deterministic builtins said, so that the decision can be made again.
type Event = logs.EventV1

// ErrLogFull says that an event could not be kept for the log service. Without
// [Config.RefuseUnlogged] the oldest events are dropped instead, and counted.
var ErrLogFull = errors.New("the buffer of decision events is full")

// About is what an event says beside the decision itself.
type About struct {
	// ID is the decision id.
	ID string
	// RequestedBy is the address at the other end of the connection.
	RequestedBy string
	// Verdict is what becomes of the request, and Mode why it may differ from
	// the decision.
	Verdict, Mode string
	// WritesInput tells that the caller writes the input itself, from what it asked,
	// where nothing of OPA's sees the event: it has [AskedInput] in its place then.
	WritesInput bool
}

// AskedInput stands for the input of an event that its caller writes. An event that OPA
// has masked never has it.
type AskedInput struct{}

var askedInput any = AskedInput{}

// processLabels name this process where no configuration of OPA does.
var processLabels = map[string]string{"id": uuid.NewString(), "version": version.Version}

// Record makes the event of a decision and hands it to OPA's log service, if
// one is configured. The event is nil if a rule of the log says to drop it. The
// only error is [ErrLogFull].
func (e *Engine) Record(ctx context.Context, result *Result, about About) (*Event, error) {
	plugin := e.awaitLogs()
	about.WritesInput = about.WritesInput && plugin == nil
	info, err := e.info(result, about)
	if err != nil {
		return nil, e.lose(err)
	}
	switch {
	case plugin != nil:
		return e.remote.Load().log(ctx, plugin, info)
	case e.expectsLogs:
		// No rule that masks it has seen it.
		return nil, e.lose(errors.New("OPA's decision log has not been started"))
	}
	return &Event{
		Labels:         processLabels,
		DecisionID:     info.DecisionID,
		Revision:       info.Revision,
		Path:           info.Path,
		Input:          info.Input,
		Result:         info.Results,
		NDBuiltinCache: info.NDBuiltinCache,
		RequestedBy:    info.RemoteAddr,
		Timestamp:      info.Timestamp,
		Metrics:        info.Metrics.All(),
		Custom:         info.Custom,
	}, nil
}

// LogsEvents tells that OPA's log service, or its rules, take events, or will.
func (e *Engine) LogsEvents() bool { return e.expectsLogs || e.logs() != nil }

// awaitLogs gives OPA's decision log; nil if there is none. A policy of files decides
// before OPA is started, since sites may listen before: the log is waited for then, as
// bundles are.
func (e *Engine) awaitLogs() *logs.Plugin {
	if plugin := e.logs(); plugin != nil || !e.expectsLogs {
		return plugin
	}
	// The event is written whether or not the client is still there.
	timer := time.NewTimer(e.settings.ReadyTimeout)
	defer timer.Stop()
	select {
	case <-e.logging:
	case <-timer.C:
	}
	return e.logs()
}

func (e *Engine) logs() *logs.Plugin {
	r := e.remote.Load()
	if r == nil {
		return nil
	}
	return logs.Lookup(r.manager)
}

// info is what OPA's decision log takes.
func (e *Engine) info(result *Result, about About) (*server.Info, error) {
	custom := map[string]any{"verdict": about.Verdict, "reason": string(result.Reason), "mode": about.Mode}
	if len(result.Rules) > 0 {
		rules := make([]any, len(result.Rules))
		for i, rule := range result.Rules {
			rules[i] = rule
		}
		custom["rules"] = rules
	}
	if result.Err != nil {
		custom["error"] = result.Err.Error()
	}
	info := &server.Info{
		DecisionID: about.ID,
		RemoteAddr: about.RequestedBy,
		Revision:   result.Revision,
		Path:       e.settings.Entrypoint,
		Timestamp:  result.Time.UTC(),
		Metrics:    evalMetrics{metrics.NoOp(), result.Duration.Nanoseconds()},
		Custom:     map[string]any{"metaguard": custom},
	}
	var err error
	if info.Input = &askedInput; !about.WritesInput {
		info.InputAST = result.Input()
		if info.Input, err = documentOf(info.InputAST); err != nil {
			return nil, err
		}
	}
	if info.Results, err = documentOf(result.Output); err != nil {
		return nil, err
	}
	if answers := recordable(result.Answers); len(answers) > 0 {
		if info.NDBuiltinCache, err = documentOf(answers.AsValue()); err != nil {
			return nil, err
		}
	}
	if len(result.bundles) > 0 {
		info.Bundles = make(map[string]server.BundleInfo, len(result.bundles))
		for name, revision := range result.bundles {
			info.Bundles[name] = server.BundleInfo{Revision: revision}
		}
	}
	return info, nil
}

// recorded are the builtins whose arguments and answers an event holds. Those
// of others can be secrets: the keys of io.jwt, the headers of http.send, the
// environment in opa.runtime.
var recorded = []string{"time.now_ns", "rand.intn", "uuid.rfc4122", "net.lookup_ip_addr"}

func recordable(answers builtins.NDBCache) builtins.NDBCache {
	if len(answers) == 0 {
		return nil
	}
	kept := builtins.NDBCache{}
	for _, name := range recorded {
		if calls, ok := answers[name]; ok {
			kept[name] = calls
		}
	}
	return kept
}

// documentOf is the JSON document of a value; nil of nil.
func documentOf(value ast.Value) (*any, error) {
	if value == nil {
		return nil, nil
	}
	document, err := ast.JSON(value)
	if err != nil {
		return nil, fmt.Errorf("a value cannot be logged: %w", err)
	}
	return &document, nil
}

// Seen is a value as a policy sees it, as JSON types.
func Seen(value any) (any, error) {
	seen, err := ast.InterfaceToValue(value)
	if err != nil {
		return nil, fmt.Errorf("a value cannot be shown to a policy: %w", err)
	}
	return ast.JSON(seen)
}

// AnswersOf reads the member nd_builtin_cache of an event; null is none. OPA
// writes the arguments of a call, which are its names there, as JSON in a string,
// and its own decoder leaves them so.
func AnswersOf(value ast.Value) (builtins.NDBCache, error) {
	functions, ok := value.(ast.Object)
	if !ok {
		return nil, nil //nolint:nilnil // a mask may leave null
	}
	answers := builtins.NDBCache{}
	err := functions.Iter(func(name, calls *ast.Term) error {
		function, ok := name.Value.(ast.String)
		made, ok2 := calls.Value.(ast.Object)
		if !ok || !ok2 {
			return fmt.Errorf("nd_builtin_cache: %v has no answers", name)
		}
		return made.Iter(func(key, answer *ast.Term) error {
			arguments := key.Value
			if text, ok := key.Value.(ast.String); ok {
				var err error
				if arguments, err = ast.ValueFromReader(strings.NewReader(string(text))); err != nil {
					return fmt.Errorf("nd_builtin_cache: the arguments %v of %v: %w", key, name, err)
				}
			}
			if _, ok := arguments.(*ast.Array); !ok {
				return fmt.Errorf("nd_builtin_cache: the arguments %v of %v are no list", key, name)
			}
			answers.Put(string(function), arguments, answer.Value)
			return nil
		})
	})
	return answers, err
}

// evalMetrics says how long the decision took, under OPA's name for it.
type evalMetrics struct {
	metrics.Metrics
	nanoseconds int64
}

// All implements OPA's metrics.
func (m evalMetrics) All() map[string]any {
	return map[string]any{"timer_rego_query_eval_ns": m.nanoseconds}
}

// log hands an event to OPA's plugin: through its rules for dropping and
// masking, into its buffer. What is left of the event comes back.
func (r *remote) log(ctx context.Context, plugin *logs.Plugin, info *server.Info) (*Event, error) {
	waiting := r.pending.Add(1)
	defer r.pending.Add(-1)
	if r.engine.settings.RefuseUnlogged && r.logsToServer.Load() {
		// A part of the buffer is left for what comes back when an upload fails.
		room := r.bufferEvents.Load()
		if _, size := plugin.BufferSize(); size+waiting > room-max(minBufferEvents/2, room/10) {
			return nil, ErrLogFull
		}
	}
	closed := r.closed.Load()
	if r.logsToServer.Load() && closed {
		// A request that was on its way while its configuration was replaced.
		if err := r.engine.lose(errors.New("its configuration was replaced")); err != nil {
			return nil, err
		}
	}
	var kept eventKeeper
	// The event is written whether or not the client is still there.
	ctx = context.WithValue(context.WithoutCancel(ctx), eventKeeperKey{}, &kept)
	failures := r.failures.Load()
	err := plugin.Log(ctx, info)
	switch {
	case err != nil && closed:
		return nil, nil //nolint:nilnil // it was counted already
	case err != nil:
		return nil, r.engine.lose(err)
	case kept.event != nil && r.logsToServer.Load() && !closed:
		r.recorded.Add(1)
	case kept.event == nil && r.failures.Load() != failures && r.engine.settings.RefuseUnlogged:
		// OPA has let the event go and said so in its log only. Another event may have
		// failed beside one that a rule dropped: that is refused, too.
		return nil, fmt.Errorf("%w: a rule that drops or masks events failed", ErrLogFull)
	}
	return kept.event, nil
}

// failedRules are OPA's own words for an event that it lets go since a rule of the log
// failed. It says so to its log, and to nobody else.
var failedRules = []string{"Log drop decision failed", "Log event masking failed"}

// watchLog counts the events that OPA's log tells of, on its way to the hook.
func (r *remote) watchLog(level, message string, fields map[string]any) {
	for _, words := range failedRules {
		if strings.HasPrefix(message, words) {
			r.failures.Add(1)
		}
	}
	if r.engine.opaLog != nil {
		r.engine.opaLog(level, message, fields)
	}
}

// lose counts an event that goes nowhere, and makes an error of it where every
// decision must be on record.
func (e *Engine) lose(err error) error {
	e.lostEvents.Add(1)
	if e.settings.RefuseUnlogged {
		return fmt.Errorf("%w: %w", ErrLogFull, err)
	}
	return nil
}

// EventCounts are decision events that OPA's log service is to get, since the engine
// was started.
type EventCounts struct {
	// Recorded are those that were handed to OPA for it.
	Recorded uint64
	// Delivered are those that it has taken. What is recorded and neither delivered
	// nor waiting in OPA's buffer is lost.
	Delivered uint64
}

// EventCounts counts events for the log service.
func (e *Engine) EventCounts() EventCounts {
	r := e.remote.Load()
	if r == nil {
		return EventCounts{}
	}
	delivered := r.delivered.events.Load()
	// An event can be delivered before it is counted.
	return EventCounts{Recorded: max(r.recorded.Load(), delivered), Delivered: delivered}
}

// DroppedEvents counts, by reason, decision events that did not reach the log
// service or the log, since the engine was started. "buffer_full" and "encoding" are as
// OPA counts: a chunk of events that came back from a failed upload is one.
func (e *Engine) DroppedEvents() map[string]uint64 {
	dropped := map[string]uint64{"lost": e.lostEvents.Load()}
	r := e.remote.Load()
	if r == nil {
		return dropped
	}
	dropped["lost"] += r.failures.Load()
	for reason, counters := range map[string][]string{
		"buffer_full": {"decision_logs_dropped_buffer_size_limit_exceeded", "decision_logs_dropped_buffer_size_limit_bytes_exceeded"},
		"rate_limit":  {"decision_logs_dropped_rate_limit_exceeded"},
		"encoding":    {"decision_logs_encoding_failure"},
	} {
		for _, name := range counters {
			count, _ := r.metrics.Counter(name).Value().(uint64)
			dropped[reason] += count
		}
	}
	return dropped
}

// eventKeeper is where the plugin leaves an event for the request that it
// belongs to.
type eventKeeper struct{ event *Event }

type eventKeeperKey struct{}

// eventSink is the plugin that OPA's decision log hands events to, after
// dropping and masking.
type eventSink struct{ manager *plugins.Manager }

var _ logs.Logger = eventSink{}

// Log implements OPA's logger of events.
func (eventSink) Log(ctx context.Context, event Event) error {
	if kept, ok := ctx.Value(eventKeeperKey{}).(*eventKeeper); ok {
		kept.event = &event
	}
	return nil
}

// Start implements OPA's plugin.
func (s eventSink) Start(context.Context) error {
	s.manager.UpdatePluginStatus(eventPlugin, &plugins.Status{State: plugins.StateOK})
	return nil
}

// Stop implements OPA's plugin.
func (eventSink) Stop(context.Context) {}

// Reconfigure implements OPA's plugin.
func (eventSink) Reconfigure(context.Context, any) {}

// eventFactory makes the sink.
type eventFactory struct{}

var _ plugins.Factory = eventFactory{}

// Validate implements OPA's factory.
func (eventFactory) Validate(*plugins.Manager, []byte) (any, error) { return struct{}{}, nil }

// New implements OPA's factory.
func (eventFactory) New(manager *plugins.Manager, _ any) plugins.Plugin { return eventSink{manager} }
