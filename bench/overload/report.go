package overload

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
)

const (
	settling = time.Minute // after it memory must stand still
	mayGrow  = 0.1         // of what a process had then
)

// report prints a line per period and remembers what the bounds are held against.
type report struct {
	o     *options
	out   io.Writer
	bases map[string]int64 // RSS after settling, by process
	most  map[string]int64 // largest RSS since
	depth int              // largest queue
}

// watch runs the crowd for the chosen time.
func (r *report) watch(ctx context.Context, h *house, c *crowd) error {
	running, end := context.WithTimeout(ctx, time.Duration(r.o.seconds)*time.Second)
	defer end()
	gone := make(chan struct{})
	go func() { defer close(gone); c.run(running) }()
	began := time.Now()
	err := r.lines(running, h, c, began)
	end()
	<-gone
	if err := errors.Join(err, ctx.Err(), r.line(ctx, h, c, began)); err != nil {
		return err
	}
	return r.verdict(c)
}

func (r *report) lines(ctx context.Context, h *house, c *crowd, began time.Time) error {
	tick := time.NewTicker(r.o.every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if err := r.line(ctx, h, c, began); err != nil {
				return err
			}
		case <-h.done:
			return errors.New("rouse up ended")
		case <-ctx.Done():
			return nil
		}
	}
}

// line prints the memory of every process, the queue, and outcomes so far.
func (r *report) line(ctx context.Context, h *house, c *crowd, began time.Time) error {
	parts, err := h.parts()
	if err != nil {
		return err
	}
	depth, err := h.depth(context.WithoutCancel(ctx), parts)
	if err != nil {
		return err
	}
	r.depth = max(r.depth, depth)
	at := time.Since(began)
	var text strings.Builder
	fmt.Fprintf(&text, "%4.0f s  RSS MB", at.Seconds())
	for i, p := range parts {
		key := fmt.Sprint(p.name, " ", p.pid)
		if r.bases[key] == 0 && at >= settling {
			r.bases[key] = p.rss
		}
		if at >= settling {
			r.most[key] = max(r.most[key], p.rss)
		}
		sep := ","
		if i == 0 {
			sep = ""
		}
		fmt.Fprintf(&text, "%s %s %.1f", sep, p.name, float64(p.rss)/1e6)
	}
	sent, outcomes := c.counts()
	fmt.Fprintf(&text, "  parked %d  sent %d:", depth, sent)
	for _, o := range slices.Sorted(maps.Keys(outcomes)) {
		fmt.Fprintf(&text, " %s %d", o, outcomes[o])
	}
	_, err = fmt.Fprintln(r.out, text.String())
	return err
}

// verdict holds what was seen against the bounds.
func (r *report) verdict(c *crowd) error {
	var errs []error
	sent, outcomes := c.counts()
	sum := 0
	for o, n := range outcomes {
		sum += n
		if o != served && o != refused && o != gaveUp {
			errs = append(errs, fmt.Errorf("%d requests ended with %q, which is neither an answer nor a refusal that says when to come again", n, o))
		}
	}
	if sum != sent {
		errs = append(errs, fmt.Errorf("%d of %d requests have no outcome", sent-sum, sent))
	}
	if most := r.o.queue * max(1, r.o.activators); r.depth > most {
		errs = append(errs, fmt.Errorf("%d requests were parked, with room for %d", r.depth, most))
	}
	for key, base := range r.bases {
		if most := r.most[key]; float64(most) > float64(base)*(1+mayGrow) {
			errs = append(errs, fmt.Errorf("%s grew from %.1f to %.1f MB after the first minute", key, float64(base)/1e6, float64(most)/1e6))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	for _, key := range slices.Sorted(maps.Keys(r.bases)) {
		fmt.Fprintf(r.out, "%s: %.1f MB after a minute, at most %.1f MB since\n", key, float64(r.bases[key])/1e6, float64(r.most[key])/1e6)
	}
	_, err := fmt.Fprintf(r.out, "every one of %d requests has its outcome; at most %d were parked\n", sent, r.depth)
	return err
}
