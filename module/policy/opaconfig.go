// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/config"
	"github.com/open-policy-agent/opa/v1/keys"
	"github.com/open-policy-agent/opa/v1/plugins/bundle"
	"github.com/open-policy-agent/opa/v1/plugins/discovery"
	"github.com/open-policy-agent/opa/v1/plugins/logs"
	"github.com/open-policy-agent/opa/v1/plugins/rest"
	"github.com/open-policy-agent/opa/v1/plugins/status"
	"github.com/open-policy-agent/opa/v1/util"
	"go.yaml.in/yaml/v3"
)

// opaSections are the parts of OPA's configuration that mean something here.
var opaSections = []string{
	"bundles", "caching", "decision_logs", "discovery", "keys", "labels", "nd_builtin_cache",
	"persistence_directory", "services", "status",
}

// opaElsewhere says what to do instead of what does not.
var opaElsewhere = map[string]string{
	"bundle":                         "write `bundles`, which takes several",
	"default_decision":               "write `entrypoint` in the policy block",
	"default_authorization_decision": "there is no OPA server here",
	"distributed_tracing":            "write `tracing` in the Caddyfile",
	"metrics_export":                 "write `metrics` in the Caddyfile",
	"plugins":                        "OPA's custom plugins are not part of this binary",
	"server":                         "there is no OPA server here",
	"storage":                        "policies and data are kept in memory",
}

// eventPlugin is the name of the plugin that gets decision events after
// masking.
const eventPlugin = "metaguard_events"

// maxPolicyBytes bounds what one policy may hold, files and bundles together.
// A decision needs all of it in memory, several times while it is loaded.
var maxPolicyBytes int64 = 128 << 20 // a variable for tests only

// opaConfig is OPA's own configuration, checked, with bounded defaults. It may
// hold credentials, so that no text is ever made of it.
type opaConfig struct {
	name string // the file, for people
	path string
	raw  []byte // the file as it is, for digests: environment variables are not in it
	// hardened is what OPA gets.
	hardened []byte
	// remote tells that policies come from elsewhere: by bundles or discovery.
	remote bool
	// bufferEvents is how many decision events wait for the log service; 0
	// where the buffer is not counted in events.
	bufferEvents int64
	rateLimited  bool
	// logs tells that there is a decision log of OPA's, whose rules apply to events.
	logs         bool
	logsToServer bool
	discovers    bool
}

// mustKeepEvents tells why events can be lost without being noticed, or nil.
func (c *opaConfig) mustKeepEvents() error {
	switch {
	case !c.logsToServer && !c.discovers:
		return errors.New("log_full refuse needs decision_logs with a service: there is nothing that could be full")
	case c.logsToServer && c.rateLimited:
		return errors.New("log_full refuse and decision_logs.reporting.max_decisions_per_second exclude each other: a rate limit drops events")
	case c.logsToServer && c.bufferEvents == 0:
		return errors.New("log_full refuse needs decision_logs.reporting.buffer_type event: how full a buffer of type size is cannot be told")
	case c.logsToServer && c.bufferEvents < minBufferEvents:
		return fmt.Errorf("log_full refuse needs decision_logs.reporting.buffer_size_limit_events of at least %d", minBufferEvents)
	}
	return nil
}

// minBufferEvents is the smallest buffer of which a part can be left for what
// comes back when an upload fails.
const minBufferEvents = 20

// readOPA reads and checks a configuration file of OPA. It opens no socket.
func readOPA(path string) (*opaConfig, error) {
	refuse := func(line int, hint, format string, args ...any) error {
		return &Error{Findings: []Finding{{File: display(path), Line: line, Code: CodeOPAConfig, Message: fmt.Sprintf(format, args...), Hint: hint}}}
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, &Error{Findings: []Finding{unreadable(path, err)}}
	}
	expanded, missing := expandEnvironment(string(raw))
	if missing != "" {
		return nil, refuse(lineOf(raw, "${"+missing+"}"), "", "the environment has no variable %s", missing)
	}
	var root yaml.Node
	if err := yaml.Unmarshal([]byte(expanded), &root); err != nil {
		line, _ := checkYAML([]byte(expanded))
		return nil, refuse(line, "", "not YAML or JSON") // the parser's words may quote a credential
	}
	var sections map[string]any
	if err := util.Unmarshal([]byte(expanded), &sections); err != nil || len(root.Content) == 0 {
		return nil, refuse(1, "", "OPA's configuration must be an object")
	}
	for _, name := range sortedKeys(sections) {
		line, _ := locateYAML(root.Content[0], []string{name})
		if hint, known := opaElsewhere[name]; known {
			return nil, refuse(line, hint, "%s means nothing here", name)
		}
		if !slices.Contains(opaSections, name) {
			hint := didYouMean(name, opaSections)
			if hint == "" {
				hint = "there are: " + strings.Join(opaSections, " ")
			}
			return nil, refuse(line, hint, "OPA's configuration has no %s", name)
		}
	}
	c := &opaConfig{name: display(path), path: path, raw: raw}
	if err := c.harden(sections); err != nil {
		return nil, refuse(0, "", "%v", err)
	}
	if err := c.check(); err != nil {
		line := 0
		if option := dottedOption.FindString(err.Error()); option != "" {
			line, _ = locateYAML(root.Content[0], strings.Split(option, "."))
		}
		return nil, refuse(line, "", "%v", err)
	}
	return c, nil
}

