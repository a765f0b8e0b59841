package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
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
	worst, over := countTwice(log, kills, o.commit, w)
	fmt.Fprintf(w, "lost %d of %d, out of order %d, most duplicates of a crash %d, crashes over the bound %d of %d\n",
		lost, produced, swapped, worst, over, len(kills))
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

func readMarks(path string) (kills []int64, err error) {
	text, err := os.ReadFile(path)
	for _, line := range strings.Split(strings.TrimSpace(string(text)), "\n") {
		var at int64
		if _, err := fmt.Sscan(line, &at); err == nil {
			kills = append(kills, at)
		}
	}
	return kills, err
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

// countTwice counts, for each kill, the records that were taken before it and again within the time until the next
// kill. The bound is what was in flight plus what was taken since the last commit could have ended.
func countTwice(log []entry, kills []int64, commit time.Duration, w io.Writer) (worst, over int) {
	slack := (commit + 300*time.Millisecond).Microseconds() // a commit is under way for a while itself
	for i, kill := range kills {
		end := int64(1) << 62
		if i+1 < len(kills) {
			end = kills[i+1]
		}
		before := map[string]bool{}
		bound := inFlight
		from := sort.Search(len(log), func(j int) bool { return log[j].at >= kill })
		for j := from - 1; j >= 0; j-- {
			if log[j].how == "took" {
				before[fmt.Sprint(log[j].key, log[j].n)] = true
				if log[j].at > kill-slack {
					bound++
				}
			}
		}
		twice := 0
		for _, e := range log[from:] {
			if e.at < end && e.how == "took" && before[fmt.Sprint(e.key, e.n)] {
				twice++
			}
		}
		worst = max(worst, twice)
		if twice > bound {
			over++
			fmt.Fprintf(w, "kill %d: %d duplicates, bound %d\n", i+1, twice, bound)
		}
	}
	return worst, over
}
