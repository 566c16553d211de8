// SPDX-License-Identifier: Apache-2.0

package tests

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// rowsPolicy is a team's policy that takes what it hides out of data, by the
// name of the row that a request is for. So each row of a table brings its rules.
const rowsPolicy = `package metaguard.team

_row := data.rows[input.request.headers["user-agent"]]

redact_json contains pointer if some pointer in _row.json

redact_keys contains key if some key in _row.keys

redact_listing contains entry if some entry in _row.listing

# Resources that no Nova has today, so that nobody knows what they look like. In a
# listing they are entries that can be read.
allow contains "future" if {
	input.resource.kind == "unknown"
	input.request.segments[0] != "nothing"
	startswith(input.caller.address, "127.")
}
`

// hidden is what a row's rules hide.
type hidden struct {
	JSON    []string `json:"json,omitempty"`
	Keys    []string `json:"keys,omitempty"`
	Listing []string `json:"listing,omitempty"`
}

// redactionCase is a document of the server, the rules, and what is left of it,
// byte for byte.
type redactionCase struct {
	name      string
	path      string // jsonPath if it is empty
	hide      hidden
	document  string
	want      string
	code      string // "reason/code" of a refusal
	malformed bool   // the rules make no decision
	removed   string // what the log says was removed, of that password keys: "" for nothing
}

