package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/rousehq/rouse/internal/kube"
)

// level is how much a finding matters.
type level string

// The levels. What could not be asked is unknown: neither good nor bad.
const (
	good    level = "ok"
	noted   level = "note"
	warned  level = "warning"
	failed  level = "failure"
	unknown level = "unknown"
)

// finding is what one check found out.
type finding struct {
	Level  level  `json:"level"`
	Check  string `json:"check"`           // what was looked at
	About  string `json:"about,omitempty"` // the object, where there are several
	Text   string `json:"text"`
	Remedy string `json:"remedy,omitempty"` // empty where the text says it
}

// unasked is a check that could not be carried out. right is what the caller needs for it.
func unasked(check string, err error, right kube.Right) finding {
	return finding{Level: unknown, Check: check, Text: "could not be asked: " + oneLine(err), Remedy: remedy(err, right)}
}

// oneLine says an error in one line, also when it is several.
func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }

// Exit codes of check.
const (
	exitFound   = 1 // failures
	exitUnasked = 2 // something could not be asked, and nothing else is wrong
)

// verdict is the exit code that findings call for.
func verdict(all []finding) int {
	code := 0
	for _, f := range all {
		switch f.Level {
		case failed:
			return exitFound
		case unknown:
			code = exitUnasked
		}
	}
	return code
}

// report is what is printed as JSON.
type report struct {
	Findings []finding     `json:"findings"`
	Counts   map[level]int `json:"counts"`
}

func counts(all []finding) map[level]int {
	n := map[level]int{good: 0, noted: 0, warned: 0, failed: 0, unknown: 0}
	for _, f := range all {
		n[f.Level]++
	}
	return n
}

// show prints findings, one line each.
func show(w io.Writer, format string, all []finding) error {
	if format == asJSON {
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		return enc.Encode(report{Findings: all, Counts: counts(all)})
	}
	for _, f := range all {
		line := fmt.Sprintf("%-8s %s", f.Level, f.Check)
		if f.About != "" {
			line += " " + f.About
		}
		line += ": " + f.Text
		if f.Remedy != "" {
			line += "; remedy: " + f.Remedy
		}
		if _, err := fmt.Fprintln(w, line); err != nil {
			return err
		}
	}
	n := counts(all)
	_, err := fmt.Fprintf(w, "%d ok, %d notes, %d warnings, %d failures, %d not asked\n", n[good], n[noted], n[warned], n[failed], n[unknown])
	return err
}

// lasting keeps of the findings of a second look those that a first one made too, besides all that are no failure: what was
// under way in between is no fault. The order is that of the second look.
func lasting(first, second []finding) []finding {
	type subject struct{ check, about string }
	before := map[subject]bool{}
	for _, f := range first {
		if f.Level == failed {
			before[subject{f.Check, f.About}] = true
		}
	}
	out := slices.Clone(second)
	for i, f := range out {
		if f.Level == failed && !before[subject{f.Check, f.About}] {
			out[i].Level, out[i].Remedy = noted, cmp.Or(f.Remedy, "run it again: this may be a change that is under way")
		}
	}
	return out
}
