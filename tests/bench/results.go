// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"os"
	"runtime"
)

// report is all that a run found, and what --json writes.
type report struct {
	Processors int    `json:"processors"`
	System     string `json:"system"`
	Rounds     int    `json:"rounds"`
	Clients    int    `json:"connections"`
	// Others is the share of the machine, 0 to 1, that other programs used meanwhile.
	Others float64 `json:"used_by_others"`
	// Pace is the requests per second at which latencies were measured.
	Pace    float64   `json:"latency_requests_per_second"`
	Rows    []row     `json:"variants"`
	Starts  []started `json:"starts"`
	Missing []string  `json:"missing,omitempty"`
}

// row is what was measured of one variant.
type row struct {
	Name  string `json:"name"`
	Title string `json:"title"`
	// CPU is microseconds per request of the proxy's processes.
	CPU summary `json:"cpu_us"`
	// Rate is requests per second with as many clients as there are, each of which
	// waits for its answer.
	Rate summary `json:"requests_per_second"`
	// Latencies are in microseconds from when a request was due, all variants at the same rate.
	P50  summary `json:"p50_us"`
	P99  summary `json:"p99_us"`
	P999 summary `json:"p999_us"`
	// Late is how late the generator was, at most, for 99 of 100 requests.
	Late summary `json:"generator_late_p99_us"`
	// Machine is the share of the machine, 0 to 1, that all programs used meanwhile.
	Machine summary `json:"machine_used"`
	// Idle is the resident memory in MiB after the first request, Busy after the rounds.
	Idle float64 `json:"idle_mib"`
	Busy float64 `json:"busy_mib"`
	// Plain compares with plain Caddy, Logged with plain Caddy that writes an access log.
	Plain  *comparison `json:"of_plain,omitempty"`
	Logged *comparison `json:"of_logged,omitempty"`
}

// comparison is how many times the other's something is.
type comparison struct {
	CPU  summary `json:"cpu"`
	Rate summary `json:"requests_per_second"`
	P99  summary `json:"p99"`
}

const mebibyte = 1 << 20

func (b *bench) report(starts []started) *report {
	r := &report{
		Processors: runtime.NumCPU(), System: runtime.GOOS + "/" + runtime.GOARCH, Rounds: b.rounds, Clients: b.connections, Others: b.others,
		Pace: b.pace, Starts: starts, Missing: b.missing,
	}
	for _, s := range b.subjects {
		r.Rows = append(r.Rows, row{
			Name: s.name, Title: s.title,
			CPU: summarize(s.cpu), Rate: summarize(s.rate),
			P50: summarize(s.p50), P99: summarize(s.p99), P999: summarize(s.p999), Late: summarize(s.late), Machine: summarize(s.machine),
			Idle: float64(s.idle) / mebibyte, Busy: float64(s.busy) / mebibyte,
			Plain: s.against(b.subject(plain)), Logged: s.against(b.subject(plainLogged)),
		})
	}
	return r
}

// row finds a variant's row. nil: it did not run.
func (r *report) row(name string) *row {
	for i := range r.Rows {
		if r.Rows[i].Name == name {
			return &r.Rows[i]
		}
	}
	return nil
}

func (b *bench) subject(name string) *subject {
	for _, s := range b.subjects {
		if s.name == name {
			return s
		}
	}
	return nil
}

func (s *subject) against(base *subject) *comparison {
	if base == nil || base == s {
		return nil
	}
	return &comparison{
		CPU: summarize(ratios(s.cpu, base.cpu)), Rate: summarize(ratios(s.rate, base.rate)), P99: summarize(ratios(s.p99, base.p99)),
	}
}

// writeJSON writes what was found to a file, or to standard output for "-".
func writeJSON(path string, found any) error {
	text, err := json.MarshalIndent(found, "", "\t")
	if err != nil {
		return err
	}
	text = append(text, '\n')
	if path == "-" {
		_, err = os.Stdout.Write(text)
		return err
	}
	return os.WriteFile(path, text, 0o600)
}
