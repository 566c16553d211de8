// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/open-policy-agent/opa/v1/config"
	"github.com/open-policy-agent/opa/v1/hooks"
	"github.com/open-policy-agent/opa/v1/util"
)

// hardenDiscovered does for a configuration from discovery what readOPA does
// for a file.
type hardenDiscovered struct{ r *remote }

var _ hooks.ConfigDiscoveryHook = hardenDiscovered{}

// OnConfigDiscovery implements OPA's hook.
func (h hardenDiscovered) OnConfigDiscovery(_ context.Context, found *config.Config) (*config.Config, error) {
	if found.Bundle != nil {
		return nil, errors.New("bundle means nothing here: write `bundles`, which takes several")
	}
	sections := map[string]any{}
	for name, raw := range map[string]json.RawMessage{"bundles": found.Bundles, "decision_logs": found.DecisionLogs, "services": found.Services} {
		if raw == nil {
			continue
		}
		var section any
		if err := util.UnmarshalJSON(raw, &section); err != nil {
			return nil, fmt.Errorf("%s is not JSON", name)
		}
		sections[name] = section
	}
	if sections["services"] == nil {
		services := map[string]any{}
		for _, name := range h.r.manager.Services() {
			services[name] = map[string]any{}
		}
		sections["services"] = services
	}
	hardened := &opaConfig{}
	if err := hardened.harden(sections); err != nil {
		return nil, err
	}
	var back struct {
		Bundles      json.RawMessage            `json:"bundles"`
		DecisionLogs json.RawMessage            `json:"decision_logs"`
		Plugins      map[string]json.RawMessage `json:"plugins"`
	}
	if err := json.Unmarshal(hardened.hardened, &back); err != nil {
		return nil, errors.New("the discovered configuration cannot be encoded")
	}
	found.Bundles, found.DecisionLogs = back.Bundles, back.DecisionLogs
	if back.Plugins != nil {
		found.Plugins = back.Plugins
	}
	if err := hardened.readLogs(back.DecisionLogs, h.r.manager.Services()); err != nil {
		return nil, err
	}
	if h.r.engine.settings.RefuseUnlogged {
		if err := hardened.mustKeepEvents(); err != nil {
			return nil, err
		}
	}
	h.r.bufferEvents.Store(hardened.bufferEvents)
	h.r.logsToServer.Store(hardened.logsToServer)
	return found, nil
}
