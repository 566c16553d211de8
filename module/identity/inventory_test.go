// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/metaguard/metaguard/module/decision"
	"github.com/metaguard/metaguard/module/pace"
)

func writeFile(tb testing.TB, path, content string) {
	tb.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		tb.Fatal(err)
	}
}

func newRemoteIP(tb testing.TB, inventory string) *RemoteIP {
	tb.Helper()
	source := &RemoteIP{Inventory: filepath.Join(tb.TempDir(), "inventory.json")}
	writeFile(tb, source.Inventory, inventory)
	provision(tb, source.Provision)
	return source
}

const exampleInventory = `[
  {"address": "10.0.0.5", "instance_id": "` + instanceA + `", "project_id": "` + tenantA + `", "roles": ["windows", "b"]},
  {"address": "10.0.0.0/8", "project_id": "big"},
  {"address": "10.1.0.0/16", "roles": ["\u0077indows"]},
  {"address": "::ffff:192.0.2.1", "instance_id": "` + instanceB + `"},
  {"address": "::ffff:198.51.100.0/120"},
  {"address": "2001:db8::/32", "project_id": "v6"},
  {"\u0061ddress": "2001:db8::\u0035", "project_id": "one", "roles": []}
]
`

func TestInventoryLookup(t *testing.T) {
	source := newRemoteIP(t, exampleInventory)
	for address, want := range map[string]*decision.Caller{
		"10.0.0.5":        {ID: "instance:" + instanceA, InstanceID: instanceA, ProjectID: tenantA, Roles: []string{"windows", "b"}},
		"::ffff:10.0.0.5": {ID: "instance:" + instanceA, InstanceID: instanceA, ProjectID: tenantA, Roles: []string{"windows", "b"}},
		"10.0.0.6":        {ID: "address:10.0.0.6", ProjectID: "big"},
		"10.1.2.3":        {ID: "address:10.1.2.3", Roles: []string{"windows"}}, // the longest wins, nothing is merged
		"192.0.2.1":       {ID: "instance:" + instanceB, InstanceID: instanceB},
		"198.51.100.77":   {ID: "address:198.51.100.77"},
		"2001:db8::4":     {ID: "address:2001:db8::4", ProjectID: "v6"},
		"2001:db8::5":     {ID: "address:2001:db8::5", ProjectID: "one"},
		"192.0.2.2":       nil,
		"198.51.101.1":    nil,
		"::1":             nil,
		"::":              nil,
	} {
		peer := netip.MustParseAddr(address)
		caller, refusal := source.Identify(request(http.Header{"X-Forwarded-For": {"10.0.0.5"}}), peer)
		if want != nil {
			want.Source, want.Address = "remote_ip", peer.Unmap()
		}
		if caller != nil && len(caller.Roles) == 0 {
			caller.Roles = nil
		}
		if refusal != nil || !reflect.DeepEqual(caller, want) {
			t.Errorf("%s: caller %+v, want %+v; refusal %v", address, caller, want, refusal)
		}
	}
	if caller, _ := source.Identify(request(http.Header{}), netip.Addr{}); caller != nil {
		t.Errorf("a Unix socket is %+v", caller)
	}
	entry, _ := source.File().Lookup(netip.MustParseAddr("10.1.2.3"))
	if entry.Line != 4 {
		t.Errorf("line %d, want 4", entry.Line)
	}
	sum := sha256.Sum256([]byte(exampleInventory))
	status := source.Status()
	if status.Entries != 7 || status.Digest != hex.EncodeToString(sum[:]) || status.Path != source.Inventory || status.LoadedAt.IsZero() || status.LastError != "" {
		t.Errorf("status %+v", status)
	}
}

