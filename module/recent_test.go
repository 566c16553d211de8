// SPDX-License-Identifier: Apache-2.0

package module

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/metaguard/metaguard/module/canonical"
	"github.com/metaguard/metaguard/module/decision"
	"github.com/metaguard/metaguard/module/dialect"
	"github.com/metaguard/metaguard/module/policy"
)

// The ring keeps the newest, and knows how many there were.
func TestRecent(t *testing.T) {
	var r recent
	if kept, ever := r.all(); len(kept) != 0 || ever != 0 {
		t.Errorf("%d of %d in an empty one", len(kept), ever)
	}
	for i := range maxRecent + 10 {
		r.add(&decisionLine{status: i})
	}
	kept, ever := r.all()
	if len(kept) != maxRecent || ever != maxRecent+10 {
		t.Fatalf("%d of %d", len(kept), ever)
	}
	for i, one := range kept {
		if one.status != maxRecent+9-i {
			t.Fatalf("at %d is %d", i, one.status)
		}
	}
}

// Whatever clients and policies say, what is kept of it is bounded.
func TestRecentIsBounded(t *testing.T) {
	var r recent
	long, list := strings.Repeat("ä", maxRecentText), make([]string, 1000)
	for i := range list {
		list[i] = long
	}
	r.add(&decisionLine{method: "GET", path: "x" + long, source: "neutron", caller: "me", judged: true, codes: list, rules: texts{"a.rego:1"}, status: 1})
	kept, _ := r.all()
	line, err := recentEncoder.Clone().EncodeEntry(zapcore.Entry{Time: kept[0].at}, []zap.Field{kept[0].field()})
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Path, Caller string
		Codes, Rules []string
		Status       int
	}
	if err := json.Unmarshal(line.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Path) > maxRecentText+len("…") || !strings.HasPrefix("x"+long, strings.TrimSuffix(got.Path, "…")) ||
		len(got.Codes) != maxRecentList || len(got.Codes[0]) > maxRecentEntry+len("…") {
		t.Errorf("%d bytes of text, %d entries of %d bytes", len(got.Path), len(got.Codes), len(got.Codes[0]))
	}
	if got.Caller != "me" || got.Rules[0] != "a.rego:1" || got.Status != 1 {
		t.Errorf("%+v", got)
	}
	if list[0] != long {
		t.Error("the decision's own list was changed")
	}
}

// Who asks while decisions are added gets whole ones.
func TestRecentTogether(t *testing.T) {
	var r recent
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			for n := range 3000 {
				text := fmt.Sprint(i, "-", n)
				r.add(&decisionLine{caller: text, id: text})
			}
		})
		all.Go(func() {
			for range 50 {
				kept, _ := r.all()
				for _, one := range kept {
					if one.text("caller") != one.text("decision_id") {
						t.Errorf("%q and %q", one.text("caller"), one.text("decision_id"))
					}
				}
			}
		})
	}
	all.Wait()
	if kept, ever := r.all(); ever != 12000 || len(kept) != maxRecent {
		t.Errorf("%d of %d", len(kept), ever)
	}
}

