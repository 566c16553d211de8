// SPDX-License-Identifier: Apache-2.0

package dialect

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/metaguard/metaguard/module/decision"
)

// cloudStackAsks classifies a path, with a DomU_Request where it is not empty.
func cloudStackAsks(path, command string) Match {
	r := Request{
		Method:        http.MethodGet,
		Segments:      strings.FieldsFunc(path, func(r rune) bool { return r == '/' }),
		TrailingSlash: path != "/" && strings.HasSuffix(path, "/"),
	}
	if command != "" {
		r.Header = http.Header{"DomU_Request": {command}}
	}
	return CloudStack{}.Classify(r)
}

func TestCloudStackClassify(t *testing.T) {
	for _, test := range []struct {
		path, command string
		kind          decision.Kind
		action        decision.Action
		key           string
		transaction   Transaction
		ambiguous     string
	}{
		{"/", "send_my_password", decision.KindPassword, decision.Read, "send_my_password", TransactionRead, ""},
		{"/", "saved_password", decision.KindPassword, decision.Write, "saved_password", TransactionAcknowledge, ""},
		{"/", "save_password", decision.KindUnknown, decision.Read, "", NoTransaction, ""},
		{"/", "SEND_MY_PASSWORD", decision.KindUnknown, decision.Read, "", NoTransaction, ""},
		{"/", "", decision.KindUnknown, decision.Read, "", NoTransaction, ""},
		{"/latest/vm-id", "send_my_password", "", "", "", NoTransaction, "command_with_path"},
		{"/x", "anything", "", "", "", NoTransaction, "command_with_path"},
		{"/latest", "", decision.KindUnknown, decision.Read, "", NoTransaction, ""},
		{"/latest/user-data", "", decision.KindUserdata, decision.Read, "user-data", NoTransaction, ""},
		{"/latest/meta-data/", "", decision.KindListing, decision.Read, "meta-data", NoTransaction, ""},
		{"/latest/meta-data/meta-data", "", decision.KindUnknown, decision.Read, "meta-data/meta-data", NoTransaction, ""},
		{"/latest/meta-data/instance-id", "", decision.KindMetadata, decision.Read, "meta-data/instance-id", NoTransaction, ""},
		{"/latest/instance-id", "", decision.KindMetadata, decision.Read, "instance-id", NoTransaction, ""},
		{"/latest/meta-data/of-the-user", "", decision.KindUserdata, decision.Read, "meta-data/of-the-user", NoTransaction, ""},
		{"/latest/of-the-user", "", decision.KindUnknown, decision.Read, "", NoTransaction, ""},
		{"/latest/meta-data/a/b", "", decision.KindUnknown, decision.Read, "", NoTransaction, ""},
		{"/2009-04-04/meta-data", "", decision.KindUnknown, decision.Read, "", NoTransaction, ""},
	} {
		match := cloudStackAsks(test.path, test.command)
		if match.Ambiguous != test.ambiguous {
			t.Errorf("%s %s: ambiguous %q", test.path, test.command, match.Ambiguous)
			continue
		}
		if r := match.Resource; r.Kind != test.kind || r.Action != test.action || r.Key != test.key || match.Transaction != test.transaction ||
			r.Sensitive != (test.kind == decision.KindPassword) || match.Body || match.Allows(http.MethodPost) {
			t.Errorf("%s %s: %+v", test.path, test.command, match)
		}
		if (match.Transaction != NoTransaction) != (match.Empty == "saved_password") {
			t.Errorf("%s %s: empty is %q", test.path, test.command, match.Empty)
		}
	}
	doubled := CloudStack{}.Classify(Request{Method: http.MethodGet, Header: http.Header{"DomU_Request": {"send_my_password", "saved_password"}}})
	if doubled.Ambiguous != "command_doubled" {
		t.Errorf("%+v", doubled)
	}
}

// A policy is tried with password requests too, though no path tells them.
func TestCloudStackSamples(t *testing.T) {
	found := map[decision.Kind][]decision.Action{}
	for _, in := range Samples(CloudStack{}) {
		found[in.Resource.Kind] = append(found[in.Resource.Kind], in.Resource.Action)
		if (in.Resource.Kind == decision.KindPassword) != (in.Request.Headers["domu_request"] != "") {
			t.Errorf("%+v", in)
		}
	}
	if !slices.Equal(found[decision.KindPassword], []decision.Action{decision.Read, decision.Write}) || len(found) != 5 {
		t.Errorf("%v", found)
	}
}

// FuzzCloudStackClassify: only the two words on "/" are requests for a password,
// and none of them, nor anything else, brings a body.
func FuzzCloudStackClassify(f *testing.F) {
	for _, path := range []string{"/", "/latest/meta-data/", "/latest/vm-id", "/x/"} {
		for _, command := range []string{"", "send_my_password", "saved_password", "save_password"} {
			f.Add(path, command)
		}
	}
	f.Fuzz(func(t *testing.T, path, command string) {
		match := cloudStackAsks(path, command)
		root := strings.Trim(path, "/") == ""
		password := root && (command == "send_my_password" || command == "saved_password")
		if (match.Resource.Kind == decision.KindPassword) != password || (match.Transaction != NoTransaction) != password {
			t.Errorf("%q %q: %+v", path, command, match)
		}
		if (command != "" && !root) != (match.Ambiguous != "") || match.Body || match.Allows(http.MethodPost) {
			t.Errorf("%q %q: %+v", path, command, match)
		}
	})
}
