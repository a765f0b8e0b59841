package dispatch

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime/pprof"
	"strconv"
	"strings"
	"time"

	"github.com/rousehq/rouse/internal/cmdline"
)

// roleEnv makes a copy of this program a sink or a broker.
const roleEnv = "ROUSE_BENCH_DISPATCH_ROLE"

type options struct {
	bootstrap  string
	partitions []int
	delays     []time.Duration
	sizes      []int
	orders     []string
	keys       int
	inFlight   int
	batch      int
	seconds    float64
	rounds     int
	json       bool
	poison     bool
	memory     bool
	profile    string
	noBare     bool
}

// cell is one combination.
type cell struct {
	Partitions int           `json:"partitions"`
	Delay      time.Duration `json:"delayNs"`
	Size       int           `json:"size"`
	Order      string        `json:"order"`
	Keys       int           `json:"keys"`
}

// result is what one cell gave: events per second and CPU per event of the dispatcher and of the bare loop.
type result struct {
	cell
	Records     int     `json:"records"`
	Rate        float64 `json:"rate"`
	CPU         float64 `json:"cpuMicros"`
	SinkCPU     float64 `json:"sinkCpuMicros"` // of the sink: it reads what is sent
	BareRate    float64 `json:"bareRate,omitempty"`
	BareCPU     float64 `json:"bareCpuMicros,omitempty"`
	BareSinkCPU float64 `json:"bareSinkCpuMicros,omitempty"`
	OverBound   float64 `json:"ofBound,omitempty"` // share of partitions ÷ delay, by partition only
}

// Main runs the benchmark. Arguments are flags; -h lists them.
func Main(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	switch os.Getenv(roleEnv) {
	case "sink":
		return serveSink(ctx, stdout)
	case "broker":
		return serveBroker(ctx, stdout)
	}
	o, err := parse(args, stderr)
	if err != nil {
		return err
	}
	b, err := newBench(ctx, o, stderr)
	if err != nil {
		return err
	}
	defer b.close()
	if o.profile != "" {
		f, err := os.Create(o.profile)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	switch {
	case o.poison:
		return b.poison(ctx, stdout)
	case o.memory:
		return b.memory(ctx, stdout)
	}
	return b.table(ctx, stdout)
}

func parse(args []string, stderr io.Writer) (options, error) {
	var o options
	var partitions, delays, sizes, orders string
	fs := flag.NewFlagSet("rouse bench dispatch", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.StringVar(&o.bootstrap, "bootstrap", "", "brokers; empty starts an embedded one in a process of its own")
	fs.StringVar(&partitions, "partitions", "1,8", "numbers of partitions")
	fs.StringVar(&delays, "delay", "0,1ms,5ms", "how long the sink takes for an event")
	fs.StringVar(&sizes, "size", "100,1024", "value sizes in bytes")
	fs.BoolVar(&o.noBare, "no-bare", false, "leave the bare loop out")
	fs.StringVar(&orders, "order", "partition,key,none,batch", "what must stay in order; batch is by key, in batches")
	fs.IntVar(&o.keys, "keys", 10_000, "how many keys the records have")
	fs.IntVar(&o.inFlight, "inflight", 256, "most requests in flight")
	fs.IntVar(&o.batch, "batch", 50, "most records of a batch")
	fs.Float64Var(&o.seconds, "seconds", 3, "about how long each measurement takes")
	fs.IntVar(&o.rounds, "rounds", 2, "measurements of each rival per cell, in turn; the better one counts for each")
	fs.BoolVar(&o.json, "json", false, "one JSON object per cell")
	fs.BoolVar(&o.poison, "poison", false, "measure others' latency beside a poison record instead")
	fs.BoolVar(&o.memory, "memory", false, "measure the memory of idle sources instead")
	fs.StringVar(&o.profile, "cpuprofile", "", "write a CPU profile of the dispatcher's runs to this file")
	if err := cmdline.Parse(fs, args); err != nil {
		return o, err
	}
	err := errors.Join(
		list(partitions, strconv.Atoi, &o.partitions), list(sizes, strconv.Atoi, &o.sizes),
		list(delays, time.ParseDuration, &o.delays),
		list(orders, func(s string) (string, error) { return s, nil }, &o.orders))
	for _, s := range o.orders {
		if _, ok := modes[s]; !ok {
			err = errors.Join(err, fmt.Errorf("-order %q: must be partition, key, none or batch", s))
		}
	}
	return o, cmdline.Misuse(err)
}

func list[T any](text string, read func(string) (T, error), into *[]T) error {
	for _, s := range strings.Split(text, ",") {
		v, err := read(strings.TrimSpace(s))
		if err != nil {
			return fmt.Errorf("%q: %w", s, err)
		}
		*into = append(*into, v)
	}
	return nil
}

func (b *bench) table(ctx context.Context, stdout io.Writer) error {
	if !b.o.json {
		fmt.Fprintf(stdout, "%-10s %5s %6s %5s %7s | %9s %6s %6s | %9s %6s %6s | %6s %8s\n", "order", "parts", "delay", "size", "records",
			"rouse/s", "µs CPU", "sink's", "bare/s", "µs CPU", "sink's", "ratio", "of bound")
	}
	for _, size := range b.o.sizes {
		for _, delay := range b.o.delays {
			for _, parts := range b.o.partitions {
				for _, order := range b.o.orders {
					r, err := b.cell(ctx, cell{Partitions: parts, Delay: delay, Size: size, Order: order, Keys: b.o.keys})
					if err != nil {
						return err
					}
					if err := b.print(stdout, r); err != nil {
						return err
					}
				}
			}
		}
	}
	return nil
}

func (b *bench) print(w io.Writer, r result) error {
	if b.o.json {
		return json.NewEncoder(w).Encode(r)
	}
	bare, ratio, bound := fmt.Sprintf("%9s %6s %6s", "-", "-", "-"), "-", "-"
	if r.BareRate > 0 {
		bare, ratio = fmt.Sprintf("%9.0f %6.1f %6.1f", r.BareRate, r.BareCPU, r.BareSinkCPU), fmt.Sprintf("%.2f", r.Rate/r.BareRate)
	}
	if r.OverBound > 0 {
		bound = fmt.Sprintf("%.0f %%", 100*r.OverBound)
	}
	_, err := fmt.Fprintf(w, "%-10s %5d %6v %5d %7d | %9.0f %6.1f %6.1f | %s | %6s %8s\n", r.Order, r.Partitions, r.Delay, r.Size, r.Records,
		r.Rate, r.CPU, r.SinkCPU, bare, ratio, bound)
	return err
}
