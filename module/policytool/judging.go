// SPDX-License-Identifier: Apache-2.0

package policytool

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/metaguard/metaguard/module/policy"
)

// describe says in a few words which policy it is that was loaded.
func (l *loader) describe(p *policy.Policy) string {
	paths := strings.Join(l.paths, ", ")
	switch {
	case l.server != "" && paths != "":
		return "the server's, with " + paths + " added"
	case l.server != "":
		return "the server's"
	case paths != "":
		return paths + " (" + plural(p.Files(), "file") + ") and the built-in policy"
	default:
		return "the built-in policy"
	}
}

// judging is which policy judges a log, and by which it was recorded.
type judging struct {
	// Policy is the one that judges, in words.
	Policy string `json:"policy"`
	// Revision is that policy's.
	Revision string `json:"revision"`
	// Recorded are the revisions that decided at the time, the latest first.
	Recorded []string `json:"recorded_revisions"`
}

// maxRevisions bounds the memory for what a log says of revisions.
const maxRevisions = 1000

// revisions are those that a log was recorded under, with when each was last
// seen.
type revisions map[string]time.Time

func (r revisions) see(revision string, at time.Time) {
	last, known := r[revision]
	if revision == "" || !known && len(r) >= maxRevisions {
		return
	}
	if !known || at.After(last) {
		r[revision] = at
	}
}

// list has the latest first.
func (r revisions) list() []string {
	return slices.SortedFunc(maps.Keys(r), func(a, b string) int {
		return cmp.Or(r[b].Compare(r[a]), strings.Compare(a, b))
	})
}

// print is the top of what is shown of a log.
func (j *judging) print(w io.Writer) error {
	_, err := fmt.Fprintf(w, "policy    %s, revision %s\nrecorded  %s\n\n", plain(j.Policy), plain(shortRevision(j.Revision)), plain(j.recorded()))
	return err
}

// recorded says what the log was recorded under.
func (j *judging) recorded() string {
	if len(j.Recorded) == 0 {
		return "under no revision that the log names"
	}
	text := "under revision "
	if more := len(j.Recorded); more > 1 {
		text = fmt.Sprintf("under %d revisions, the last is ", more)
	}
	text += shortRevision(j.Recorded[0])
	if j.same() {
		text += ", which is this policy's"
	}
	return text
}

// same tells that the policy that judges is the one that decided last.
func (j *judging) same() bool { return len(j.Recorded) > 0 && j.Recorded[0] == j.Revision }

// warn tells of a draft that is made for another policy than the one in force.
func (j *judging) warn(w io.Writer) {
	if len(j.Recorded) == 0 || j.same() {
		return
	}
	_, _ = fmt.Fprintf(w, "Warning: the log was last recorded under revision %s, and the draft is for %s (%s): give --policy or --server with the policy in force: a grant that it has is drafted again otherwise\n",
		plain(shortRevision(j.Recorded[0])), plain(j.Policy), plain(shortRevision(j.Revision)))
}
