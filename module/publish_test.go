// SPDX-License-Identifier: Apache-2.0

package module

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/metaguard/metaguard/module/canonical"
	"github.com/metaguard/metaguard/module/dialect"
	"github.com/metaguard/metaguard/module/identity"
	"github.com/metaguard/metaguard/module/response"
)

// defective is a dialect with a defect.
type defective struct{ dialect.OpenStack }

func (defective) Classify(dialect.Request) dialect.Match { panic("planted-in-the-panic") }

// A defect of ours ends in one decision-log line and a cut connection, never in
// an answer, and what was panicked with is not logged.
func TestPanicIsPublishedOnce(t *testing.T) {
	canonicalizer, err := canonical.Rules{}.Compile()
	if err != nil {
		t.Fatal(err)
	}
	core, logs := observer.New(zap.DebugLevel)
	h := &Handler{
		Mode: modeEnforce, dialect: defective{}, identities: identity.Chain{new(identity.Anonymous)},
		canonicalizer: canonicalizer, budget: response.NewBudget(1), logger: zap.New(core), decisions: zap.New(core),
		metrics: newSiteMetrics("test", "openstack"),
	}
	r := httptest.NewRequest(http.MethodGet, "/openstack/latest/password", nil)
	r = r.WithContext(context.WithValue(r.Context(), caddyhttp.VarsCtxKey, map[string]any{}))
	w := httptest.NewRecorder()
	func() {
		defer func() {
			if cause := recover(); cause != http.ErrAbortHandler { //nolint:errorlint // a panic value, compared as net/http does
				t.Errorf("ended in %v", cause)
			}
		}()
		_ = h.ServeHTTP(w, r, nil)
	}()
	if w.Body.Len() > 0 {
		t.Errorf("answered %q", w.Body)
	}
	lines := logs.FilterMessage("decision").All()
	if len(lines) != 1 {
		t.Fatalf("%d decision-log lines", len(lines))
	}
	fields := lines[0].ContextMap()
	if fields["outcome"] != "panic" || fields["verdict"] != "deny" || fields["reason"] != "policy_error" {
		t.Errorf("%v", fields)
	}
	for _, entry := range logs.All() {
		for key, value := range entry.ContextMap() {
			if text, ok := value.(string); ok && strings.Contains(text, "planted") {
				t.Errorf("%s: %s", key, text)
			}
		}
	}
	if got := caddyhttp.GetVar(r.Context(), "metaguard.outcome"); got != "panic" {
		t.Errorf("variable %v", got)
	}
}