// What is asked for is what is given, and what means nothing is refused.
func TestDecisionFilter(t *testing.T) {
	now := time.Date(2026, 1, 2, 15, 0, 0, 0, time.UTC)
	var r recent
	for i, verdict := range []decision.Verdict{decision.Allow, decision.Deny, decision.WouldDeny, decision.Deny} {
		reason := decision.PolicyAllow
		if verdict != decision.Allow {
			reason = decision.PolicyDeny
		}
		r.add(&decisionLine{
			at: now.Add(time.Duration(i-4) * time.Minute),
			id: fmt.Sprint(i), verdict: verdict, reason: reason, caller: fmt.Sprint("user:", i%2),
		})
	}
	for query, want := range map[string]string{
		"":                                  "3 2 1 0",
		"limit=2":                           "3 2",
		"verdict=deny":                      "3 1",
		"verdict=deny&limit=1":              "3",
		"verdict=would_deny":                "2",
		"reason=policy_allow":               "0",
		"reason=overloaded":                 "",
		"caller=user:0":                     "2 0",
		"caller=user":                       "",
		"decision_id=2":                     "2",
		"since=2m":                          "3 2",
		"since=-2m":                         "3 2",
		"since=2026-01-02T14:59:00Z":        "3",
		"since=2026-01-02T16:59:00%2b02:00": "3",
		"since=":                            "3 2 1 0",
		"caller=user:1&since=90s":           "3",
		"since=yesterday":                   "error: since",
		"limit=0":                           "error: limit",
		"limit=1001":                        "error: limit",
		"limit=x":                           "error: limit",
		"verdict=no":                        "error: verdict",
		"reason=no":                         "error: reason",
		"who=me":                            "error: the query has an unknown",
		"limit=1&limit=2":                   "error: the query has limit twice",
		"a;b":                               "error: the query cannot be read",
	} {
		got, err := filtered(&r, query, now)
		if err != nil {
			got = "error: " + err.Error()
		}
		if got != want && (!strings.HasPrefix(want, "error: ") || !strings.HasPrefix(got, want)) {
			t.Errorf("%s: %q, want %q", query, got, want)
		}
	}
}

// Whoever gets a part of what was asked for is told how much there is.
func TestDecisionsAreCounted(t *testing.T) {
	var r recent
	for i := range maxRecent + 5 {
		r.add(&decisionLine{at: time.Unix(int64(i), 0), verdict: []decision.Verdict{decision.Allow, decision.Deny}[i%2]})
	}
	filter, err := readDecisionFilter(url.Values{"verdict": {"deny"}, "limit": {"2"}}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	answer, err := filter.apply(&r)
	if err != nil || answer.Matched != maxRecent/2 || len(answer.Decisions) != 2 || answer.Ever != maxRecent+5 || answer.Overwritten != 5 {
		t.Errorf("%+v %v", answer, err)
	}
}

func filtered(r *recent, query string, now time.Time) (string, error) {
	known, err := knownQuery(&http.Request{URL: &url.URL{RawQuery: query}}, append([]string{"since", "limit"}, filterFields...)...)
	if err != nil {
		return "", err
	}
	filter, err := readDecisionFilter(known, now)
	if err != nil {
		return "", err
	}
	answer, err := filter.apply(r)
	if err != nil {
		return "", err
	}
	var ids []string
	for _, raw := range answer.Decisions {
		var d struct {
			ID string `json:"decision_id"`
		}
		if err := json.Unmarshal(raw, &d); err != nil {
			return "", err
		}
		ids = append(ids, d.ID)
	}
	return strings.Join(ids, " "), nil
}

// BenchmarkLog is the end of a request: the line of the decision log, and what is
// kept of it.
func BenchmarkLog(b *testing.B) {
	x := &exchange{
		h: &Handler{Mode: modeEnforce, dialect: &dialect.OpenStack{}, decisions: zap.NewNop()}, id: "8b6f", start: time.Now(), verdict: decision.Allow, reason: decision.PolicyAllow,
		outcome: outcomeForwarded, status: 200, request: &canonical.Request{Method: "GET", Path: "/openstack/latest/user_data"},
		caller: &decision.Caller{Source: "neutron", ID: "instance:1", ProjectID: "2"}, judged: true,
		result: policy.Result{Revision: "1", Rules: []string{"access.rego:1"}, Decision: decision.Decision{Allow: true, Reasons: []string{"own_instance"}}},
	}
	b.Run("log and keep", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			x.log()
		}
	})
	b.Run("keep", func(b *testing.B) {
		line := x.line()
		b.ReportAllocs()
		for b.Loop() {
			recentDecisions.add(line)
		}
	})
}
