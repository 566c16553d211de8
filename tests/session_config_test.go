// SPDX-License-Identifier: Apache-2.0

package tests

import (
	"path/filepath"
	"strings"
	"testing"
)

// Settings that cannot work are refused before anything runs.
func TestSessionConfigurationRefused(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ settings, want string }{
		"session behind neutron":        {"identify neutron {\nsecret {env.METAGUARD_NEUTRON_SECRET}\n}\nsession optional", "session optional cannot work: every address that can reach this site is trusted as a Neutron agent"},
		"session behind agents only":    {"identify neutron {\nsecret {env.METAGUARD_NEUTRON_SECRET}\n}\nidentify remote_ip inventory.json\nsession optional", "session optional cannot work"},
		"require_header behind neutron": {"identify neutron {\nsecret {env.METAGUARD_NEUTRON_SECRET}\n}\nrequire_header Metadata true", "require_header Metadata cannot work"},
		"short key":                     {byAddress + "\nsession required {\nkey {env.METAGUARD_NEUTRON_SECRET}\n}", "at least 32 bytes"},
		"unset key":                     {byAddress + "\nsession required {\nkey {env.METAGUARD_UNSET}\n}", "{env.METAGUARD_UNSET}"},
		"forwarded token":               {byAddress + "\nsession required\nforward_headers " + tokenHeader, "never forwarded"},
		"required token":                {byAddress + "\nsession required\nrequire_header " + tokenHeader + " x", "cannot be the same"},
		"required Connection":           {byAddress + "\nrequire_header Connection close", "require_header"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := prepareSite(t, test.settings, nil)
			output, err := s.Command("validate", "--config", filepath.Join(s.Dir, "Caddyfile"))
			if err == nil || !strings.Contains(output, test.want) || strings.Contains(output, secret) {
				t.Errorf("%v, want %q in\n%s", err, test.want, output)
			}
		})
	}
}

// Who may be in front decides whether a token can arrive: on all addresses,
// beside another source, somebody else than an agent.
func TestSessionBesideAgents(t *testing.T) {
	t.Parallel()
	const agents = "identify neutron {\nsecret {env.METAGUARD_NEUTRON_SECRET}\n}\n"
	for name, test := range map[string]struct {
		settings, bind string
		valid          bool
	}{
		"agents alone, on all addresses": {agents + "session optional", "0.0.0.0", false},
		"others too, on all addresses":   {agents + "identify remote_ip inventory.json\nsession optional", "0.0.0.0", true},
		"others too, on loopback":        {agents + "identify remote_ip inventory.json\nsession optional", "127.0.0.1 ::1", false},
		"others too, on one of both":     {agents + "identify remote_ip inventory.json\nsession optional", "127.0.0.1 192.0.2.1", true},
		"agents are one address":         {"identify neutron {\nsecret {env.METAGUARD_NEUTRON_SECRET}\ntrust 127.0.0.1\n}\nidentify remote_ip inventory.json\nsession optional", "127.0.0.1", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := prepareSite(t, test.settings, nil)
			s.edit(t, "Caddyfile", "bind 127.0.0.1", "bind "+test.bind)
			output, err := s.Command("validate", "--config", filepath.Join(s.Dir, "Caddyfile"))
			if (err == nil) != test.valid || err != nil && !strings.Contains(output, "session optional cannot work") {
				t.Errorf("%v\n%s", err, output)
			}
		})
	}
}