func TestInventoryErrors(t *testing.T) {
	for name, test := range map[string]struct {
		text         string
		line, column int
		problem      string
	}{
		"empty":               {"", 1, 1, "the file is empty"},
		"blank":               {" \n\n", 1, 1, "the file is empty"},
		"object":              {`{"address":"10.0.0.5"}`, 1, 1, "want a list"},
		"null":                {"\n null", 2, 2, "want a list"},
		"word":                {"hello", 1, 1, "not valid JSON"},
		"byte-order mark":     {"\ufeff[]", 1, 1, "not valid JSON"},
		"not closed":          {"[\n", 2, 1, "not valid JSON"},
		"entry not closed":    {"[\n{\"address\":\"10.0.0.5\"\n", 3, 1, "not valid JSON"},
		"no comma":            {"[\n{\"address\":\"10.0.0.5\"}\n{}]", 3, 1, "not valid JSON"},
		"trailing comma":      {"[\n{\"address\":\"10.0.0.5\"},\n]", 2, 23, "not valid JSON"},
		"comment":             {"[ // all\n]", 1, 3, "not valid JSON"},
		"invalid UTF-8":       {"[{\"address\":\"10.0.0.5\",\n\"roles\":[\"\xff\"]}]", 2, 11, "not valid JSON"},
		"key twice":           {"[{\"address\":\"10.0.0.5\",\n \"address\":\"10.0.0.6\"}]", 2, 2, "not valid JSON"},
		"two lists":           {"[]\n []", 2, 2, "something stands after the list"},
		"junk behind":         {"[] x", 1, 4, "not valid JSON"},
		"entry is a string":   {"[\n \"10.0.0.5\"]", 2, 2, "want an entry"},
		"entry is a list":     {"[{\"address\":\"10.0.0.5\"},\n  []]", 2, 3, "want an entry"},
		"no address":          {"[\n{\"project_id\":\"x\"}]", 2, 1, "no address"},
		"nothing in it":       {"[{}]", 1, 2, "no address"},
		"unknown key":         {"[{\"address\":\"10.0.0.5\",\n  \"role\":[]}]", 2, 3, `unknown key "role"`},
		"key in another case": {"[{\"Address\":\"10.0.0.5\"}]", 1, 3, `unknown key "Address"`},
		"address a number":    {"[{\"address\": 10}]", 1, 14, "address must be a string"},
		"address null":        {"[{\"address\":\n null}]", 2, 2, "address must be a string"},
		"address empty":       {`[{"address":""}]`, 1, 13, "the address is empty"},
		"address a name":      {`[{"address":"vm1"}]`, 1, 13, `"vm1" is neither`},
		"address blank":       {`[{"address":"10.0.0.5 "}]`, 1, 13, "is neither"},
		"address octal":       {`[{"address":"010.0.0.5"}]`, 1, 13, "is neither"},
		"address a range":     {`[{"address":"10.0.0.5-9"}]`, 1, 13, "is neither"},
		"address zone":        {`[{"address":"fe80::1%eth0"}]`, 1, 13, "has a zone"},
		"prefix zone":         {`[{"address":"fe80::1%eth0/64"}]`, 1, 13, "is neither"},
		"prefix too long":     {`[{"address":"10.0.0.5/33"}]`, 1, 13, "is neither"},
		"host bits":           {`[{"address":"10.1.2.3/16"}]`, 1, 13, "write 10.1.0.0/16, or 10.1.2.3"},
		"host bits, IPv6":     {`[{"address":"2001:db8::5/64"}]`, 1, 13, "write 2001:db8::/64, or 2001:db8::5"},
		"host bits, mapped":   {`[{"address":"::ffff:10.1.2.3/112"}]`, 1, 13, "write 10.1.0.0/16, or 10.1.2.3"},
		"mapped, too short":   {`[{"address":"::ffff:0:0/80"}]`, 1, 13, "write the IPv4 prefix"},
		"everybody":           {`[{"address":"0.0.0.0/0"}]`, 1, 13, "covers every address"},
		"everybody, IPv6":     {`[{"address":"::/0"}]`, 1, 13, "covers every address"},
		"everybody, mapped":   {`[{"address":"::ffff:0:0/96"}]`, 1, 13, "covers every address"},
		"nobody":              {`[{"address":"0.0.0.0"}]`, 1, 13, "nobody's address"},
		"twice":               {"[{\"address\":\"10.0.0.5\"},\n {\"address\":\"10.0.0.6\"},\n {\"address\":\"10.0.0.5\"}]", 3, 13, "10.0.0.5/32 is already the entry of line 1"},
		"twice, as prefix":    {"[{\"address\":\"10.0.0.5\"},\n {\"address\":\"10.0.0.5/32\"}]", 2, 13, "line 1"},
		"twice, mapped":       {"[\n{\"address\":\"10.0.0.5\"},\n {\"address\":\"::ffff:a00:5\"}]", 3, 13, "line 2"},
		"twice, IPv6":         {"[{\"address\":\"2001:db8::/64\"},\n {\"address\":\"2001:0db8::0/64\"}]", 2, 13, "line 1"},
		"id empty":            {`[{"address":"10.0.0.5","instance_id":""}]`, 1, 38, "is neither a UUID"},
		"id upper case":       {`[{"address":"10.0.0.5","instance_id":"` + strings.ToUpper(instanceB) + `"}]`, 1, 38, "in lower case"},
		"id without dashes":   {`[{"address":"10.0.0.5","instance_id":"` + tenantA + `"}]`, 1, 38, "is neither a UUID"},
		"id too long":         {`[{"address":"10.0.0.5","instance_id":"` + strings.Repeat("a", 5000) + `"}]`, 1, 38, "is neither a UUID"},
		"id a number":         {`[{"instance_id":7}]`, 1, 17, "instance_id must be a string"},
		"project empty":       {`[{"project_id":""}]`, 1, 16, "leave it out"},
		"project with blank":  {`[{"project_id":"a b"}]`, 1, 16, "project_id"},
		"project with CR":     {`[{"project_id":"a\r\nX-Instance-ID: b"}]`, 1, 16, "project_id"},
		"project too long":    {`[{"project_id":"` + strings.Repeat("a", 65) + `"}]`, 1, 16, "1 to 64"},
		"project a list":      {`[{"project_id":[]}]`, 1, 16, "project_id must be a string"},
		"roles a string":      {`[{"roles": "windows"}]`, 1, 12, "roles must be a list"},
		"roles null":          {`[{"roles":null}]`, 1, 11, "roles must be a list"},
		"role a number":       {"[{\"roles\":[\"a\",\n 7]}]", 2, 2, "a role must be a string"},
		"role a list":         {`[{"roles":["a", ["b"]]}]`, 1, 17, "a role must be a string"},
		"role empty":          {`[{"roles":["a", ""]}]`, 1, 17, "a role is empty"},
		"role twice":          {`[{"roles":["a","\u0061"]}]`, 1, 16, `role "a" is given twice`},
		"role with NUL":       {`[{"roles":["\u0000"]}]`, 1, 12, "control character"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "inventory.json")
			writeFile(t, path, test.text)
			inventory, err := LoadInventory(path, new(pace.Pace))
			var at *InventoryError
			if !errors.As(err, &at) || inventory != nil {
				t.Fatalf("inventory %v, error %v", inventory, err)
			}
			if at.Path != path || at.Line != test.line || at.Column != test.column || !strings.Contains(at.Problem, test.problem) {
				t.Errorf("%v\nwant %d:%d %s", err, test.line, test.column, test.problem)
			}
			if want := fmt.Sprintf("%s:%d:%d: ", path, test.line, test.column); !strings.Contains(err.Error(), want) {
				t.Errorf("%v does not say %s", err, want)
			}
			if len(err.Error()) > len(path)+400 {
				t.Errorf("an error of %d bytes", len(err.Error()))
			}
		})
	}
}

