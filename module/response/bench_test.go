// SPDX-License-Identifier: Apache-2.0

package response

import (
	"bytes"
	"net/http"
	"testing"
)

// TestAllocations guards what a request costs. The limits are what was
// measured; a map of the answer's headers and its one value list are in them.
func TestAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector empties pools at random")
	}
	body := document(4000)
	scratch := make([]byte, len(body))
	a := &Answer{Status: http.StatusOK, Header: http.Header{"Content-Type": {"text/plain"}}}
	fresh := func() {
		copy(scratch, body)
		a.Body = scratch
	}
	budget := NewBudget(1 << 20)
	keys := []string{"admin_pass"}
	listing := bytes.Repeat([]byte("meta_data.json\n"), 50)
	for _, test := range []struct {
		name string
		most float64
		run  func()
	}{
		{"Budget", 0, func() {
			if budget.Reserve(10) {
				budget.Release(10)
			}
		}},
		{"CheckJSON", 0, func() { fresh(); _ = CheckJSON(a) }},
		{"RedactJSON, nothing there", 0, func() { fresh(); _, _ = RedactJSON(a, nil, nil) }},
		{"RedactJSON", 2, func() { fresh(); _, _ = RedactJSON(a, nil, keys) }},
		{"RedactListing, nothing there", 0, func() { a.Body = listing; RedactListing(a, keys) }},
		{"Writer, whole way", 12, func() {
			w := NewWriter(1<<20, budget)
			w.Header()["Content-Type"] = []string{"text/plain"}
			w.WriteHeader(http.StatusOK)
			_, _ = w.Write(body)
			if answer, refusal := w.Answer(); refusal == nil {
				_ = Normalize(answer, nil)
			}
			w.Release()
		}},
	} {
		if got := testing.AllocsPerRun(100, test.run); got > test.most {
			t.Errorf("%s: %v allocations, at most %v", test.name, got, test.most)
		}
	}
}

func BenchmarkRedactJSON(b *testing.B) {
	for _, size := range []struct {
		name string
		n    int
	}{{"2KiB", 2 << 10}, {"1MiB", 1 << 20}} {
		body := document(size.n)
		for _, hide := range []struct {
			name           string
			pointers, keys []string
		}{
			{"nothing", nil, nil},
			{"keys", nil, []string{"admin_pass"}},
			{"pointers", []string{"/meta/admin_pass", "/devices/1/serial"}, []string{"admin_pass"}},
		} {
			b.Run(size.name+"/"+hide.name, func(b *testing.B) {
				scratch := make([]byte, len(body))
				a := &Answer{Status: http.StatusOK, Header: http.Header{}}
				b.SetBytes(int64(len(body)))
				b.ReportAllocs()
				for b.Loop() {
					copy(scratch, body)
					a.Body = scratch
					if _, refusal := RedactJSON(a, hide.pointers, hide.keys); refusal != nil {
						b.Fatal(refusal)
					}
				}
			})
		}
	}
}

func BenchmarkRedactListing(b *testing.B) {
	body := []byte("meta_data.json\nuser_data\npassword\nvendor_data.json\nnetwork_data.json\nvendor_data2.json")
	scratch := make([]byte, len(body))
	a := &Answer{Status: http.StatusOK, Header: http.Header{}}
	hidden := []string{"password"}
	b.ReportAllocs()
	for b.Loop() {
		copy(scratch, body)
		a.Body = scratch
		RedactListing(a, hidden)
	}
}

// BenchmarkAnswer is an answer's whole way but for the network: 2 KiB of
// metadata as uWSGI sends it, with a key to hide.
func BenchmarkAnswer(b *testing.B) {
	body := document(2 << 10)
	budget := NewBudget(256 << 20)
	keys := []string{"admin_pass"}
	contentType := []string{"text/plain; charset=UTF-8"}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			w := NewWriter(1<<20, budget)
			w.Header()["Content-Type"] = contentType
			w.WriteHeader(http.StatusOK)
			_, _ = w.Write(body)
			a, refusal := w.Answer()
			if refusal == nil {
				refusal = Normalize(a, nil)
			}
			if refusal == nil {
				_, refusal = RedactJSON(a, nil, keys)
			}
			if refusal != nil {
				b.Error(refusal)
			}
			w.Release()
		}
	})
}

func BenchmarkBudget(b *testing.B) {
	budget := NewBudget(1 << 30)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if budget.Reserve(4096) {
				budget.Release(4096)
			}
		}
	})
}

func BenchmarkCheckJSON(b *testing.B) {
	body := document(1 << 20)
	a := &Answer{Body: body}
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if refusal := CheckJSON(a); refusal != nil {
			b.Fatal(refusal)
		}
	}
}
