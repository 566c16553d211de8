// SPDX-License-Identifier: Apache-2.0

package module

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"

	"github.com/metaguard/metaguard/module/decision"
	"github.com/metaguard/metaguard/module/doctor"
	"github.com/metaguard/metaguard/module/password"
	"github.com/metaguard/metaguard/module/policy"
)

func init() {
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:      "doctor",
		Usage:     doctor.Usage,
		Short:     doctor.Short,
		Long:      doctor.Long,
		CobraFunc: doctor.Setup(doctor.Needs{Smoke: smokePolicy, RedisTime: password.RedisTime}),
	})
}

// smokePolicy loads a policy as a server would, and tells what the smoke test
// says of it. Bundles are not fetched.
func smokePolicy(ctx context.Context, setting json.RawMessage, served []byte, samples []decision.Input) (doctor.Smoke, error) {
	var named PolicyConfig
	if len(setting) > 0 {
		if err := json.Unmarshal(setting, &named); err != nil {
			return doctor.Smoke{}, fmt.Errorf("reading the setting policy: %w", err)
		}
	}
	config := named.config()
	if served != nil {
		config = policy.Config{Served: served, Entrypoint: config.Entrypoint, AllowBuiltins: config.AllowBuiltins}
	}
	config.Samples = samples
	loaded, err := policy.Load(ctx, config)
	var refused *policy.Error
	if errors.As(err, &refused) {
		return doctor.Smoke{Allows: allowsTooMuch(refused)}, otherFindings(refused)
	}
	if err != nil {
		return doctor.Smoke{}, err
	}
	data, err := loaded.Data()
	if err != nil {
		return doctor.Smoke{}, err
	}
	return doctor.Smoke{Accepted: policy.Accepted(data), Untried: untried(config)}, nil
}

// untried is what the smoke test leaves out.
func untried(config policy.Config) string {
	switch {
	case len(config.AllowBuiltins) > 0:
		return "with allow_builtins a policy is not tried, since it could reach out"
	case config.OPA != "":
		return "what comes from bundles is not here; a running server's policy has it"
	}
	return ""
}

// allowsTooMuch are the findings of the smoke test.
func allowsTooMuch(refused *policy.Error) []string {
	var found []string
	for _, finding := range refused.Findings {
		if finding.Code == policy.CodeSmokeTest {
			found = append(found, finding.String())
		}
	}
	return found
}

// otherFindings are all others: why the policy cannot be tried at all.
func otherFindings(refused *policy.Error) error {
	var failures []error
	for _, finding := range refused.Findings {
		if finding.Code != policy.CodeSmokeTest {
			failures = append(failures, errors.New(finding.String()))
		}
	}
	return errors.Join(failures...)
}