// A position is right far down a file that is read in many pieces.
func TestInventoryErrorFarDown(t *testing.T) {
	var text strings.Builder
	text.WriteString("[")
	for i := range 70000 {
		fmt.Fprintf(&text, "\n\n{\"address\":\"10.%d.%d.%d\"},", i>>16, i>>8&255, i&255)
	}
	lines := strings.Count(text.String(), "\n") + 1
	text.WriteString("\n  {\"address\":\"10.0.0.7\"}]")
	_, err := readInventory("x", iotest.HalfReader(strings.NewReader(text.String())), new(pace.Pace))
	var at *InventoryError
	if !errors.As(err, &at) || at.Line != lines+1 || at.Column != 14 || !strings.Contains(at.Problem, "line 17:") {
		t.Errorf("%v, want line %d, column 14, earlier line 17", err, lines+1)
	}
}

func TestInventoryFileErrors(t *testing.T) {
	dir := t.TempDir()
	for _, path := range []string{filepath.Join(dir, "missing"), dir, filepath.Join(dir, "missing", "x")} {
		_, err := LoadInventory(path, new(pace.Pace))
		if err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", path, err)
		}
		if err := provisionError(t, (&RemoteIP{Inventory: path}).Provision); err == nil {
			t.Errorf("%s is provisioned", path)
		}
	}
	if err := provisionError(t, new(RemoteIP).Provision); err == nil {
		t.Error("no path is provisioned")
	}
	broken := errors.New("disk on fire")
	if _, err := readInventory("x", iotest.ErrReader(broken), new(pace.Pace)); !errors.Is(err, broken) {
		t.Errorf("a read error is %v", err)
	}
}

