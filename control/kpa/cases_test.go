package kpa_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// The cases were recorded from the original, or are the numbers of its own test tables; ROUSE_CASES names another
// folder of them.
const defaultCases = "../../testdata/cases"

// timeBase is the instant from which the cases count their seconds.
const timeBase = 1600000000

// tally counts what was replayed and what differed.
type tally struct {
	t          *testing.T
	decisions  int
	mismatches int
}

// check counts one comparison.
func (c *tally) check(ok bool, format string, args ...any) {
	c.t.Helper()
	c.decisions++
	if ok {
		return
	}
	if c.mismatches++; c.mismatches <= 50 {
		c.t.Errorf(format, args...)
	}
}

// replays names every array of the case files and how to replay one element of it. Another array fails the test: it
// would be a rule that nobody checks.
var replays = map[string]func(*tally, json.RawMessage){
	"decide":                replayDecide,
	"to_zero":               replayToZero,
	"target":                replayTarget,
	"panic_window":          replayPanicWindow,
	"num_activators":        replayNumActivators,
	"initial":               replayInitial,
	"mode":                  replayMode,
	"inform":                replayInform,
	"poke":                  replayPoke,
	"active_condition":      replayActivity,
	"sample_size":           replaySampleSize,
	"buckets":               replayBuckets,
	"request_stats":         replayRequestStats,
	"config_validation":     replayConfig,
	"annotation_validation": replayAnnotations,
	"pick_indices":          replaySlices,
	"assign":                replayAssign,
	"capacity":              replayCapacity,
}

func TestCases(t *testing.T) {
	dir := os.Getenv("ROUSE_CASES")
	if dir == "" {
		dir = defaultCases
	}
	c := &tally{t: t}
	for _, name := range []string{"kpa_cases.json", "kpa_random.json"} {
		replayFile(c, filepath.Join(dir, name))
	}
	t.Logf("%d decisions, %d mismatches", c.decisions, c.mismatches)
}

func replayFile(c *tally, path string) {
	raw, err := os.ReadFile(path)
	if err != nil {
		c.t.Fatal(err)
	}
	var top map[string]json.RawMessage
	if err := json.Unmarshal(raw, &top); err != nil {
		c.t.Fatalf("%s: %v", path, err)
	}
	for _, name := range slices.Sorted(maps.Keys(top)) {
		if !strings.HasPrefix(string(top[name]), "[") {
			continue // a note about the file
		}
		var rows []json.RawMessage
		if err := json.Unmarshal(top[name], &rows); err != nil {
			c.t.Fatalf("%s: %s: %v", path, name, err)
		}
		replay, ok := replays[name]
		if !ok {
			c.t.Errorf("%s: array %q is not known: add a replay for it", path, name)
			continue
		}
		before, bad := c.decisions, c.mismatches
		for _, row := range rows {
			replay(c, row)
		}
		c.t.Logf("%s: %s: %d rows, %d decisions, %d mismatches", filepath.Base(path), name, len(rows),
			c.decisions-before, c.mismatches-bad)
	}
}

// read decodes a row; the replays know every field that they use.
func read[T any](c *tally, row json.RawMessage) T {
	var v T
	if err := json.Unmarshal(row, &v); err != nil {
		c.t.Fatalf("row %.200s: %v", row, err)
	}
	return v
}

// at is the instant so many seconds after the cases' base, exact to the nanosecond.
func at(seconds float64) time.Time {
	return time.Unix(timeBase, int64(math.Round(seconds*1e9)))
}

func seconds(s float64) time.Duration { return time.Duration(math.Round(s * 1e9)) }

func near(a, b, tolerance float64) bool { return math.Abs(a-b) <= tolerance*max(1, math.Abs(b)) }

func short(row json.RawMessage) string { return fmt.Sprintf("%.300s", row) }
