// SPDX-License-Identifier: Apache-2.0

package password

import (
	"bytes"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// sampleRecords has one record of every shape.
func sampleRecords(tb testing.TB) map[string]Record {
	tb.Helper()
	at := newClock().Now()
	t := terms{once: testOnce, timeout: testTimeout}
	pending := Record{}.reserved(at, t, newToken(), samplePrint(1))
	handed := handover{
		seen: samplePrint(1), readers: []reader{{nameReader("vm"), at.Add(acknowledgeTerm)}},
		acknowledging: underway{newToken(), at.Add(testTimeout)},
	}.reading(at, newToken())
	return map[string]Record{
		"handover": Record{}.handing(at, handed),
		"done":     pending.handing(at, handover{seen: samplePrint(1), done: true}),
		"free":     pending.settled(at, t, Refused),
		"pending":  pending,
		"accepted": pending.settled(at, t, Accepted),
		"unknown":  pending.settled(at, t, Unknown),
		"again":    pending.settled(at, t, Accepted).reserved(at, t, newToken(), samplePrint(2)).reserved(at, t, newToken(), samplePrint(3)),
	}
}

func samplePrint(n int) fingerprint {
	digit := string("0123456789abcdef"[n])
	return fingerprint(strings.Repeat(digit, printKeyIDSize) + ":" + strings.Repeat(digit, 64))
}

func TestCodecRoundTrip(t *testing.T) {
	key := mustKey(t, instance)
	for name, record := range sampleRecords(t) {
		data, err := EncodeRecord(key, record)
		if err != nil {
			t.Fatal(name, err)
		}
		again, err := DecodeRecord(key, data)
		if err != nil {
			t.Fatal(name, err)
		}
		if !sameRecord(again, record) {
			t.Errorf("%s: %+v became %+v", name, record, again)
		}
		other, err := EncodeRecord(key, record)
		if err != nil || bytes.Equal(other, data) {
			t.Errorf("%s: encoded twice alike, %v", name, err)
		}
		if _, err := DecodeRecord(mustKey(t, "another"), data); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: taken for another instance's: %v", name, err)
		}
	}
	full := Record{}
	for i := range 16 {
		full = full.reserved(newClock().Now(), terms{}, newToken(), samplePrint(i))
	}
	if data, err := EncodeRecord(key, full); err != nil || len(data) > maxRecord || len(full.possible) != maxPossible {
		t.Errorf("the largest record has %d bytes, %v", len(data), err)
	}
}

func sameRecord(a, b Record) bool {
	return a.state == b.state && a.at.Equal(b.at) && a.until.Equal(b.until) && a.token == b.token &&
		a.accepted == b.accepted && slices.Equal(a.possible, b.possible) && a.candidate == b.candidate &&
		reflect.DeepEqual(a.handover, b.handover)
}

// TestCorruptRecords: what is not exactly as we write it is corrupt.
func TestCorruptRecords(t *testing.T) {
	key := mustKey(t, instance)
	data, err := EncodeRecord(key, sampleRecords(t)["again"])
	if err != nil {
		t.Fatal(err)
	}
	text := string(data)
	replaced := func(old, with string) string {
		if !strings.Contains(text, old) {
			t.Fatalf("%q is not in %s", old, text)
		}
		return strings.Replace(text, old, with, 1)
	}
	for name, bad := range map[string]string{
		"nothing":              "",
		"zero bytes":           strings.Repeat("\x00", len(text)),
		"null":                 "null\n",
		"an empty object":      "{}\n",
		"another version":      replaced(`"version":1`, `"version":2`),
		"another state":        replaced(`"pending"`, `"open"`),
		"free with a token":    replaced(`"pending"`, `"free"`),
		"another case":         replaced(`"state"`, `"State"`),
		"a member twice":       replaced(`"state":"pending"`, `"state":"free","state":"pending"`),
		"an unknown member":    replaced(`"state"`, `"x":1,"state"`),
		"blanks":               replaced(`,"state"`, `, "state"`),
		"no newline":           strings.TrimSuffix(text, "\n"),
		"two newlines":         text + "\n",
		"two records":          text + text,
		"another time zone":    replaced(`Z","until"`, `+00:00","until"`),
		"a short fingerprint":  replaced(string(samplePrint(1)), string(samplePrint(1)[1:])),
		"a wrong digit":        replaced(string(samplePrint(1)), "g"+string(samplePrint(1)[1:])),
		"an empty fingerprint": replaced(string(samplePrint(2)), ""),
		"a term of a century":  replaced(`"until":"2026`, `"until":"2126`),
		"a term that is over":  replaced(`"until":"2026`, `"until":"2025`),
		"no nonce":             replaced(`"nonce":"`, `"nonce":"","x":"`),
		"too large":            text + strings.Repeat(" ", maxRecord),
	} {
		if _, err := DecodeRecord(key, []byte(bad)); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
	handed, err := EncodeRecord(key, sampleRecords(t)["handover"])
	if err != nil {
		t.Fatal(err)
	}
	text = string(handed)
	one := `{"who":"` + nameReader("vm") + `","until":"2026-01-02T03:06:05Z"}`
	beginning, rest, _ := strings.Cut(text, `"handover":`)
	for name, bad := range map[string]string{
		"an empty handover":                 beginning + "\"handover\":{}}\n",
		"too many readers":                  beginning + `"handover":{"readers":[` + strings.Repeat(one+",", maxReaders) + one + "]}}\n",
		"an acknowledgement without a name": replaced(`"acknowledging":{"token":"`, `"acknowledging":{"token":"x`),
		"a reader in another time zone":     replaced(`Z"}],"reads"`, `+01:00"}],"reads"`),
	} {
		if _, err := DecodeRecord(key, []byte(bad)); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v in %s", name, err, rest)
		}
	}
	many := beginning + `"handover":{"readers":[` + strings.Repeat(one+",", maxReaders-1) + one + "]}}\n"
	if _, err := DecodeRecord(key, []byte(many)); err != nil {
		t.Errorf("as many readers as there may be: %v", err)
	}
	for i := range data {
		if _, err := DecodeRecord(key, data[:i]); !errors.Is(err, ErrCorrupt) {
			t.Errorf("cut at %d: %v", i, err)
		}
	}
	if _, err := EncodeRecord(key, Record{}); err == nil {
		t.Error("a record without times was written")
	}
	if _, err := EncodeRecord(key, Record{}.lasting(time.Date(12026, 1, 1, 0, 0, 0, 0, time.UTC), 0)); err == nil {
		t.Error("a year with five digits was written")
	}
}

func FuzzDecodeRecord(f *testing.F) {
	key := mustKey(f, instance)
	for _, record := range sampleRecords(f) {
		data, err := EncodeRecord(key, record)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
		f.Add(data[:len(data)/2])
	}
	f.Add([]byte("{}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		record, err := DecodeRecord(key, data)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatalf("%v is not ErrCorrupt", err)
			}
			return
		}
		again, err := EncodeRecord(key, record)
		if err != nil || len(again) != len(data) {
			t.Fatalf("%q was read and cannot be written: %v", data, err)
		}
		if record.until.Sub(record.at) > maxTerm {
			t.Fatalf("%q holds for ever", data)
		}
	})
}
