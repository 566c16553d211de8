// SPDX-License-Identifier: Apache-2.0

package packaging_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/metaguard/metaguard/tests/harness"
)

// fenced gives the blocks of a language in a Markdown file, without their indentation.
func fenced(t *testing.T, path, language string) (blocks []string) {
	t.Helper()
	indented := regexp.MustCompile("(?ms)^( *)```" + language + "\n(.*?)^ *```$")
	for _, match := range indented.FindAllStringSubmatch(string(contents(t, path)), -1) {
		blocks = append(blocks, strings.ReplaceAll("\n"+match[2], "\n"+match[1], "\n")[1:])
	}
	if len(blocks) == 0 {
		t.Fatalf("%s has no block of %s", path, language)
	}
	return blocks
}

// validates asks the binary about the Caddyfile of a directory, where secrets are what a
// secret may be.
func validates(t *testing.T, dir string) {
	t.Helper()
	path := filepath.Join(dir, "Caddyfile")
	text := string(contents(t, path))
	for name, value := range map[string]string{
		"neutron": secret, "fingerprint": strings.Repeat("fingerprint", 4), "redis": "redis://127.0.0.1:6379/0",
	} {
		write(t, filepath.Join(dir, "secrets", name), value)
	}
	write(t, path, strings.ReplaceAll(text, "/etc/metaguard/", dir+"/"))
	command := exec.Command(harness.Binary(t), "validate", "--config", path)
	command.Env = append(os.Environ(), "HOME="+dir, "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir)
	if output, err := command.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s\n%s", err, text, output)
	}
}

// What is configured in the how-to is valid, and its shell is shell.
func TestOpenStackHowTo(t *testing.T) {
	path := filepath.Join(folder, "openstack.md")
	caddyfiles := fenced(t, path, "caddyfile")
	if len(caddyfiles) != 2 {
		t.Fatalf("there are %d Caddyfiles", len(caddyfiles))
	}
	for _, text := range caddyfiles {
		dir := t.TempDir()
		write(t, filepath.Join(dir, "Caddyfile"), text)
		write(t, filepath.Join(dir, "policy", "data.json"), string(contents(t, filepath.Join(folder, "etc/policy/data.json"))))
		validates(t, dir)
	}
	for _, text := range fenced(t, path, "sh") {
		command := exec.Command("bash", "-n")
		command.Stdin = strings.NewReader(text)
		if output, err := command.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s\n%s", err, text, output)
		}
	}
	for _, text := range fenced(t, path, "ini") {
		if !strings.HasPrefix(text, "[DEFAULT]\n") || !strings.Contains(text, "\nnova_metadata_port = 18775\n") {
			t.Errorf("the agents are not led to Metaguard's port:\n%s", text)
		}
	}
}

// The manifest is what Kubernetes' own types know, its pod may do nothing but serve, and what
// the ConfigMap holds is valid, in the folder of links that the kubelet makes of it.
func TestKubernetesManifest(t *testing.T) {
	path := filepath.Join(folder, "kubernetes", "sidecar.yaml")
	manifest := contents(t, path)

	command := exec.Command("go", "run", ".")
	command.Dir = "../kubernetes"
	command.Stdin = bytes.NewReader(manifest)
	kinds, err := command.CombinedOutput()
	if err != nil && strings.Contains(string(kinds), "dial tcp") && os.Getenv(packagingVariable) != "required" {
		t.Log("left out: Kubernetes' types cannot be fetched")
	} else if err != nil || string(kinds) != "ConfigMap\nService\nDeployment\n" {
		t.Errorf("%v\n%s", err, kinds)
	}

	var configMap struct{ Data map[string]string }
	var deployment struct {
		Spec struct {
			Template struct {
				Spec struct {
					Containers []struct {
						Name            string
						SecurityContext map[string]any `yaml:"securityContext"`
						ReadinessProbe  struct {
							HTTPGet struct{ Path string } `yaml:"httpGet"`
						} `yaml:"readinessProbe"`
					}
					Volumes []struct {
						Name      string
						Projected struct {
							Sources []map[string]struct {
								Items []struct{ Key, Path string }
							}
						}
					}
				}
			}
		}
	}
	decoder := yaml.NewDecoder(bytes.NewReader(manifest))
	for _, document := range []any{&configMap, new(any), &deployment} {
		if err := decoder.Decode(document); err != nil {
			t.Fatal(err)
		}
	}
	pod := deployment.Spec.Template.Spec
	guard := pod.Containers[0]
	for name, value := range map[string]any{
		"runAsNonRoot": true, "runAsUser": 65532, "readOnlyRootFilesystem": true, "allowPrivilegeEscalation": false,
	} {
		if guard.SecurityContext[name] != value {
			t.Errorf("%s is %v", name, guard.SecurityContext[name])
		}
	}
	if guard.Name != "metaguard" || guard.ReadinessProbe.HTTPGet.Path != "/metaguard/probe" {
		t.Errorf("the first container is %+v", guard)
	}
	for _, imported := range []string{"loggers.caddy", "logging.caddy"} {
		if configMap.Data[imported] != string(contents(t, "../../caddyfiles/"+imported)) {
			t.Errorf("%s in the ConfigMap is not the one of caddyfiles", imported)
		}
	}

	dir := t.TempDir()
	items := 0
	for _, source := range pod.Volumes[0].Projected.Sources {
		for kind, from := range source {
			for _, item := range from.Items {
				items++
				if kind == "configMap" {
					write(t, filepath.Join(dir, "..2026", item.Path), configMap.Data[item.Key])
				}
			}
		}
	}
	if items != len(configMap.Data)+3 {
		t.Errorf("%d files are mounted", items)
	}
	for link, to := range map[string]string{"..data": "..2026", "policy": "..data/policy", "loggers.caddy": "..data/loggers.caddy", "logging.caddy": "..data/logging.caddy"} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(dir, "Caddyfile"), configMap.Data["Caddyfile"])
	validates(t, dir)
}
