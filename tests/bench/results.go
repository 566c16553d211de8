// SPDX-License-Identifier: Apache-2.0

package main

// row is what was measured of one variant.
type row struct {
	Name  string `json:"name"`
	Title string `json:"title"`
	// CPU is microseconds per request of the proxy's processes.
	CPU summary `json:"cpu_us"`
	// Rate is requests per second with as many clients as there are, each of which
	// waits for its answer.
	Rate summary `json:"requests_per_second"`
	// Memory is the resident memory in MiB when nothing was asked yet.
	Memory float64 `json:"idle_mib"`
	// Plain compares with plain Caddy, Logged with plain Caddy that writes an access log.
	Plain  *comparison `json:"of_plain,omitempty"`
	Logged *comparison `json:"of_logged,omitempty"`
}

// comparison is how many times the other's something is.
type comparison struct {
	CPU  summary `json:"cpu"`
	Rate summary `json:"requests_per_second"`
}

func (b *bench) results() []row {
	rows := make([]row, 0, len(b.subjects))
	for _, s := range b.subjects {
		rows = append(rows, row{
			Name: s.name, Title: s.title,
			CPU: summarize(s.cpu), Rate: summarize(s.rate), Memory: float64(s.idle) / (1 << 20),
			Plain: s.against(b.subject(plain)), Logged: s.against(b.subject(plainLogged)),
		})
	}
	return rows
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
	return &comparison{CPU: summarize(ratios(s.cpu, base.cpu)), Rate: summarize(ratios(s.rate, base.rate))}
}
