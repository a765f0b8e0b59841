package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sort"
	"time"
)

// record is where a record is in the log of Kafka.
type record struct {
	partition int32
	offset    int64
}

// entry is a line of the sink's log.
type entry struct {
	at  int64
	how string
	record
	key string
	n   int
}

// check reads the sink's log, how many records there were and what the brokers had as committed at each crash; it knows
// nothing of dispatchers.
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
	crashes, err := readCrashes(o.log + ".crashes")
	if err != nil {
		return err
	}
	lost := countLost(log, produced, o.keys)
	swapped := countSwapped(log)
	twice, wrong := countTwice(log, crashes, w)
	fmt.Fprintf(w, "%d records, %d crashes: lost %d, out of order %d, again after a crash %d, of these committed before %d; again for other reasons %d\n",
		produced, len(crashes), lost, swapped, twice, wrong, countOther(log, crashes))
	if lost+swapped+wrong > 0 {
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
		if _, err := fmt.Sscan(s.Text(), &e.at, &e.how, &e.partition, &e.offset, &e.key, &e.n); err != nil {
			return nil, fmt.Errorf("log line %q: %w", s.Text(), err)
		}
		out = append(out, e)
	}
	return out, nil
}

func readCrashes(path string) (out []crash, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	for d := json.NewDecoder(f); ; {
		var c crash
		if err := d.Decode(&c); errors.Is(err, io.EOF) {
			return out, nil
		} else if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
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

// countTwice counts, for each crash, the records that the sink had taken before it and took again before the next one,
// beside those that had not been committed: nothing else may come again. wrong are those that came again although their
// commit was at the brokers: the one read after the crash holds for what came after it, the one before for the rest.
func countTwice(log []entry, crashes []crash, w io.Writer) (total, wrong int) {
	for i, c := range crashes {
		end := int64(1) << 62
		if i+1 < len(crashes) {
			end = crashes[i+1].At
		}
		before := map[record]bool{}
		from := sort.Search(len(log), func(j int) bool { return log[j].at >= c.At })
		open := 0
		for _, e := range log[:from] {
			if e.how == "took" && !before[e.record] {
				before[e.record] = true
				if !c.Before[e.partition].covers(e.offset) {
					open++
				}
			}
		}
		twice := 0
		for _, e := range log[from:] {
			if e.at >= end || e.how != "took" || !before[e.record] {
				continue
			}
			twice++
			if was := c.Before[e.partition]; was.covers(e.offset) || e.at > c.Read && c.After[e.partition].covers(e.offset) {
				if wrong++; wrong <= 20 {
					fmt.Fprintf(w, "crash %d: %v came again %v later although its commit had been taken\n", i+1, e.record,
						time.Duration(e.at-c.At)*time.Microsecond)
				}
			}
		}
		total += twice
		fmt.Fprintf(w, "crash %d: %d records had been taken and not committed, %d came again\n", i+1, open, twice)
	}
	return total, wrong
}

// countOther counts the records that came again for other reasons: a member that left while its coordinator was down,
// a try that was given up when its partition was taken away, an answer that was lost.
func countOther(log []entry, crashes []crash) int {
	first := map[record]int64{}
	other := 0
	for _, e := range log {
		if e.how != "took" {
			continue
		}
		was, again := first[e.record]
		if !again {
			first[e.record] = e.at
		} else if !slices.ContainsFunc(crashes, func(c crash) bool { return was < c.At && c.At <= e.at }) {
			other++
		}
	}
	return other
}
