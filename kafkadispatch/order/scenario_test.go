package order

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "rewrite the scenario files with what happens now")

// A scenario is a story of commands; under each stands what it answered. Lines with # are prose.
func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scenarios: %v", err)
	}
	for _, f := range files {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			got := tell(t, string(text))
			if *update {
				if err := os.WriteFile(f, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if got != string(text) {
				t.Errorf("the story went otherwise; got:\n%s", got)
			}
		})
	}
}

func tell(t *testing.T, text string) string {
	var out strings.Builder
	story := &story{recs: map[string]*Record{}, parts: map[string]*Partition{}, now: time.Unix(0, 0)}
	for _, line := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
		if strings.HasPrefix(line, "  ") {
			continue
		}
		out.WriteString(line + "\n")
		if line == "" || line[0] == '#' {
			continue
		}
		answer, err := story.do(strings.Fields(line))
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if answer != "" {
			out.WriteString("  " + answer + "\n")
		}
	}
	return out.String()
}

type story struct {
	s     *Scheduler
	parts map[string]*Partition
	recs  map[string]*Record
	now   time.Time
}

// words splits a=b arguments.
func words(args []string) map[string]string {
	out := map[string]string{}
	for _, a := range args {
		k, v, _ := strings.Cut(a, "=")
		out[k] = v
	}
	return out
}

func number(text string, otherwise int) int {
	if text == "" {
		return otherwise
	}
	n := 0
	for _, c := range text {
		n = n*10 + int(c-'0')
	}
	return n
}

func (y *story) do(f []string) (string, error) {
	w := words(f[1:])
	switch f[0] {
	case "order":
		mode := map[string]Mode{"partition": ByPartition, "key": ByKey, "none": Unordered}[f[1]]
		y.s = New(Config{Mode: mode, MaxInFlight: number(w["inflight"], 9), MaxInFlightPerPartition: number(w["perpartition"], 0),
			Window: Window{Records: number(w["window"], 0)}})
	case "assign":
		m, err := DecodeMap(w["map"], int64(number(w["from"], 0)))
		if err != nil {
			return "", err
		}
		y.parts[f[1]] = y.s.Assign(TopicPartition{Topic: f[1]}, m.Base, m)
	case "add":
		return y.add(f[1], f[2:]), nil
	case "take":
		return y.take(number(w["max"], 1)), nil
	case "finish":
		y.s.Finish(y.named(f[1:]), y.now)
	case "park":
		y.s.Park(y.named(f[1:]))
	case "unpark":
		y.s.Unpark(y.named(f[1:]))
	case "revoke":
		y.s.Revoke(y.parts[f[1]])
	case "full":
		return y.parts[f[1]].Full(y.now).String(), nil
	case "commit":
		offset, text, changed := y.parts[f[1]].Commit()
		m, err := DecodeMap(text, offset)
		return fmt.Sprintf("%d done %v changed %v", offset, m.Done, changed), err
	default:
		return "", fmt.Errorf("unknown command")
	}
	return "", nil
}

// add takes offsets with their keys: 3:a is offset 3 with key a.
func (y *story) add(part string, recs []string) string {
	var dropped []string
	for _, a := range recs {
		o, key, keyed := strings.Cut(a, ":")
		r := &Record{Offset: int64(number(o, 0)), Size: 1}
		if keyed {
			r.Key = []byte(key)
		}
		if !y.s.Add(y.parts[part], r, y.now) {
			dropped = append(dropped, o)
			continue
		}
		y.recs[part+"/"+o] = r
	}
	if dropped == nil {
		return ""
	}
	return "dropped " + strings.Join(dropped, " ")
}

func (y *story) take(limit int) string {
	var names []string
	for _, r := range y.s.Take(nil, limit, 1<<30) {
		names = append(names, fmt.Sprintf("%s/%d", r.Partition().ID.Topic, r.Offset))
	}
	if names == nil {
		return "nothing"
	}
	return strings.Join(names, " ")
}

func (y *story) named(names []string) (rs []*Record) {
	for _, n := range names {
		rs = append(rs, y.recs[n])
	}
	return rs
}
