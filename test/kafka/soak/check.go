package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"sort"
	"strings"
	"time"
)

// entry is a line of the sink's log.
type entry struct {
	at  int64
	how string
	key string
	n   int
}

// check reads the log, the marks and how many records there were; it knows nothing of dispatchers.
func check(o options, w io.Writer) error {
	var produced int
	text, err := os.ReadFile(o.log + ".produced")
	if err != nil {
		return err
	}
	if _, err := fmt.Sscan(string(text), &produced); err != nil {
		return err
	}
	log, err := readLog(o.log)
	if err != nil {
		return err
	}
	kills, err := readMarks(o.log + ".marks")
	if err != nil {
		return err
	}
	lost := countLost(log, produced, o.keys)
	swapped := countSwapped(log)
	twice, over := countTwice(log, kills, w)
	fmt.Fprintf(w, "lost %d of %d, out of order %d, duplicates after crashes %d, crashes over the bound %d of %d\n",
		lost, produced, swapped, twice, over, len(kills))
	if lost+swapped+over > 0 {
		return errors.New("the sink's log is not as it must be")
	}
	return nil
}

func readLog(path string) ([]entry, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var out []entry
	for s := bufio.NewScanner(f); s.Scan(); {
		var e entry
		if _, err := fmt.Sscan(s.Text(), &e.at, &e.how, &e.key, &e.n); err != nil {
			return nil, fmt.Errorf("log line %q: %w", s.Text(), err)
		}
		out = append(out, e)
	}
	return out, nil
}

// crash is a kill, and up to when the records of every member were committed that could have something uncommitted
// then: the victim, the other one, and those that left since the crash before without a last commit (their
// coordinator was down).
type crash struct{ at, committed int64 }

func readMarks(path string) ([]crash, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	commits := map[int]int64{}
	ended := map[int]bool{}
	var out []crash
	for _, line := range strings.Split(strings.TrimSpace(string(text)), "\n") {
		var at int64
		var what string
		var pid int
		if _, err := fmt.Sscan(line, &at, &what, &pid); err != nil {
			return nil, fmt.Errorf("mark %q: %w", line, err)
		}
		switch what {
		case "end":
			ended[pid] = true
		case "kill":
			out = append(out, crash{at, slices.Min(slices.Collect(maps.Values(commits)))})
			ended[pid] = true
			maps.DeleteFunc(commits, func(pid int, _ int64) bool { return ended[pid] })
		default: // a commit, or the start: before it the process has finished nothing
			commits[pid] = at
		}
	}
	return out, nil
}

// countLost counts records that the sink never took.
func countLost(log []entry, produced, keys int) int {
	took := map[string]bool{}
	for _, e := range log {
		if e.how == "took" {
			took[fmt.Sprint(e.key, " ", e.n)] = true
		}
	}
	lost := 0
	for i := range produced {
		if !took[fmt.Sprintf("k%d %d", i%keys, i/keys)] {
			lost++
		}
	}
	return lost
}

// countSwapped counts first receipts that came before the first receipt of the record before them in their lane.
func countSwapped(log []entry) int {
	next := map[string]int{}
	swapped := 0
	for _, e := range log {
		if e.how != "got" || e.n < next[e.key] {
			continue // a repetition
		}
		if e.n > next[e.key] {
			swapped++
		}
		next[e.key] = e.n + 1
	}
	return swapped
}

// countTwice counts, for each crash, the records that were taken before it and again before the next one. The bound
// is what was in flight plus what was taken since the last commit.
func countTwice(log []entry, crashes []crash, w io.Writer) (total, over int) {
	for i, c := range crashes {
		end := int64(1) << 62
		if i+1 < len(crashes) {
			end = crashes[i+1].at
		}
		before := map[string]bool{}
		bound := 2 * inFlight // two members
		from := sort.Search(len(log), func(j int) bool { return log[j].at >= c.at })
		for _, e := range log[:from] {
			if e.how == "took" {
				before[fmt.Sprint(e.key, " ", e.n)] = true
				if e.at > c.committed {
					bound++
				}
			}
		}
		twice := 0
		for _, e := range log[from:] {
			if e.at < end && e.how == "took" && before[fmt.Sprint(e.key, " ", e.n)] {
				twice++
			}
		}
		total += twice
		if twice > bound {
			over++
		}
		fmt.Fprintf(w, "crash %d: oldest commit %v before, %d duplicates, bound %d\n", i+1,
			time.Duration(c.at-c.committed)*time.Microsecond, twice, bound)
	}
	return total, over
}