// redact shows a table to every client.
func redact(t *testing.T, table []redactionCase) {
	t.Helper()
	rows := make(map[string]hidden)
	cases := make([]answerCase, len(table))
	for i, row := range table {
		rows[fmt.Sprintf("case/%d", i)] = row.hide
		cases[i] = answerCase{
			name: row.name, path: row.path, status: 200, body: row.want, code: row.code,
			// Validators of the whole would be wrong for the rest.
			server:  says("200 OK", "Content-Type: text/x-a\r\nETag: \"1\"\r\nLast-Modified: then\r\n", row.document),
			header:  map[string]string{"Content-Type": "text/x-a"},
			removed: &row.removed,
		}
		if row.removed == "" {
			cases[i].header["Etag"], cases[i].header["Last-Modified"] = `"1"`, "then"
		}
		if row.path == "" {
			cases[i].path = jsonPath
		}
		if row.code != "" {
			cases[i].status, cases[i].header = 502, nil
		}
		if row.malformed {
			cases[i].status, cases[i].header, cases[i].code, cases[i].unasked = 403, nil, "policy_malformed/<nil>", true
		}
	}
	data, err := json.Marshal(map[string]any{
		"rows": rows,
		// The rows alone hide, not the built-in rules.
		"metaguard": map[string]any{"grants": map[string]any{"instance_id": map[string]any{instance1: []string{"password:read", "admin_pass:read"}}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	s := newAnswerSite(t, byAddress, "", map[string]string{"policy/team.rego": rowsPolicy, "policy/data.json": string(data)})
	s.run(t, cases)
}

// What a pointer names goes, at any depth, and nothing else changes.
func TestRedactionByPointer(t *testing.T) {
	t.Parallel()
	at := func(pointers ...string) hidden { return hidden{JSON: pointers} }
	redact(t, []redactionCase{
		{name: "member", hide: at("/a"), document: `{"a": "PLANTED", "b": 2}`, want: `{"b": 2}`, removed: "1/0"},
		{name: "last member", hide: at("/b"), document: `{"a": 1, "b": 2}`, want: `{"a": 1}`, removed: "1/0"},
		{name: "only member", hide: at("/a"), document: `{"a": 1}`, want: `{}`, removed: "1/0"},
		{name: "member in the middle", hide: at("/b"), document: `{"a":1 , "b":2 , "c":3}`, want: `{"a":1 , "c":3}`, removed: "1/0"},
		{name: "nested", hide: at("/meta/admin_pass"), document: `{"meta": {"admin_pass": "PLANTED", "a": 1}, "admin_pass": "kept"}`, want: `{"meta": {"a": 1}, "admin_pass": "kept"}`, removed: "1/0"},
		{name: "an object with all in it", hide: at("/meta"), document: `{"meta": {"a": {"b": ["PLANTED"]}}, "c": 3}`, want: `{"c": 3}`, removed: "1/0"},
		{name: "deep", hide: at("/a/b/0/1/c/d"), document: `{"a":{"b":[[0,{"c":{"d":"PLANTED","e":1}}]]}}`, want: `{"a":{"b":[[0,{"c":{"e":1}}]]}}`, removed: "1/0"},
		{name: "element", hide: at("/l/1"), document: `{"l": [0, "PLANTED", 2]}`, want: `{"l": [0, 2]}`, removed: "1/0"},
		{name: "elements are counted as they came", hide: at("/l/0", "/l/2"), document: `{"l": ["PLANTED", 1, "PLANTED", 3]}`, want: `{"l": [1, 3]}`, removed: "2/0"},
		{name: "all elements", hide: at("/0", "/1"), document: `["PLANTED","PLANTED"]`, want: `[]`, removed: "2/0"},
		{name: "in an element", hide: at("/devices/1/serial"), document: `{"devices":[{"serial":"a"},{"serial":"PLANTED","bus":"x"}]}`, want: `{"devices":[{"serial":"a"},{"bus":"x"}]}`, removed: "1/0"},
		{name: "member whose name is a number", hide: at("/a/0"), document: `{"a": {"0": "PLANTED", "00": 1}}`, want: `{"a": {"00": 1}}`, removed: "1/0"},
		{name: "what is no index", hide: at("/00", "/-", "/+1", "/1e0", "/2", "/ 1", "/-1", "/0x1"), document: `[0, 1]`, want: `[0, 1]`},
		{name: "slash in a name", hide: at("/a~1b"), document: `{"a/b": "PLANTED", "a": {"b": 1}}`, want: `{"a": {"b": 1}}`, removed: "1/0"},
		{name: "tilde in a name", hide: at("/m~0n"), document: `{"m~n": "PLANTED", "m": 1}`, want: `{"m": 1}`, removed: "1/0"},
		{name: "~01 is ~1 and no slash", hide: at("/a~01b"), document: `{"a~1b": "PLANTED", "a/b": 1}`, want: `{"a/b": 1}`, removed: "1/0"},
		{name: "slash and tilde below one another", hide: at("/a~1b/~0~1"), document: `{"a/b": {"~/": "PLANTED", "c": 1}}`, want: `{"a/b": {"c": 1}}`, removed: "1/0"},
		{name: "empty name", hide: at("/"), document: `{"": "PLANTED", "a": 1}`, want: `{"a": 1}`, removed: "1/0"},
		{name: "empty names below one another", hide: at("//"), document: `{"": {"": "PLANTED", "a": 1}}`, want: `{"": {"a": 1}}`, removed: "1/0"},
		{name: "a pointer is no percent-encoding", hide: at("/a%20b"), document: `{"a b": 1, "a%20b": "PLANTED"}`, want: `{"a b": 1}`, removed: "1/0"},
		{name: "name with a blank, a quote and a backslash", hide: at("/a b", `/"`, `/\`), document: `{"a b": 1, "\"": 2, "\\": 3, "d": 4}`, want: `{"d": 4}`, removed: "3/0"},
		{name: "through an escaped name", hide: at("/meta/x"), document: `{"m\u0065ta": {"\u0078": "PLANTED", "b": 1}}`, want: `{"m\u0065ta": {"b": 1}}`, removed: "1/0"},
		{name: "through a repeated name", hide: at("/m/x"), document: `{"m": {"x": "PLANTED"}, "m": {"x": "PLANTED", "y": 1}}`, want: `{"m": {}, "m": {"y": 1}}`, removed: "2/0"},
		{name: "to a repeated name", hide: at("/m"), document: `{"m": "PLANTED", "a": 1, "m": ["PLANTED"], "m": {}}`, want: `{"a": 1}`, removed: "3/0"},
		{name: "beyond a scalar", hide: at("/a/b", "/a/0"), document: `{"a": "b"}`, want: `{"a": "b"}`},
		{name: "nothing there", hide: at("/b", "/a/c"), document: `{"a": {"b": 1}}`, want: `{"a": {"b": 1}}`},
		{name: "names are exact", hide: at("/a"), document: `{"A": 1, "a ": 2, " a": 3, "aa": 4}`, want: `{"A": 1, "a ": 2, " a": 3, "aa": 4}`},
		{name: "one pointer begins another", hide: at("/a", "/a/b"), document: `{"a": {"b": "PLANTED"}, "c": 1}`, want: `{"c": 1}`, removed: "1/0"},
		{name: "pointer and key", hide: hidden{JSON: []string{"/a/x"}, Keys: []string{"y"}}, document: `{"a": {"x": 1, "y": 2}, "y": [3]}`, want: `{"a": {}}`, removed: "3/0"},
		{name: "neither a slash nor a pointer", hide: at("a"), document: `{"a": "PLANTED"}`, malformed: true},
		{name: "a tilde alone", hide: at("/a~"), document: `{"a~": "PLANTED"}`, malformed: true},
		{name: "~2", hide: at("/a~2"), document: `{"a~2": "PLANTED"}`, malformed: true},
		{name: "the whole document", hide: at(""), document: `{"a": "PLANTED"}`, malformed: true},
	})
}

// What a key names goes at any depth, however it is spelled and how often it
// is there; the rest stays byte for byte.
func TestRedactionByKey(t *testing.T) {
	t.Parallel()
	keys := func(names ...string) hidden { return hidden{Keys: names} }
	pass := keys("admin_pass")
	deep := strings.Repeat(`{"a":[`, 60) + `{"admin_pass":"PLANTED"}` + strings.Repeat(`]}`, 60)
	redact(t, []redactionCase{
		{name: "at the top", hide: pass, document: `{"admin_pass": "PLANTED", "a": 1}`, want: `{"a": 1}`, removed: "1/0"},
		{name: "deeper", hide: pass, document: `{"meta": {"admin_pass": "PLANTED"}, "l": [[{"admin_pass": ["PLANTED"], "b": 1}], {"admin_pass": {}}]}`, want: `{"meta": {}, "l": [[{"b": 1}], {}]}`, removed: "3/0"},
		{name: "very deep", hide: pass, document: deep, want: strings.Replace(deep, `"admin_pass":"PLANTED"`, "", 1), removed: "1/0"},
		{name: "in what goes", hide: pass, document: `{"admin_pass": {"admin_pass": "PLANTED"}, "a": 1}`, want: `{"a": 1}`, removed: "1/0"},
		{name: "twice in one object", hide: pass, document: `{"admin_pass": "PLANTED", "a": 1, "admin_pass": "PLANTED"}`, want: `{"a": 1}`, removed: "2/0"},
		{name: "twice, next to one another", hide: pass, document: `{"a":1,"admin_pass":"PLANTED","admin_pass":"PLANTED","b":2}`, want: `{"a":1,"b":2}`, removed: "2/0"},
		{name: "twice, in two spellings", hide: pass, document: `{"admin_pass": "PLANTED", "admin\u005fpass": "PLANTED", "a": 1}`, want: `{"a": 1}`, removed: "2/0"},
		{name: "another name twice stays", hide: pass, document: `{"a": 1, "a": 2, "admin_pass": "PLANTED", "a": 3}`, want: `{"a": 1, "a": 2, "a": 3}`, removed: "1/0"},
		{name: "first letter escaped", hide: pass, document: `{"\u0061dmin_pass": "PLANTED"}`, want: `{}`, removed: "1/0"},
		{name: "last letter escaped", hide: pass, document: `{"admin_pas\u0073": "PLANTED"}`, want: `{}`, removed: "1/0"},
		{name: "hex digits in capitals", hide: pass, document: `{"admin\u005Fpass": "PLANTED"}`, want: `{}`, removed: "1/0"},
		{name: "all letters escaped", hide: pass, document: `{"\u0061\u0064\u006d\u0069\u006e\u005f\u0070\u0061\u0073\u0073": "PLANTED"}`, want: `{}`, removed: "1/0"},
		{name: "escaped once is not escaped twice", hide: pass, document: `{"\\u0061dmin_pass": 1}`, want: `{"\\u0061dmin_pass": 1}`},
		{name: "surrogate pair", hide: keys("😀"), document: `{"\ud83d\ude00": "PLANTED", "\uD83D\uDE00": "PLANTED", "😀": "PLANTED", "\ud83d\ude01": 1}`, want: `{"\ud83d\ude01": 1}`, removed: "3/0"},
		{name: "surrogate pair in a longer name", hide: keys("a😀b"), document: `{"a\ud83d\ude00b": "PLANTED", "c": 1}`, want: `{"c": 1}`, removed: "1/0"},
		{name: "escapes of one letter", hide: keys("a/b", `a"b`, `a\b`, "a\tb", "a\nb"), document: `{"a\/b": 1, "a/b": 2, "a\"b": 3, "a\\b": 4, "a\tb": 5, "a\u0009b": 6, "a\nb": 7, "c": 8}`, want: `{"c": 8}`, removed: "7/0"},
		{name: "a NUL in a name", hide: keys("a\x00b"), document: `{"a\u0000b": "PLANTED", "a": 1}`, want: `{"a": 1}`, removed: "1/0"},
		{name: "a NUL does not end a name", hide: pass, document: `{"admin_pass\u0000": 1}`, want: `{"admin_pass\u0000": 1}`},
		{name: "letters of other alphabets", hide: keys("пароль", "é"), document: `{"пароль": "PLANTED", "\u043f\u0430\u0440\u043e\u043b\u044c": "PLANTED", "e\u0301": 1}`, want: `{"e\u0301": 1}`, removed: "2/0"},
		{name: "names are exact", hide: pass, document: `{"Admin_Pass": 1, "admin_pass ": 2, "xadmin_pass": 3, "admin-pass": 4}`, want: `{"Admin_Pass": 1, "admin_pass ": 2, "xadmin_pass": 3, "admin-pass": 4}`},
		{name: "a value is no name", hide: pass, document: `{"a": "admin_pass", "b": ["admin_pass", "\"admin_pass\": 1"]}`, want: `{"a": "admin_pass", "b": ["admin_pass", "\"admin_pass\": 1"]}`},
		{name: "a document in a string is a string", hide: pass, document: `{"a": "{\"admin_pass\": 1}"}`, want: `{"a": "{\"admin_pass\": 1}"}`},
		{name: "no name", hide: keys(""), document: `{"": "PLANTED"}`, malformed: true},
		{name: "a scalar", hide: pass, document: ` "admin_pass" `, want: ` "admin_pass" `},
		{name: "more keys than few", hide: keys(strings.Fields("k0 k1 k2 k3 k4 k5 k6 k7 k8 k9 k10")...), document: `{"k0": 1, "k10": 2, "k11": 3}`, want: `{"k11": 3}`, removed: "2/0"},
		{name: "password keys, without a rule", document: `{"password_0": 0, "password_3": 3, "password_4": "PLANTED", "password_": "PLANTED", "p\u0061ssword_evil": "PLANTED", "password": 1, "m": {"password_00": "PLANTED"}}`, want: `{"password_0": 0, "password_3": 3, "password": 1, "m": {}}`, removed: "4/4"},
		{name: "password keys and a rule", hide: keys("password_0"), document: `{"password_0": 0, "password_1": 1, "password_9": "PLANTED"}`, want: `{"password_1": 1}`, removed: "2/1"},

		// What stays, stays as it came.
		{
			name: "numbers", hide: pass,
			document: `{"a": 12345678901234567890.000000000000000000001e-400, "b": 1e400, "c": -0.0, "d": 9007199254740993, "e": 0.1E+0010, "f": 1.10, "admin_pass": 99999999999999999999999e999}`,
			want:     `{"a": 12345678901234567890.000000000000000000001e-400, "b": 1e400, "c": -0.0, "d": 9007199254740993, "e": 0.1E+0010, "f": 1.10}`, removed: "1/0",
		},
		{name: "numbers, nothing hidden", document: `[12345678901234567890.000000000000000000001e-400, 1E400, -0, 1.000]`, want: `[12345678901234567890.000000000000000000001e-400, 1E400, -0, 1.000]`},
		{name: "key order", hide: pass, document: `{"z": 1, "b": 2, "admin_pass": 3, "y": 4, "a": 5, "10": 6, "9": 7}`, want: `{"z": 1, "b": 2, "y": 4, "a": 5, "10": 6, "9": 7}`, removed: "1/0"},
		{name: "white space", hide: pass, document: "\r\n{\t\"a\" :\n 1 ,\r\n\t\"admin_pass\" : 2 ,\n  \"b\":3\t}\n\n", want: "\r\n{\t\"a\" :\n 1 ,\n  \"b\":3\t}\n\n", removed: "1/0"},
		{name: "white space, nothing hidden", document: "\n { \"a\" : [ ] , \"b\" : { } }\r\n\t ", want: "\n { \"a\" : [ ] , \"b\" : { } }\r\n\t "},
		{name: "escapes", hide: pass, document: `{"a": "\u00e9é\/\"\ud83d\ude00😀", "\u0062": "<&>\u2028", "admin_pass": 1}`, want: `{"a": "\u00e9é\/\"\ud83d\ude00😀", "\u0062": "<&>\u2028"}`, removed: "1/0"},
		{name: "null, true and false", hide: pass, document: `[null,true,false,{"admin_pass":null}]`, want: `[null,true,false,{}]`, removed: "1/0"},

		// Where nobody knows what a resource is, a document is one all the same.
		{name: "unknown resource", path: "/openstack/latest/future", hide: pass, document: `{"admin_pass": "PLANTED", "a": 1}`, want: `{"a": 1}`, removed: "1/0"},
		{name: "unknown resource, a list behind white space", path: "/openstack/latest/future", hide: pass, document: "\r\n\t [{\"admin_pass\": \"PLANTED\"}]", want: "\r\n\t [{}]", removed: "1/0"},
		{name: "unknown resource, a broken document", path: "/openstack/latest/future", hide: pass, document: `{"admin_pass": "PLANTED",}`, code: "response_unreadable/json_invalid"},
		{name: "unknown resource, a document behind a BOM", path: "/openstack/latest/future", hide: pass, document: "\xef\xbb\xbf{\"admin_pass\": \"PLANTED\"}", code: "response_unreadable/json_invalid"},
		{name: "unknown resource, a listing", path: "/openstack/latest/future/", hide: hidden{Listing: []string{"password"}}, document: "a\npassword\nb", want: "a\nb", removed: "1/0"},
	})
}

// What is not exactly one document as every client reads it is refused, also
// where nothing in it is hidden.
func TestRedactionOfWhatIsNoDocument(t *testing.T) {
	t.Parallel()
	const invalid, cut, deep = "response_unreadable/json_invalid", "response_incomplete/json_cut", "response_unreadable/json_too_deep"
	var table []redactionCase
	for _, row := range [][3]string{
		{"nothing", "", cut},
		{"white space", " \r\n\t", cut},
		{"half an object", `{"PLANTED": 1`, cut},
		{"half a name", `{"PLANTED`, cut},
		{"half an escape", `{"PLANTED\u00`, cut},
		{"half a surrogate pair", `["PLANTED\ud83d`, cut},
		{"half a letter", "[\"PLANTED\xc3", cut},
		{"half a word", `["PLANTED", tru`, cut},
		{"half a number", `["PLANTED", 1.`, cut},
		{"trailing comma in an object", `{"PLANTED": 1,}`, invalid},
		{"trailing comma in a list", `["PLANTED",]`, invalid},
		{"leading comma", `[,"PLANTED"]`, invalid},
		{"two commas", `["PLANTED",,1]`, invalid},
		{"no comma", `["PLANTED" 1]`, invalid},
		{"no colon", `{"PLANTED" 1}`, invalid},
		{"no value", `{"PLANTED":}`, invalid},
		{"line comment", "{\"PLANTED\": 1 // no\n}", invalid},
		{"block comment", `{"PLANTED": 1 /* no */}`, invalid},
		{"comment before it", "# no\n{\"PLANTED\": 1}", invalid},
		{"comment behind it", `{"PLANTED": 1} // no`, invalid},
		{"NaN", `{"PLANTED": NaN}`, invalid},
		{"Infinity", `["PLANTED", Infinity]`, invalid},
		{"-Infinity", `["PLANTED", -Infinity]`, invalid},
		{"undefined", `["PLANTED", undefined]`, invalid},
		{"True", `["PLANTED", True]`, invalid},
		{"None", `["PLANTED", None]`, invalid},
		{"plus", `["PLANTED", +1]`, invalid},
		{"leading zero", `["PLANTED", 01]`, invalid},
		{"hexadecimal", `["PLANTED", 0x1]`, invalid},
		{"leading dot", `["PLANTED", .5]`, invalid},
		{"trailing dot", `["PLANTED", 1.]`, invalid},
		{"no exponent", `["PLANTED", 1e]`, invalid},
		{"single quotes", `{'PLANTED': 1}`, invalid},
		{"no quotes", `{PLANTED: 1}`, invalid},
		{"a number as name", `{"PLANTED": 1, 2: 3}`, invalid},
		{"unescaped line end", "[\"PLANTED\n\"]", invalid},
		{"unescaped tab", "[\"PLANTED\t\"]", invalid},
		{"unescaped NUL", "[\"PLANTED\x00\"]", invalid},
		{"unescaped control in a name", "{\"admin\x01_pass\": \"PLANTED\"}", invalid},
		{"unknown escape", `["PLANTED\x41"]`, invalid},
		{"escape without digits", `["PLANTED\u00zz"]`, invalid},
		{"escaped line end", "[\"PLANTED\\\n\"]", invalid},
		{"BOM", "\xef\xbb\xbf{\"PLANTED\": 1}", invalid},
		{"BOM of UTF-16", "\xff\xfe{\x00}\x00", invalid},
		{"lone surrogate", `["PLANTED\ud800"]`, invalid},
		{"lone second surrogate", `["PLANTED\udc00"]`, invalid},
		{"surrogates in the wrong order", `["PLANTED\ude00\ud83d"]`, invalid},
		{"surrogate and a letter", `["PLANTED\ud83dx"]`, invalid},
		{"lone surrogate in a name", `{"admin_pass\ud800": "PLANTED"}`, invalid},
		{"not UTF-8", "[\"PLANTED\xff\"]", invalid},
		{"not UTF-8 in a name", "{\"admin\xff_pass\": \"PLANTED\"}", invalid},
		{"overlong UTF-8 in a name", "{\"\xc1\xa1dmin_pass\": \"PLANTED\"}", invalid},
		{"surrogate in UTF-8", "[\"PLANTED\xed\xa0\x80\"]", invalid},
		{"two documents", `{"PLANTED": 1}{"b": 2}`, invalid},
		{"two documents on two lines", "{\"PLANTED\": 1}\n{\"b\": 2}\n", invalid},
		{"two documents and a comma", `{"PLANTED": 1},{"b": 2}`, invalid},
		{"a bracket too many", `{"PLANTED": 1}}`, invalid},
		{"brackets that do not match", `["PLANTED"}`, invalid},
		{"letters behind it", `{"PLANTED": 1} x`, invalid},
		{"NUL behind it", "{\"PLANTED\": 1}\x00", invalid},
		{"letters before it", `)]}', {"PLANTED": 1}`, invalid},
		{"form feed between", "{\"PLANTED\":\f1}", invalid},
		{"no-break space between", "{\"PLANTED\":\u00a01}", invalid},
		{"text", "PLANTED", invalid},
		{"HTML", "<html>PLANTED", invalid},
		{"deep lists", strings.Repeat("[", 20_000) + `"PLANTED"` + strings.Repeat("]", 20_000), deep},
		{"deep objects", strings.Repeat(`{"a":`, 20_000) + `"PLANTED"` + strings.Repeat("}", 20_000), deep},
		{"deep, and cut", strings.Repeat("[", 20_000), deep},
		{"as deep as goes, and one", strings.Repeat("[", 257) + `"PLANTED"` + strings.Repeat("]", 257), deep},
	} {
		// The scanner takes other ways with keys, with pointers and with neither.
		for by, hide := range map[string]hidden{"": {}, ", by key": {Keys: []string{"admin_pass"}}, ", by pointer": {JSON: []string{"/a/0/b", "/0"}}} {
			table = append(table, redactionCase{name: row[0] + by, hide: hide, document: row[1], code: row[2]})
		}
	}
	at := strings.Repeat("[", 256) + strings.Repeat("]", 256)
	table = append(table, redactionCase{name: "as deep as goes", hide: hidden{Keys: []string{"a"}}, document: at, want: at})
	many := strings.Repeat(`{"x":0},`, 16_385)
	table = append(table, redactionCase{name: "more to remove than goes", hide: hidden{Keys: []string{"x"}}, document: `["PLANTED",` + many + `0]`, code: "response_unreadable/json_removals"})
	redact(t, table)
}

// An entry that is hidden goes with its line, however lines end.
func TestRedactionOfListings(t *testing.T) {
	t.Parallel()
	hide := hidden{Listing: []string{"password"}}
	table := []redactionCase{
		{name: "LF", document: "meta_data.json\npassword\nuser_data\n", want: "meta_data.json\nuser_data\n", removed: "1/0"},
		{name: "CRLF", document: "meta_data.json\r\npassword\r\nuser_data\r\n", want: "meta_data.json\r\nuser_data\r\n", removed: "1/0"},
		{name: "mixed", document: "meta_data.json\r\npassword\nuser_data\npassword\r\nvendor_data.json", want: "meta_data.json\r\nuser_data\nvendor_data.json", removed: "2/0"},
		{name: "CR", document: "meta_data.json\rpassword\ruser_data", want: "meta_data.json\ruser_data", removed: "1/0"},
		{name: "what Python takes for a line end", document: "a\vpassword\fb\x1cpassword\x1dc\x1epassword", want: "a\vb\x1cc", removed: "3/0"},
		{name: "no line end at the end", document: "a\npassword\nb", want: "a\nb", removed: "1/0"},
		{name: "hidden at the end", document: "a\nb\npassword\n", want: "a\nb\n", removed: "1/0"},
		{name: "hidden at the end, no line end", document: "a\nb\npassword", want: "a\nb", removed: "1/0"},
		{name: "hidden at the end, CRLF, no line end", document: "a\r\nb\r\npassword", want: "a\r\nb", removed: "1/0"},
		{name: "hidden at the beginning", document: "password\na\n", want: "a\n", removed: "1/0"},
		{name: "nothing else", document: "password", want: "", removed: "1/0"},
		{name: "nothing else, with a line end", document: "password\n", want: "", removed: "1/0"},
		{name: "again and again", document: "password\npassword\na\npassword\npassword", want: "a", removed: "4/0"},
		{name: "an entry with a slash", document: "a/\npassword/\nb/", want: "a/\nb/", removed: "1/0"},
		{name: "an entry with a value", document: "0=a\npassword=b\n", want: "0=a\n", removed: "1/0"},
		{name: "a line by its whole text", hide: hidden{Listing: []string{"0=mine"}}, document: "0=mine\n0=yours\n0", want: "0=yours\n0", removed: "1/0"},
		{name: "a hidden entry with a slash", hide: hidden{Listing: []string{"password/"}}, document: "password\npassword/\na", want: "a", removed: "2/0"},
		{name: "entries are exact", document: "Password\npasswords\nxpassword\npass\nword", want: "Password\npasswords\nxpassword\npass\nword"},
		{name: "blank lines stay", document: "\na\n\npassword\n\nb\n", want: "\na\n\n\nb\n", removed: "1/0"},
		{name: "no entry", hide: hidden{Listing: []string{""}}, document: "PLANTED\n\nb\n", malformed: true},
		{name: "password keys, without a rule", hide: hidden{Listing: []string{"x"}}, document: "password_0\npassword_4\npassword_\npassword_evil/\npassword_3\npassword_x=PLANTED", want: "password_0\npassword_3", removed: "4/4"},
		{name: "keys and pointers mean nothing in it", hide: hidden{JSON: []string{"/a"}, Keys: []string{"a"}}, document: "a\nb", want: "a\nb"},
		{name: "empty", document: "", want: ""},
		{name: "long", document: strings.Repeat("a\npassword\n", 5000), want: strings.Repeat("a\n", 5000), removed: "5000/0"},
	}
	for i := range table {
		table[i].path = listingPath
		if len(table[i].hide.Listing)+len(table[i].hide.Keys) == 0 {
			table[i].hide = hide
		}
	}
	// Whether the client asks with a slash or without changes nothing.
	for _, path := range []string{"/openstack/latest", "/latest/", "/2009-04-04/meta-data/"} {
		table = append(table, redactionCase{name: "at " + path, path: path, hide: hide, document: "a\npassword\nb", want: "a\nb", removed: "1/0"})
	}
	redact(t, table)
}

// Text is passed as it is, whatever a policy hides and whatever stands in it.
func TestTextIsNotRedacted(t *testing.T) {
	t.Parallel()
	all := hidden{JSON: []string{"/admin_pass"}, Keys: []string{"admin_pass"}, Listing: []string{"password"}}
	redact(t, []redactionCase{
		{name: "a document", path: textPath, hide: all, document: `{"admin_pass": 1}`, want: `{"admin_pass": 1}`},
		{name: "a listing", path: textPath, hide: all, document: "password\npassword_evil\n", want: "password\npassword_evil\n"},
		{name: "half a document", path: textPath, hide: all, document: `{"admin_pass": `, want: `{"admin_pass": `},
	})
}
