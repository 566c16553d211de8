// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"

	"github.com/metaguard/metaguard/module/decision"
	"github.com/metaguard/metaguard/module/dialect"
)

// harmless are the questions that can be put to a server of a dialect: reading
// what they ask for has no effect.
type harmless struct {
	tree     question // a listing or what the instance is
	metadata question // what the instance is; may be the same
	who      question // one word that depends on who asks, and is the same each time
	password *question
}

// questionsFor picks them from the dialect's samples. A password is asked for
// only where it can be read again: CloudStack's server forgets one that was read,
// and what one of a generic dialect does nobody has said.
func questionsFor(d dialect.Dialect) (harmless, bool) {
	traits := d.Traits()
	header := http.Header{}
	if traits.Required.Name != "" {
		header.Set(traits.Required.Name, traits.Required.Value)
	}
	var asked harmless
	found := false
	for _, sample := range d.Samples() {
		if sample.Method != http.MethodGet {
			continue
		}
		q := question{path: sample.Path + queryFor(d), header: header}
		match := d.Classify(dialect.Request{
			Method: sample.Method, TrailingSlash: sample.Path != "/" && strings.HasSuffix(sample.Path, "/"),
			Segments: strings.FieldsFunc(sample.Path, func(r rune) bool { return r == '/' }),
		})
		kind := match.Resource.Kind
		if kind == decision.KindMetadata && match.Format == dialect.Text && asked.who.path == "" {
			asked.who = q
		}
		switch {
		case kind == decision.KindListing && asked.tree.path == "" && sample.Path != "/":
			asked.tree, found = q, true
		case kind == decision.KindMetadata && asked.metadata.path == "":
			asked.metadata, found = q, true
		case kind == decision.KindPassword && asked.password == nil && readsAgain(d):
			asked.password = &q
		}
	}
	if asked.tree.path == "" {
		asked.tree = asked.metadata
	}
	if asked.metadata.path == "" {
		asked.metadata = asked.tree
	}
	if asked.who.path == "" {
		asked.who = asked.metadata
	}
	return asked, found
}

// readsAgain tells whether a password stays when it is read.
func readsAgain(d dialect.Dialect) bool { return !d.Traits().Issues && d.Name() != "generic" }

// queryFor is what every question of a dialect must have.
func queryFor(d dialect.Dialect) string {
	if d.Name() == "azure" {
		return "?" + url.Values{"api-version": {"2021-02-01"}}.Encode()
	}
	return ""
}

// forged are headers with which somebody would claim to be another. The
// signature is no signature.
func forged(who subject) http.Header {
	header := http.Header{}
	header.Set("X-Instance-Id", who.instance)
	header.Set("X-Tenant-Id", who.project)
	header.Set("X-Instance-Id-Signature", strings.Repeat("0", 64))
	return header
}

// subject is an instance that somebody could claim to be.
type subject struct {
	instance, project, address string
}

// nobody is an instance that there is not.
var nobody = subject{"00000000-0000-4000-8000-000000000000", "00000000000040008000000000000000", "192.0.2.1"}

// maxInventory bounds what is read to find an instance, in bytes.
const maxInventory = 64 << 20

// somebody is an instance of the guard's inventory, or nobody.
func (g *guard) somebody() subject {
	for _, source := range g.identities() {
		path := textAt(source.object, "inventory")
		if path == "" {
			path = textAt(source.object, "target", "inventory")
		}
		info, err := os.Stat(path)
		if err != nil || !info.Mode().IsRegular() || info.Size() > maxInventory {
			continue
		}
		content, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		var entries []struct {
			Address    string `json:"address"`
			InstanceID string `json:"instance_id"`
			ProjectID  string `json:"project_id"`
		}
		if json.Unmarshal(content, &entries) != nil {
			continue
		}
		// The last one: whoever runs the doctor is more likely to be the first.
		for _, entry := range slices.Backward(entries) {
			if entry.InstanceID != "" && !strings.Contains(entry.Address, "/") {
				return subject{entry.InstanceID, entry.ProjectID, entry.Address}
			}
		}
	}
	return nobody
}

// with adds headers to a question.
func (q question) with(more http.Header) question {
	header := q.header.Clone()
	if header == nil {
		header = http.Header{}
	}
	for name, values := range more {
		header[name] = values
	}
	q.header = header
	return q
}
