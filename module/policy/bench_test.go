// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"
	"strings"
	"testing"

	"github.com/metaguard/metaguard/module/decision"
)

// BenchmarkDecide measures whole decisions with the built-in policy, each
// evaluated, and one that is remembered.
func BenchmarkDecide(b *testing.B) {
	b.Run("remembered", func(b *testing.B) {
		decide(b, engine(b, Config{}), instance(decision.KindMetadata, decision.Read))
	})
	for name, in := range map[string]*decision.Input{
		"metadata":      instance(decision.KindMetadata, decision.Read),
		"listing":       instance(decision.KindListing, decision.Read),
		"password-read": instance(decision.KindPassword, decision.Read),
		"write":         instance(decision.KindPassword, decision.Write),
	} {
		b.Run(name, func(b *testing.B) {
			e := engine(b, Config{Cache: -1})
			decide(b, e, in)
		})
	}
	for _, n := range []int{10, 100_000} {
		b.Run(fmt.Sprintf("grants-%d", n), func(b *testing.B) {
			var grants strings.Builder
			grants.WriteString(`{"metaguard": {"grants": {"instance_id": {"x": []`)
			for i := range n {
				fmt.Fprintf(&grants, ",\n\"instance-%d\": [\"password:read\"]", i)
			}
			grants.WriteString(`}}}}`)
			e := engine(b, Config{Cache: -1, Paths: []string{dir(b, files{"data.json": grants.String()})}})
			in := instance(decision.KindPassword, decision.Read)
			in.Caller.InstanceID = "instance-7"
			in.Target.InstanceID = in.Caller.InstanceID
			decide(b, e, in)
		})
	}
}

func decide(b *testing.B, e *Engine, in *decision.Input) {
	b.Helper()
	b.ReportAllocs()
	for b.Loop() {
		if r := e.Decide(b.Context(), in); r.Err != nil {
			b.Fatal(r.Err)
		}
	}
}

// BenchmarkNew measures loading the built-in policy.
func BenchmarkNew(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := New(b.Context(), Config{}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkSignature measures one look at a hundred files.
func BenchmarkSignature(b *testing.B) {
	content := files{}
	for i := range 100 {
		content[fmt.Sprintf("d%d/f%d.rego", i%10, i)] = "package x\n"
	}
	root := dir(b, content)
	b.ReportAllocs()
	for b.Loop() {
		signature([]string{root})
	}
}

// BenchmarkRecord measures the decision event, without and with OPA's log.
func BenchmarkRecord(b *testing.B) {
	sink := newLogSink(b)
	for name, e := range map[string]*Engine{
		"caddy-only": engine(b, Config{}),
		"service":    remoteEngine(b, Config{OPA: logConfig(b, sink.URL, "")}),
	} {
		b.Run(name, func(b *testing.B) {
			result := e.Decide(b.Context(), instance(decision.KindMetadata, decision.Read))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := e.Record(b.Context(), &result, About{ID: "x"}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// A decision that must be evaluated allocates no more than it did.
func TestDecideAllocatesNoMore(t *testing.T) {
	if raced {
		t.Skip("the race detector allocates")
	}
	e := engine(t, Config{Cache: -1})
	for what, tt := range map[string]struct {
		most float64
		in   *decision.Input
	}{
		"an instance reads its own":         {118, instance(decision.KindMetadata, decision.Read)},
		"an instance writes its password":   {232, instance(decision.KindPassword, decision.Write)},
		"an instance asks for its password": {340, instance(decision.KindPassword, decision.Read)},
	} {
		if got := testing.AllocsPerRun(100, func() { e.Decide(t.Context(), tt.in) }); got > tt.most {
			t.Errorf("%s: %v allocations, at most %v", what, got, tt.most)
		}
	}
}
