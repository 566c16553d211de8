// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
)

// Bounds of a crawl: a listing that lists itself has no end.
const (
	maxEntries = 5000
	maxDepth   = 16
)

// crawler fetches a listing and everything below it as cloud-init does
// (cloudinit/sources/helpers/ec2.py, MetadataMaterializer). For it one entry
// that is advertised and refused loses the whole tree
// (_get_instance_metadata), so each must be answered.
type crawler struct {
	target  *target
	request request
	fetched int
	refused int
	first   string
	row     *result
}

// crawl does the crawl of one step.
func (r *runner) crawl(ctx context.Context, wire request, row result) result {
	c := &crawler{target: r.target, request: wire, row: &row}
	c.directory(ctx, wire.target, 0)
	row.Result, row.Got = passed, fmt.Sprintf("%d answered", c.fetched)
	if c.refused > 0 {
		row.Result = failed
		row.Got = fmt.Sprintf("%d answered, %d advertised and not: %s", c.fetched, c.refused, c.first)
	}
	return row
}

// fetch asks for one path; false is that it was refused.
func (c *crawler) fetch(ctx context.Context, path string) (*answer, bool) {
	if c.fetched+c.refused >= maxEntries {
		c.fail(path, "more than "+strconv.Itoa(maxEntries)+" entries", nil)
		return nil, false
	}
	wire := c.request
	wire.target = path
	got, err := c.target.send(ctx, wire, 0)
	switch {
	case err != nil:
		c.fail(path, err.Error(), nil)
		return nil, false
	case got.status != http.StatusOK:
		c.fail(path, strconv.Itoa(got.status), got)
		return nil, false
	}
	c.fetched++
	return got, true
}

// fail counts, and keeps the first for the table.
func (c *crawler) fail(path, what string, got *answer) {
	c.refused++
	if c.refused > 1 {
		return
	}
	c.first = what + " at " + printable(path)
	if got != nil {
		c.row.Status = got.status
		if c.row.Reason, c.row.Decision = refusal(got); c.row.Reason != "" {
			c.first = fmt.Sprintf("%s %s (decision %s) at %s", what, c.row.Reason, c.row.Decision, printable(path))
		}
	}
}

// directory fetches a listing, its directories and its leaves.
func (c *crawler) directory(ctx context.Context, path string, depth int) {
	got, ok := c.fetch(ctx, path)
	if !ok {
		return
	}
	if depth == maxDepth {
		c.fail(path, "more than "+strconv.Itoa(maxDepth)+" levels", nil)
		return
	}
	directories, leaves := parseListing(got.body)
	for _, name := range directories {
		if c.refused+c.fetched < maxEntries {
			c.directory(ctx, join(path, name)+"/", depth+1)
		}
	}
	for _, name := range leaves {
		if c.refused+c.fetched < maxEntries {
			c.fetch(ctx, join(path, name))
		}
	}
}

var numbered = regexp.MustCompile(`^\s*([0-9]+)\s*=`)

// parseListing is cloud-init's MetadataMaterializer._parse: an entry that ends
// in a slash is a directory, "0=name" is a public key, and
// security-credentials is never asked for.
func parseListing(body string) (directories, leaves []string) {
	seen := make(map[string]bool)
	for _, entry := range lines(body) {
		name := strings.TrimRight(entry, "/")
		if name == "" || name == "security-credentials" || seen[entry] {
			continue
		}
		seen[entry] = true
		if strings.HasSuffix(entry, "/") {
			directories = append(directories, name)
			continue
		}
		if key := numbered.FindStringSubmatch(entry); key != nil {
			name = key[1] + "/openssh-key"
		}
		leaves = append(leaves, name)
	}
	return directories, leaves
}

// join is cloud-init's combine_url: the name is quoted but for "/" and ":".
func join(base, name string) string {
	if !strings.HasSuffix(base, "/") {
		base += "/"
	}
	parts := strings.Split(name, "/")
	for i, part := range parts {
		parts[i] = url.PathEscape(part)
	}
	return base + strings.Join(parts, "/")
}

// printable keeps what a listing says from reaching the terminal as it is.
func printable(path string) string {
	if len(path) > 120 {
		path = path[:120] + "…"
	}
	quoted := strconv.QuoteToASCII(path)
	return strings.TrimSuffix(strings.TrimPrefix(quoted, `"`), `"`)
}
