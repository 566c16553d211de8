// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"
)

// Of very many mistakes some are told, and how many more there are. A level that is
// missing in the data is one for each caller, whose places are not all sought.
func TestManyMistakes(t *testing.T) {
	const callers = 10 * tableFrom
	members := make([]string, callers)
	for i := range members {
		members[i] = fmt.Sprintf("\"i-%d\": [\"password:read\"]", i)
	}
	grants := "{" + strings.Join(members, ",\n") + "}"
	for name, tc := range map[string]struct {
		data, code string
		third      int // line
		more       int
	}{
		"grants that mean nothing": {`{"metaguard": {"grants": {"instance_id": ` + strings.ReplaceAll(grants, "password:", "passwords:") + `}}}`, CodeGrantInvalid, 11, callers - maxErrors},
		"no instance_id":           {`{"metaguard": {"grants": ` + grants + `}}`, CodeGrantInvalid, 11, callers - maxErrors},
		"no grants":                {`{"metaguard": ` + grants + `}`, CodeDataUnknownName, 11, callers - maxErrors},
		"other settings":           {`{"metaguard": {"settings": ` + grants + `}}`, CodeSettingsInvalid, 11, callers - maxErrors},
		"accept":                   {`{"metaguard": {"settings": {"accept": ["` + strings.Repeat(`a", "`, callers-1) + `"]}}}`, CodeSettingsInvalid, 1, callers - maxErrors},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := New(t.Context(), Config{Paths: []string{dir(t, files{"a.json": tc.data})}})
			found := findingsOf(t, err)
			last := found[len(found)-1]
			if found[0].Code != tc.code || found[0].Line != 1 || found[min(2, len(found)-2)].Line != tc.third || last.Code != CodeMore || last.Message != fmt.Sprintf("findings left out: %d", tc.more) {
				t.Errorf("%d findings: %v … %v", len(found), found[0], last)
			}
		})
	}
	t.Run("no metaguard", func(t *testing.T) {
		warnings := engine(t, Config{Paths: []string{dir(t, files{"a.json": grants})}}).Policy().Warnings()
		last := warnings[len(warnings)-1]
		if warnings[0].Code != CodeDataUnread || last.Code != CodeMore || last.Message != fmt.Sprintf("findings left out: %d", callers-maxErrors) {
			t.Errorf("%d warnings: %v … %v", len(warnings), warnings[0], last)
		}
	})
	t.Run("a long name", func(t *testing.T) {
		_, err := New(t.Context(), Config{Paths: []string{dir(t, files{"a.json": `{"metaguard": {"` + strings.Repeat("é", 1<<20) + `": {}}}`})}})
		if found := findingsOf(t, err); len(found) != 1 || len(found[0].Message) > maxMessage+len("…") || !utf8.ValidString(found[0].Message) {
			t.Errorf("%d findings, the first one has %d bytes", len(found), len(found[0].Message))
		}
	})
}
