// SPDX-License-Identifier: Apache-2.0

package nova_test

import (
	"bufio"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// seedVariable repeats the random spellings of an earlier run.
const seedVariable = "METAGUARD_SEED"

// tableRow is one raw request target and what the real servers made of it. A
// "-" was not asked.
type tableRow struct{ target, uwsgi, eventlet, agent string }

func (r tableRow) under(kind string) string {
	if kind == uwsgi {
		return r.uwsgi
	}
	return r.eventlet
}

// tableA reads the table of spellings, in which every way past a filter that
// was ever found has a row.
func tableA(tb testing.TB) []tableRow {
	tb.Helper()
	file, err := os.Open("../../module/legacy/testdata/table_a.tsv")
	if err != nil {
		tb.Fatal(err)
	}
	defer file.Close()
	var rows []tableRow
	lines := bufio.NewScanner(file)
	for header := true; lines.Scan(); {
		if strings.HasPrefix(lines.Text(), "# ") {
			continue
		}
		if header {
			header = false
			continue
		}
		columns := strings.Split(lines.Text(), "\t")
		if len(columns) != 4 {
			tb.Fatalf("%q has %d columns", lines.Text(), len(columns))
		}
		target, err := strconv.Unquote(`"` + columns[0] + `"`)
		if err != nil {
			tb.Fatalf("%q: %v", columns[0], err)
		}
		rows = append(rows, tableRow{target, columns[1], columns[2], columns[3]})
	}
	if len(rows) < 140 {
		tb.Fatalf("table A has only %d rows", len(rows))
	}
	return rows
}

// spellings are those of table A, the edges of the rules, and random ones, the
// same in every test of a run.
func spellings(tb testing.TB, random int) []string {
	tb.Helper()
	seed := runSeed
	tb.Logf("%d random spellings; again with %s=%d", random, seedVariable, seed)
	var all []string
	for _, row := range tableA(tb) {
		all = append(all, row.target)
	}
	all = append(all, edges()...)
	source := rand.New(rand.NewPCG(seed, 0))
	for range random {
		all = append(all, spelling(source))
	}
	return all
}

var runSeed = func() uint64 {
	if seed, err := strconv.ParseUint(os.Getenv(seedVariable), 10, 64); err == nil {
		return seed
	}
	return uint64(time.Now().UnixNano())
}()

// edges are at and beyond the longest target, 1,024 bytes, and on either side
// of other rules.
func edges() []string {
	long := func(length int) string {
		return "/openstack" + strings.Repeat("/", length-len("/openstacklatest/password")) + "latest/password"
	}
	return []string{
		long(1024), long(1025), long(2000),
		long(1024) + "?", long(1023) + "?",
		"/openstack/latest/password??", "/openstack/latest/password?%", "/openstack/latest/password?#",
		"/openstack/latest/passw%6frd/", "/openstack/l%61test//password//", "/%6F%70%65%6e%73%74%61%63%6b/latest/password",
		"/openstack/latest/password~", "/openstack/latest/%7e/password", "/openstack/latest/password%7E",
		"/openstack/latest/.../password", "/openstack/latest/..password", "/openstack/latest/.password",
		"/openstack/latest/password/%2E", "/openstack/latest/password/%2e%2E", "/%2e", "/..", "/.", "/", "//", "///",
		"/openstack/2013-10-17/password", "/openstack/2018-08-27//password", "/openstack/latest/password/password",
		"/openstack/latest/passwor%64%", "/openstack/latest/password%%32%66", "/openstack/latest/password+", "/openstack/latest/password:",
	}
}

var (
	firstPaths = []string{
		"/openstack/latest/password", "/openstack/latest/password", "/openstack/latest/password",
		"/openstack/2013-04-04/password", "/openstack/2020-10-14/password", "/openstack/2012-08-10/password",
		"/openstack/password", "/latest/password", "/openstack/latest/", "/openstack/latest/meta_data.json",
		"/openstack//../latest/password", "/openstack/latest////../password", "/latest/meta-data/", "/ec2/latest/user-data",
	}
	tails = []string{
		"/", "//", "/.", "/..", "//..", "/./", "/x/..", "/x//..", "?", "?x", "?/../..", "#", "#x", "#/..", "%", "%2", "%2f", "%2F", "%2e", "%00",
		"%20", ";", ";x", "%3b", "%3f", "%23", ".", "..", "\\", "%5c", "\t", "\x0b", "\x00", "\xff", "~", "%7e", "/password", "/../password", "%zz", "%%", " ", "%252f", "+",
	}
	tokens = []string{
		"/", "/", "/", "//", ".", "..", "...", "%2e", "%2E%2e", "%2f", "%2F", "openstack", "openstack", "latest", "latest", "password", "password", "%70assword",
		"2013-04-04", "2012-08-10", "ec2", "meta-data", "x", "%", "%25", "%2", "#", "?", ";", "\\", "~", "%00", "\xc3\xa9", "%c3%a9", "%ff", "http://", "@", ":", "healthcheck", " ", "\t",
	}
	heads = []string{"http://169.254.169.254", "https://x", "http://", "/", "//", "/.", "/..", "/x/..", "/%2e", "%2f", "/%2f", ".", "*", "\\", "/http:"}
)

// spelling makes one: most are ways to write a path that matters, some a heap
// of what matters in paths.
func spelling(random *rand.Rand) string {
	if random.IntN(5) == 0 {
		var heap strings.Builder
		for range 1 + random.IntN(9) {
			heap.WriteString(pick(random, tokens))
		}
		if random.IntN(4) > 0 {
			return "/" + heap.String()
		}
		return "a" + heap.String()
	}
	target := pick(random, firstPaths)
	for range random.IntN(4) {
		target = mutate(random, target)
	}
	return target
}

// mutate changes one thing about a target.
func mutate(random *rand.Rand, target string) string {
	at := random.IntN(len(target))
	slashes := make([]int, 0, 8)
	for n := range target {
		if target[n] == '/' {
			slashes = append(slashes, n)
		}
	}
	slash := at
	if len(slashes) > 0 {
		slash = slashes[random.IntN(len(slashes))]
	}
	replace := func(at int, with string) string { return target[:at] + with + target[at+1:] }
	switch random.IntN(13) {
	case 0, 1:
		return target[:slash] + strings.Repeat("/", 1+random.IntN(3)) + target[slash:]
	case 2:
		return target[:slash] + pick(random, []string{"/.", "/./", "//."}) + target[slash:]
	case 3:
		return target[:slash] + pick(random, []string{"/x/..", "/..", "//..", "/x//..", "///../", "/openstack/..", "/%2e%2e", "/x/.%2e"}) + target[slash:]
	case 4, 5, 6:
		return replace(at, escape(random, target[at]))
	case 7:
		return replace(at, "%25"+escape(random, target[at])[1:])
	case 8:
		return replace(slash, pick(random, []string{"%2f", "%2F", "\\", "%5c", "%252f", "/%2f", "\xef\xbc\x8f"}))
	case 9, 10:
		return target + pick(random, tails)
	case 11:
		return pick(random, heads) + target
	}
	return replace(at, strings.ToUpper(target[at:at+1]))
}

// escape writes a byte with a percent sign, with digits in either case.
func escape(random *rand.Rand, c byte) string {
	text := strconv.FormatUint(uint64(c), 16)
	if len(text) == 1 {
		text = "0" + text
	}
	if random.IntN(2) == 0 {
		text = strings.ToUpper(text)
	}
	return "%" + text
}

func pick(random *rand.Rand, from []string) string { return from[random.IntN(len(from))] }

// reading is what Metaguard must make of a raw target.
type reading struct {
	path     string // canonical, as it goes upstream; empty: refused with 400
	password bool   // it is a password resource
}

// read is a second writing of the rules for targets, from the design and not
// from the code: one percent-decoding, then only plain bytes, no dot segments,
// no encoded slash, no query, slashes merged.
func read(target string) reading {
	if len(target) > 1024 || !strings.HasPrefix(target, "/") {
		return reading{}
	}
	target, query, _ := strings.Cut(target, "?")
	if query != "" {
		return reading{}
	}
	var decoded []byte
	for n := 0; n < len(target); n++ {
		c := target[n]
		if c == '%' {
			if n+2 >= len(target) {
				return reading{}
			}
			value, err := strconv.ParseUint(target[n+1:n+3], 16, 8)
			if err != nil || value == '/' {
				return reading{}
			}
			c, n = byte(value), n+2
		}
		plain := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("._~-/", c) >= 0
		if !plain {
			return reading{}
		}
		decoded = append(decoded, c)
	}
	var segments []string
	for segment := range strings.SplitSeq(string(decoded), "/") {
		if segment == "." || segment == ".." {
			return reading{}
		}
		if segment != "" {
			segments = append(segments, segment)
		}
	}
	r := reading{path: "/" + strings.Join(segments, "/")}
	r.password = len(segments) == 3 && segments[0] == "openstack" && segments[2] == "password" && slices.Contains(withPasswords, segments[1])
	if len(segments) > 0 && decoded[len(decoded)-1] == '/' {
		r.path += "/"
	}
	return r
}

// withPasswords are the versions that have a password.
var withPasswords = []string{
	"2013-04-04", "2013-10-17", "2015-10-15", "2016-06-30", "2016-10-06", "2017-02-22", "2018-08-27", "2020-10-14", "latest",
}

// patience is how many spellings a test goes on with after its first failure.
type patience int

// check ends a failed test before it fills the screen.
func (p *patience) check(t *testing.T) {
	t.Helper()
	if t.Failed() {
		if *p--; *p < 0 {
			t.Fatal("and perhaps more")
		}
	}
}

func TestSpellings(t *testing.T) {
	count := map[string]int{}
	for _, target := range spellings(t, 2000) {
		switch r := read(target); {
		case r.path == "":
			count["refused"]++
		case r.password:
			count["password"]++
		default:
			count["other"]++
		}
		if strings.ContainsAny(target, "\r\n") {
			t.Errorf("%q is more than a target", target)
		}
	}
	for kind, least := range map[string]int{"refused": 500, "password": 200, "other": 100} {
		if count[kind] < least {
			t.Errorf("only %d of the spellings are %s; this is no good mixture: %v", count[kind], kind, count)
		}
	}
	t.Log(count)
}
