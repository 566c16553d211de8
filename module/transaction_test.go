// SPDX-License-Identifier: Apache-2.0

package module

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/metaguard/metaguard/module/canonical"
	"github.com/metaguard/metaguard/module/decision"
	"github.com/metaguard/metaguard/module/dialect"
	"github.com/metaguard/metaguard/module/password"
	"github.com/metaguard/metaguard/module/response"
)

// oneRecord is a latch for one instance.
type oneRecord struct{ record password.Record }

func (l *oneRecord) Load(context.Context, password.Key) (password.Record, password.Version, error) {
	return l.record, "", nil
}

func (l *oneRecord) Swap(_ context.Context, _ password.Key, _ password.Version, next password.Record) (password.Version, error) {
	l.record = next
	return "", nil
}

func (l *oneRecord) Reset(context.Context, password.Key) error { return nil }

// broken is a connection that is found broken when the answer is to go out.
type broken struct{ *httptest.ResponseRecorder }

func (broken) FlushError() error { return errors.New("broken pipe") }

// Only who has got the whole answer may have the server forget the password.
func TestReadIsDelivered(t *testing.T) {
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for name, test := range map[string]struct {
		ctx     context.Context //nolint:containedctx // a row of a table
		w       http.ResponseWriter
		outcome outcome
		fine    bool
	}{
		"delivered":     {t.Context(), httptest.NewRecorder(), outcomeForwarded, true},
		"cannot be put": {t.Context(), broken{httptest.NewRecorder()}, outcomeForwarded, false},
		"hung up":       {gone, httptest.NewRecorder(), outcomeForwarded, false},
		"refused":       {t.Context(), httptest.NewRecorder(), outcomeFailed, false},
	} {
		keeper, err := password.NewKeeper(password.Config{Latch: new(oneRecord), Limits: password.Limits{MaxSize: 255}})
		if err != nil {
			t.Fatal(err)
		}
		read, refusal := keeper.BeginRead(t.Context(), "i-1", "vm")
		if refusal != nil {
			t.Fatal(refusal)
		}
		read.Saw(password.SeenPassword, []byte("made by the server"))
		x := &exchange{w: test.w, r: httptest.NewRequest(http.MethodGet, "/", nil).WithContext(test.ctx), outcome: test.outcome}
		x.transaction.read = read
		x.settleRead()
		if _, _, refusal := keeper.Acknowledge(t.Context(), "i-1", "vm"); (refusal == nil) != test.fine || x.err != nil {
			t.Errorf("%s: %v, %v", name, refusal, x.err)
		}
	}
}

// A client that has its answer reads on, or acknowledges, while the end of its read is
// still to be told. What its reads have found counts in their order all the same.
func TestReadsCountInTheirOrder(t *testing.T) {
	for name, answers := range map[string][]string{
		"a password after none":                {"saved_password", "new"},
		"a password after none, read twice":    {"saved_password", "new", "new"},
		"a password after another":             {"old", "new"},
		"a password after another, and a word": {"old", "new", "bad_request"},
		"the same password after none":         {"new", "saved_password", "new"},
	} {
		keeper, err := password.NewKeeper(password.Config{
			Latch: new(oneRecord), Limits: password.Limits{MaxSize: 255}, FingerprintKeys: []decision.Secret{decision.NewSecret(strings.Repeat("k", password.MinFingerprintKey))},
		})
		if err != nil {
			t.Fatal(err)
		}
		var late []*exchange
		for _, answer := range answers {
			x := &exchange{
				h: &Handler{traits: new(dialect.CloudStack).Traits()}, w: httptest.NewRecorder(), r: httptest.NewRequest(http.MethodGet, "/", nil),
				keeper: keeper, caller: &decision.Caller{ID: "vm"}, target: decision.Target{InstanceID: "i-1"},
				match: dialect.Match{Transaction: dialect.TransactionRead}, reply: &response.Answer{Status: http.StatusOK, Body: []byte(answer)},
				outcome: outcomeForwarded,
			}
			for _, step := range []func() *decision.Refusal{x.beginTransaction, x.checkIssued} {
				if refusal := step(); refusal != nil {
					t.Fatalf("%s: %v", name, refusal)
				}
			}
			late = append(late, x)
		}
		for _, x := range slices.Backward(late) {
			x.settleRead()
		}
		if a, _, refusal := keeper.Acknowledge(t.Context(), "i-1", "vm"); refusal != nil || a == nil {
			t.Errorf("%s: %v", name, refusal)
		}
	}
}

// An acknowledgement whose answer there is no memory for is not sent: the server would
// forget the password, and nobody would know.
func TestAcknowledgementNeedsMemory(t *testing.T) {
	keeper, err := password.NewKeeper(password.Config{Latch: new(oneRecord), Limits: password.Limits{MaxSize: 255}})
	if err != nil {
		t.Fatal(err)
	}
	read, refusal := keeper.BeginRead(t.Context(), "i-1", "vm")
	if refusal != nil {
		t.Fatal(refusal)
	}
	read.Saw(password.SeenPassword, []byte("made by the server"))
	if refusal := read.Settle(true); refusal != nil {
		t.Fatal(refusal)
	}
	x := &exchange{
		h: &Handler{Response: ResponseConfig{MaxBuffer: 1 << 20}, budget: response.NewBudget(100)}, r: httptest.NewRequest(http.MethodGet, "/", nil),
		request: new(canonical.Request), caller: new(decision.Caller),
	}
	if x.transaction.acknowledgement, _, refusal = keeper.Acknowledge(t.Context(), "i-1", "vm"); refusal != nil {
		t.Fatal(refusal)
	}
	if refusal := x.forward(); refusal == nil || refusal.Code != "budget_full" || !x.unsent {
		t.Errorf("%v, unsent: %v", refusal, x.unsent)
	}
}

// A password is some instance's, or it is not written.
func TestWriteWithoutInstance(t *testing.T) {
	for instance, code := range map[string]string{"i-1": "", "": "write_without_instance"} {
		x := &exchange{
			h: &Handler{dialect: new(dialect.OpenStack)}, r: httptest.NewRequest(http.MethodPost, "/", nil),
			request: &canonical.Request{Method: http.MethodPost, Segments: []string{"openstack", "latest", "password"}},
			caller:  &decision.Caller{Source: "process", ID: "process:vm", InstanceID: instance},
		}
		refusal := x.classify()
		if (refusal == nil) != (code == "") || refusal != nil && (refusal.Reason != decision.TargetUnknown || refusal.Code != code) {
			t.Errorf("%q: %v", instance, refusal)
		}
	}
}
