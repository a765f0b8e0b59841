package harness

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Event is one line of a testapp's journal.
type Event struct {
	At   time.Time
	Name string // of the container, as -name had it
	What string // "start", "listening", "GET /path ID", "sigterm", "exit 0"
}

// Journal reads a journal that testapps wrote in Shared, in the order of writing. No file means no events.
func (c *Cluster) Journal(file string) (events []Event) {
	c.t.Helper()
	b, err := os.ReadFile(filepath.Join(c.Shared(), file))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		c.t.Fatal(err)
	}
	return c.events(file, string(b))
}

// Told reads the same events from a testapp's log, for pods without a journal.
func (c *Cluster) Told(pod, container string) []Event {
	c.t.Helper()
	return c.events(pod, c.Logs(pod, container))
}

func (c *Cluster) events(source, text string) (events []Event) {
	c.t.Helper()
	for line := range strings.Lines(text) {
		at, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		name, what, ok := strings.Cut(rest, " ")
		ns, err := strconv.ParseInt(at, 10, 64)
		if err != nil || !ok {
			c.t.Fatalf("journal %s: %q", source, line)
		}
		events = append(events, Event{At: time.Unix(0, ns), Name: name, What: what})
	}
	return events
}

// Twice lists the IDs of requests that applications saw more than once, from any journals of the test's.
func (c *Cluster) Twice(files ...string) (ids []string) {
	c.t.Helper()
	seen := make(map[string]int)
	for _, file := range files {
		for _, e := range c.Journal(file) {
			if f := strings.Fields(e.What); len(f) == 3 {
				if seen[f[2]]++; seen[f[2]] == 2 {
					ids = append(ids, f[2])
				}
			}
		}
	}
	return ids
}