// bundleName is what OPA takes for a name and for a directory alike: it reads
// others as URLs, and would put their rules elsewhere.
var bundleName = regexp.MustCompile(`^[A-Za-z0-9_-][A-Za-z0-9_.-]*$`)

// dottedOption is how OPA names an option that is wrong.
var dottedOption = regexp.MustCompile(`[a-z_]+(\.[A-Za-z0-9_-]+)+`)

var environmentVariable = regexp.MustCompile(`\$\{([^}]*)\}`)

// expandEnvironment replaces ${NAME} as OPA does, but names what is missing.
func expandEnvironment(text string) (expanded, missing string) {
	expanded = environmentVariable.ReplaceAllStringFunc(text, func(variable string) string {
		name := strings.TrimSpace(variable[2 : len(variable)-1])
		value, ok := os.LookupEnv(name)
		if !ok && missing == "" {
			missing = name
		}
		return value
	})
	return expanded, missing
}

func lineOf(content []byte, text string) int {
	before, _, found := strings.Cut(string(content), text)
	if !found {
		return 0
	}
	return 1 + strings.Count(before, "\n")
}

// harden bounds what OPA leaves unbounded, and takes decision events in.
func (c *opaConfig) harden(sections map[string]any) error {
	if bundles, ok := sections["bundles"].(map[string]any); ok {
		for name, value := range bundles {
			if !bundleName.MatchString(name) || name == strings.TrimSuffix(localPrefix, "/") {
				return fmt.Errorf("the name of bundle %q: it is made of letters, digits, and . _ - inside", name)
			}
			source, ok := value.(map[string]any)
			if !ok {
				return fmt.Errorf("bundles.%s must be an object", name)
			}
			if limit, ok := source["size_limit_bytes"]; !ok {
				source["size_limit_bytes"] = maxPolicyBytes
			} else if number, ok := limit.(json.Number); !ok || !atMost(number, maxPolicyBytes) {
				return fmt.Errorf("bundles.%s.size_limit_bytes is more than the %d bytes that a policy may hold", name, maxPolicyBytes)
			}
		}
	}
	if value, ok := sections["decision_logs"]; ok {
		section, ok := value.(map[string]any)
		if !ok {
			return errors.New("decision_logs must be an object")
		}
		if plugin, ok := section["plugin"]; ok && plugin != eventPlugin {
			return errors.New("decision_logs.plugin: OPA's custom plugins are not part of this binary")
		}
		if section["service"] == nil && section["console"] == nil {
			// OPA would take the first service there is, unless a plugin is named.
			name := onlyService(sections["services"])
			if name == "" && sections["services"] != nil {
				return errors.New("decision_logs.service is missing: there are several services")
			}
			if name != "" {
				section["service"] = name
			}
		}
		section["plugin"] = eventPlugin
		reporting, ok := section["reporting"].(map[string]any)
		if !ok {
			reporting = map[string]any{}
			section["reporting"] = reporting
		}
		if reporting["buffer_type"] == nil && reporting["buffer_size_limit_bytes"] == nil {
			reporting["buffer_type"] = "event"
		}
		if reporting["buffer_type"] != "event" && reporting["buffer_size_limit_bytes"] == nil && reporting["max_decisions_per_second"] == nil {
			return errors.New("decision_logs.reporting.buffer_size_limit_bytes is missing: OPA's buffer of type size has no bound without it")
		}
		sections["plugins"] = map[string]any{eventPlugin: map[string]any{}}
	}
	hardened, err := json.Marshal(sections)
	if err != nil {
		return errors.New("OPA's configuration cannot be encoded")
	}
	c.hardened = hardened
	return nil
}

func atMost(number json.Number, limit int64) bool {
	value, err := number.Int64()
	return err == nil && value > 0 && value <= limit
}

