// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// counts of the verdicts.
type counts struct {
	Passed  int `json:"passed"`
	Failed  int `json:"failed"`
	LeftOut int `json:"left_out"`
}

func count(results []result) counts {
	var c counts
	for _, r := range results {
		switch r.Result {
		case passed:
			c.Passed++
		case failed:
			c.Failed++
		case leftOut:
			c.LeftOut++
		}
	}
	return c
}

// printTable writes one row a step and a line with the counts.
func printTable(w io.Writer, results []result) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "client\tstep\trequest\texpected\tgot\t")
	for _, r := range results {
		fmt.Fprintf(table, "%s/%s\t%s\t%s\t%s\t%s\t%s\n", r.Dialect, r.Client, r.Step, r.Request, r.Expected, r.Got, r.Result)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	c := count(results)
	_, err := fmt.Fprintf(w, "\n%d ok, %d failed, %d left out\n", c.Passed, c.Failed, c.LeftOut)
	return err
}

// printJSON writes the same for programs.
func printJSON(w io.Writer, results []result) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(struct {
		Steps []result `json:"steps"`
		counts
	}{results, count(results)})
}

// printList writes what there is to run.
func printList(w io.Writer, all []*transcript) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "dialect\tclient\tplays\tneeds\tvariables\tsteps")
	for _, t := range all {
		fmt.Fprintf(table, "%s\t%s\t%s %s\t%s\t%s\t%d\n", t.Dialect, t.name, t.Client, t.Version, t.needs(), t.variableNames(), len(t.Steps))
	}
	return table.Flush()
}

// needs lists what the transcript or one of its steps needs.
func (t *transcript) needs() string {
	needs := t.Needs
	for _, s := range t.Steps {
		for _, need := range s.Needs {
			needs = appendNew(needs, need)
		}
		if s.Writes {
			needs = appendNew(needs, "--write")
		}
	}
	return strings.Join(needs, " ")
}

func (t *transcript) variableNames() string {
	var names []string
	for name := range t.Variables {
		names = append(names, name)
	}
	return strings.Join(sorted(names), " ")
}
