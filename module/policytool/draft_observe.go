// SPDX-License-Identifier: Apache-2.0

package policytool

import (
	"cmp"
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown/builtins"

	"github.com/metaguard/metaguard/module/decision"
	"github.com/metaguard/metaguard/module/policy"
)

// maxObserved bounds the memory for what was denied.
const maxObserved = 1 << 19

// observed is one request that was denied, or had something hidden from its
// answer, as often as it was made.
type observed struct {
	input   ast.Value
	time    time.Time
	answers builtins.NDBCache
	// id, file and line are of the last time.
	id    string
	file  string
	line  int
	count int
	// hides tells that it was allowed, with admin_pass hidden from the answer.
	hides bool

	// holder is who would get the grants; by role there may be several.
	holder holder
	// needs are the grants that would have allowed it.
	needs []string
	// problem is why no grant helps, and rules are the places that say so.
	problem string
	rules   []string
	// leftOut tells that a grant is needed which was not asked for.
	leftOut bool
}

// drafter collects what was denied and drafts grants for it.
type drafter struct {
	policy *policy.Policy
	config policy.Config
	// held has the holders of grants in the policy's data.
	held    map[holder]bool
	by      string
	include []string
	denied  bool
	// asksClock tells that the same question may have another answer later.
	asksClock bool

	mu       sync.Mutex
	observed map[observedKey]*observed
	// seen are all decisions, and enforced those that were left out because
	// they were denied in earnest.
	seen, enforced int
	// recorded are the revisions that decided at the time.
	recorded revisions
}

// observedKey tells requests apart.
type observedKey struct {
	input  uint64
	time   int64
	hides  bool
	reason decision.Reason
}

// asksClock tells whether a policy may answer the same question otherwise.
func asksClock(ctx context.Context, p *policy.Policy) bool {
	return p.Judge(ctx, policy.Query{Input: ast.NewObject(), Unbounded: true}).Answers != nil
}

// observe reads the logs.
func (d *drafter) observe(ctx context.Context, logs []string, bar *progress) error {
	each := make([]func(*record) error, runtime.GOMAXPROCS(0))
	for i := range each {
		each[i] = func(r *record) error {
			bar.decisions.Add(1)
			return d.add(ctx, r)
		}
	}
	return readParallel(ctx, logs, &bar.bytes, each)
}

// add takes one decision into account.
func (d *drafter) add(ctx context.Context, r *record) error {
	hides := r.Verdict == decision.Allow && r.Mode == "audit" && slices.Contains(r.Redact.Keys, adminPass) &&
		text(r.Input, "resource", "kind") == string(decision.KindMetadata)
	denied := r.Verdict == decision.WouldDeny || r.Verdict == decision.Deny && r.Reason.OfPolicy()
	enforced := denied && r.Verdict == decision.Deny && !d.denied

	d.mu.Lock()
	d.seen++
	d.recorded.see(r.Revision, r.Time)
	if enforced {
		d.enforced++
	}
	if !hides && !denied || enforced {
		d.mu.Unlock()
		return nil
	}
	key := observedKey{input: r.question, hides: hides, reason: r.Reason}
	if d.asksClock {
		key.time = r.Time.UnixNano()
	}
	o, known := d.observed[key]
	if !known {
		if len(d.observed) >= maxObserved {
			d.mu.Unlock()
			return fmt.Errorf("more than %d different requests were denied: draft from a part of the log", maxObserved)
		}
		o = &observed{hides: hides}
		d.observed[key] = o
	}
	o.see(r)
	d.mu.Unlock()
	if known {
		return nil
	}
	// The other fields belong to whoever came first.
	return d.explain(ctx, o, r)
}

// see counts one more of the same request.
func (o *observed) see(r *record) {
	o.count++
	if o.count > 1 && cmp.Or(r.Time.Compare(o.time), strings.Compare(r.File, o.file), cmp.Compare(r.Line, o.line)) < 0 {
		return
	}
	o.input, o.time, o.id, o.file, o.line, o.answers = r.Input, r.Time, r.ID, r.File, r.Line, r.Answers
}

// list gives what was observed in an order that does not depend on the reading.
func (d *drafter) list() []*observed {
	list := make([]*observed, 0, len(d.observed))
	for _, o := range d.observed {
		list = append(list, o)
	}
	slices.SortFunc(list, func(a, b *observed) int {
		return cmp.Or(a.time.Compare(b.time), strings.Compare(a.file, b.file), cmp.Compare(a.line, b.line))
	})
	return list
}