// onlyService is the service's name, if there is one only.
func onlyService(services any) string {
	switch services := services.(type) {
	case map[string]any:
		if len(services) == 1 {
			return sortedKeys(services)[0]
		}
	case []any:
		if len(services) == 1 {
			service, _ := services[0].(map[string]any)
			name, _ := service["name"].(string)
			return name
		}
	}
	return ""
}

// check finds what OPA would refuse when it starts, without starting anything.
func (c *opaConfig) check() error {
	parsed, err := config.ParseConfig(c.hardened, "metaguard")
	if err != nil {
		return fmt.Errorf("parsing: %w", err)
	}
	if len(parsed.Warnings) > 0 {
		slices.Sort(parsed.Warnings)
		return errors.New(strings.Join(parsed.Warnings, "; "))
	}
	keyConfigs, err := keys.ParseKeysConfig(parsed.Keys)
	if err != nil {
		return errors.New("keys: a key cannot be read") // OPA's words may quote it
	}
	services, err := checkServices(parsed.Services, keyConfigs)
	if err != nil {
		return err
	}
	bundles, err := bundle.NewConfigBuilder().WithBytes(parsed.Bundles).WithServices(services).WithKeyConfigs(keyConfigs).Parse()
	if err != nil {
		return fmt.Errorf("bundles: %w", err)
	}
	discover, err := discovery.NewConfigBuilder().WithBytes(parsed.Discovery).WithServices(services).WithKeyConfigs(keyConfigs).Parse()
	if err != nil {
		return fmt.Errorf("discovery: %w", err)
	}
	if discover != nil && parsed.Bundles != nil {
		return errors.New("discovery says which bundles there are, so that bundles beside it are ignored: take one of them out")
	}
	if err := c.readLogs(parsed.DecisionLogs, services); err != nil {
		return err
	}
	if _, err := status.NewConfigBuilder().WithBytes(parsed.Status).WithServices(services).Parse(); err != nil {
		return fmt.Errorf("status: %w", err)
	}
	c.discovers = discover != nil
	c.remote = discover != nil || bundles != nil && len(bundles.Bundles) > 0
	return nil
}

// readLogs notes how decision events are kept.
func (c *opaConfig) readLogs(raw json.RawMessage, services []string) error {
	events, err := logs.NewConfigBuilder().WithBytes(raw).WithServices(services).WithPlugins([]string{eventPlugin}).Parse()
	if err != nil {
		return fmt.Errorf("decision_logs: %w", err)
	}
	if events == nil {
		return nil
	}
	c.logs, c.logsToServer = true, events.Service != ""
	c.rateLimited = events.Reporting.MaxDecisionsPerSecond != nil
	if events.Reporting.BufferType == "event" {
		c.bufferEvents = *events.Reporting.BufferSizeLimitEvents
	}
	return nil
}

// checkServices gives the names of the services, which are a map or a list.
func checkServices(raw json.RawMessage, keyConfigs map[string]*keys.Config) ([]string, error) {
	if raw == nil {
		return nil, nil
	}
	var list []json.RawMessage
	var object map[string]json.RawMessage
	var names []string
	if util.Unmarshal(raw, &list) == nil {
		for i, service := range list {
			client, err := rest.New(service, keyConfigs)
			if err != nil || client.Service() == "" {
				return nil, fmt.Errorf("services: the service at index %d cannot be used as it is written", i)
			}
			names = append(names, client.Service())
		}
		return names, nil
	}
	if err := util.Unmarshal(raw, &object); err != nil {
		return nil, errors.New("services must be an object or a list")
	}
	for _, name := range sortedKeys(object) {
		client, err := rest.New(object[name], keyConfigs, rest.Name(name))
		if err != nil {
			return nil, fmt.Errorf("services.%s cannot be used as it is written", name)
		}
		if _, err := client.Config().AuthPlugin(func(string) rest.HTTPAuthPlugin { return nil }); err != nil {
			return nil, fmt.Errorf("services.%s.credentials cannot be used as they are written", name)
		}
		names = append(names, client.Service())
	}
	return names, nil
}

// withStateDir is what OPA gets, with a place of its own for what it persists.
func (c *opaConfig) withStateDir(dir string) ([]byte, error) {
	var sections map[string]any
	if err := util.Unmarshal(c.hardened, &sections); err != nil {
		return nil, errors.New("OPA's configuration cannot be decoded")
	}
	if sections["persistence_directory"] == nil {
		sections["persistence_directory"] = dir
	}
	encoded, err := json.Marshal(sections)
	if err != nil {
		return nil, errors.New("OPA's configuration cannot be encoded")
	}
	return encoded, nil
}