func TestInventoryEmptyList(t *testing.T) {
	source := newRemoteIP(t, " [ ] \n")
	if caller, refusal := source.Identify(request(http.Header{}), loopback); caller != nil || refusal != nil {
		t.Errorf("caller %+v, refusal %v", caller, refusal)
	}
	if status := source.Status(); status.Entries != 0 || status.Digest == "" {
		t.Errorf("status %+v", status)
	}
}

// More instances than one chunk of caller ids holds.
func TestInventoryManyInstances(t *testing.T) {
	inventory, err := readInventory("x", strings.NewReader(manyEntries(3*callersPerChunk+1)), new(pace.Pace))
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range []int{0, 1, callersPerChunk - 1, callersPerChunk, 2*callersPerChunk + 5, 3 * callersPerChunk} {
		address, id := entryOf(i)
		entry, ok := inventory.Lookup(address)
		if !ok || entry.InstanceID != id || entry.CallerID != "instance:"+id || entry.Line != i+2 {
			t.Errorf("%s: %+v, want %s", address, entry, id)
		}
	}
}

// Not every cloud names its instances by UUIDs.
func TestInventoryOfOtherNames(t *testing.T) {
	path := filepath.Join(t.TempDir(), "inventory.json")
	content := `[{"address": "10.0.0.1", "instance_id": "i-0123456789abcdef0", "project_id": "p"},
		{"address": "10.0.0.2", "instance_id": "` + instanceA + `"},
		{"address": "10.0.0.3", "instance_id": "4520031799277581759"},
		{"address": "10.0.0.4"}]`
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	inventory, err := LoadInstances(path, new(pace.Pace))
	if err != nil {
		t.Fatal(err)
	}
	for address, id := range map[string]string{"10.0.0.1": "i-0123456789abcdef0", "10.0.0.2": instanceA, "10.0.0.3": "4520031799277581759", "10.0.0.4": ""} {
		entry, found := inventory.Lookup(netip.MustParseAddr(address))
		if !found || entry.InstanceID != id || (id != "" && entry.CallerID != "instance:"+id) {
			t.Errorf("%s: %+v", address, entry)
		}
		if target, found := inventory.Instance(id); id != "" && (!found || target.InstanceID != id || target.Address.String() != address) {
			t.Errorf("%s: %+v", id, target)
		}
	}
	for _, id := range []string{"I-0123456789ABCDEF0", "i-1", "", "5F1C3A52-0C6E-4F6E-9D0A-3C1F2B7A9E10"} {
		if target, found := inventory.Instance(id); found {
			t.Errorf("%q: %+v", id, target)
		}
	}
}

func TestInstanceIDs(t *testing.T) {
	for id, valid := range map[string]bool{
		instanceA: true, "i-0123456789abcdef0": true, "4520031799277581759": true, "VM_1.example": true, strings.Repeat("a", 64): true,
		"": false, "a b": false, "a,b": false, "a/b": false, "a:b": false, "é": false, strings.Repeat("a", 65): false,
		// Other spellings of a UUID would be other instances.
		"5F1C3A52-0c6e-4f6e-9d0a-3c1f2b7a9e10": false, strings.ReplaceAll(instanceA, "-", ""): false, "{" + instanceA + "}": false, "urn:uuid:" + instanceA: false,
	} {
		if validInstanceID(id) != valid {
			t.Errorf("%q: %t", id, !valid)
		}
	}
}

// Of three projects of one instance, the same is always said.
func TestProjectsThatDisagree(t *testing.T) {
	const id = "5f1c3a52-0c6e-4f6e-9d0a-3c1f2b7a9e10"
	path := filepath.Join(t.TempDir(), "inventory.json")
	writeFile(t, path, `[{"address": "10.0.0.1", "instance_id": "`+id+`", "project_id": "a"},
{"address": "10.0.0.2", "instance_id": "`+id+`", "project_id": "a"},
{"address": "10.0.0.3", "instance_id": "`+id+`", "project_id": "b"},
{"address": "10.0.0.4", "instance_id": "`+id+`", "project_id": "c"}]`)
	for range 20 {
		_, err := LoadInstances(path, new(pace.Pace))
		if err == nil || !strings.Contains(err.Error(), "inventory.json:3:1: instance "+id+" has another project than in line 1") {
			t.Fatal(err)
		}
	}
}
