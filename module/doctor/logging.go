// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// hiddenFields must be deleted from every line that Caddy itself writes. The
// uri may be cut instead.
var hiddenFields = []string{"request>headers", "request>tls", "request>uri", "headers", "resp_headers"}

// checkLogs finds loggers whose lines may hold signatures and tokens.
func checkLogs(_ context.Context, x *examination, f *finder) {
	logs, _ := at(x.config.tree, "logging", "logs").(map[string]any)
	if _, given := logs["default"]; !given {
		f.found(x.config.whole("logging.logs"), "the default log is not configured, so it filters nothing")
	}
	for _, name := range slices.Sorted(maps.Keys(logs)) {
		log := logs[name]
		if textAt(log, "writer", "output") == "discard" || onlyOurs(log) {
			continue
		}
		if open := openFields(log); len(open) > 0 {
			f.found(x.config.whereLog(name), fmt.Sprintf("log %s does not hide %s", name, strings.Join(open, ", ")))
		}
	}
}

// onlyOurs tells whether a log takes nothing but lines of Metaguard, which hold
// no secret.
func onlyOurs(log any) bool {
	include := listAt(log, "include")
	return len(include) > 0 && !slices.ContainsFunc(include, func(name string) bool {
		return name != "http.handlers.metaguard" && !strings.HasPrefix(name, "http.handlers.metaguard.")
	})
}

// openFields are the fields that a log's encoder lets through.
func openFields(log any) []string {
	fields, _ := at(log, "encoder", "fields").(map[string]any)
	if textAt(log, "encoder", "format") != "filter" {
		fields = nil
	}
	var open []string
	for _, name := range hiddenFields {
		switch filter := textAt(fields[name], "filter"); {
		case filter == "delete", name == "request>uri" && cutsQuery(fields[name]):
		default:
			open = append(open, name)
		}
	}
	return open
}

// cutsQuery tells whether the filter of a URI is the one of logging.caddy. What
// another expression leaves cannot be known.
func cutsQuery(filter any) bool {
	return textAt(filter, "filter") == "regexp" && slices.Contains([]string{`\?.*`, `\?.*$`}, textAt(filter, "regexp"))
}

// whereLog is the line of a log by its name. Sites' logs are called log0, log1,
// … in the order in which they stand.
func (c *configuration) whereLog(name string) string {
	path := "logging.logs." + name
	var global, ofSites []textLine
	for _, line := range c.text.lines() {
		if line.words[0] != "log" || len(line.within) != 1 {
			continue
		}
		if line.global {
			global = append(global, line)
		} else {
			ofSites = append(ofSites, line)
		}
	}
	for _, line := range slices.Concat(global, ofSites) {
		if len(line.words) > 1 && line.words[1] == name {
			return line.where
		}
	}
	for _, line := range global {
		if name == "default" && len(line.words) == 1 {
			return line.where
		}
	}
	var index int
	if _, err := fmt.Sscanf(name, "log%d", &index); err == nil && index >= 0 && index < len(ofSites) {
		return ofSites[index].where
	}
	if name == "default" && c.text != nil { // `debug`, or a site's log, made it
		return c.whole(path)
	}
	return path
}

// checkDebug finds logs at debug level.
func checkDebug(_ context.Context, x *examination, f *finder) {
	logs, _ := at(x.config.tree, "logging", "logs").(map[string]any)
	for _, name := range slices.Sorted(maps.Keys(logs)) {
		if strings.EqualFold(textAt(logs[name], "level"), "debug") {
			f.found(x.config.whereOne("logging.logs."+name+".level", func(l textLine) bool {
				return l.global && l.begins("debug") || l.begins("level") && len(l.words) > 1 && strings.EqualFold(l.words[1], "debug")
			}), fmt.Sprintf("log %s is at level DEBUG", name))
		}
	}
}

// checkLogFiles finds log files that others can read.
func checkLogFiles(_ context.Context, x *examination, f *finder) {
	logs, _ := at(x.config.tree, "logging", "logs").(map[string]any)
	files := make(map[string]bool) // several logs can go to one
	for _, name := range slices.Sorted(maps.Keys(logs)) {
		file := textAt(logs[name], "writer", "filename")
		if textAt(logs[name], "writer", "output") == "file" && !files[file] {
			checkMode(f, file, 0o004, "the log can be read by everybody")
		}
		files[file] = true
	}
}
