// Command kafkadispatch runs KafkaSource manifests: it reads their topics and POSTs the records to their sinks.
//
//	kafkadispatch -f sources.yaml [-data DIR] [-secrets DIR] [-listen :9090]
//
// Each source runs by itself: one that is misconfigured, or whose brokers are away, does not stop the others.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/rousehq/rouse/internal/cmdline"
	"github.com/rousehq/rouse/internal/kafkabroker"
	"github.com/rousehq/rouse/kafkadispatch"
	"github.com/rousehq/rouse/kafkadispatch/source"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	code := run(ctx, os.Args[1:], os.Stderr)
	stop()
	os.Exit(code)
}

type settings struct {
	files                 []string
	data, secrets, listen string
	domain                string
}

func run(ctx context.Context, args []string, stderr io.Writer) int {
	var s settings
	fs := flag.NewFlagSet("kafkadispatch", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.Func("f", "manifest file or directory, may be repeated", func(v string) error { s.files = append(s.files, v); return nil })
	fs.StringVar(&s.data, "data", "", "where an embedded broker keeps its records; empty keeps them in memory")
	fs.StringVar(&s.secrets, "secrets", "/etc/rouse/secrets", "directory with a file NAME/KEY for each value of a Secret")
	fs.StringVar(&s.listen, "listen", ":9090", "address of /healthz, /readyz and /metrics; empty for none")
	fs.StringVar(&s.domain, "cluster-domain", "svc.cluster.local", "what follows NAME.NAMESPACE in the address of a referenced service")
	switch err := cmdline.Parse(fs, args); {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		fmt.Fprintln(stderr, "kafkadispatch:", err)
		return cmdline.Code(err)
	}
	log := slog.New(slog.NewJSONHandler(stderr, nil))
	if err := serve(ctx, s, log); err != nil {
		log.Error("kafkadispatch ended", "error", err)
		return cmdline.Failed
	}
	return 0
}

// serve starts what works and runs it until ctx ends.
func serve(ctx context.Context, s settings, log *slog.Logger) error {
	sources, err := readFiles(s.files)
	if err != nil {
		return err
	}
	broker, err := embedded(sources, s.data, log)
	if err != nil {
		return err
	}
	if broker != nil {
		defer broker.Close()
	}
	m := &monitor{}
	r := &files{secrets: s.secrets, domain: s.domain, broker: broker}
	for _, k := range sources {
		for _, f := range k.Unknown() {
			log.Warn(f.Text, "source", k.Metadata.Namespace+"/"+k.Metadata.Name, "annotation", f.Key)
		}
		d, err := build(k, r, log)
		if err != nil {
			log.Error("source does not run; others go on", "error", err)
			continue
		}
		m.add(k.Metadata.Namespace+"/"+k.Metadata.Name, d)
	}
	if len(m.list()) == 0 {
		return errors.New("no source can run: correct the manifests")
	}
	end, err := m.listen(s.listen, log)
	if err != nil {
		return err
	}
	runAll(ctx, m.list(), log)
	end()
	return nil
}

func build(k *source.KafkaSource, r source.Resolver, log *slog.Logger) (*kafkadispatch.Dispatcher, error) {
	c, err := k.Config(r)
	if err != nil {
		return nil, err
	}
	c.Logger = log
	if n := k.Consumers(); n > 1 {
		log.Info("one member of this process does the work of all consumers; run more replicas for more members",
			"source", k.Metadata.Namespace+"/"+k.Metadata.Name, "consumers", n)
	}
	return kafkadispatch.New(c)
}

// runAll runs each source until ctx ends. One that the brokers refuse for good ends alone.
func runAll(ctx context.Context, all []named, log *slog.Logger) {
	var wg sync.WaitGroup
	for _, n := range all {
		wg.Go(func() {
			if err := n.d.Run(ctx); err != nil {
				log.Error("source ended; others go on", "source", n.name, "error", err)
			}
		})
	}
	wg.Wait()
}

// embedded starts a broker when a source wants one.
func embedded(sources []*source.KafkaSource, data string, log *slog.Logger) (*kafkabroker.Broker, error) {
	topics := map[string]int{}
	for _, k := range sources {
		if b := k.Spec.BootstrapServers; len(b) == 1 && b[0] == source.Embedded {
			for _, t := range k.Spec.Topics {
				topics[t] = max(topics[t], k.Partitions())
			}
		}
	}
	if len(topics) == 0 {
		return nil, nil
	}
	b, err := kafkabroker.Start(kafkabroker.Config{DataDir: data, Topics: topics})
	if err == nil {
		log.Info("embedded broker", "bootstrap", b.String(), "data", data, "replication", 1)
	}
	return b, err
}

// listen serves health and metrics; end stops it.
func (m *monitor) listen(addr string, log *slog.Logger) (end func(), err error) {
	if addr == "" {
		return func() {}, nil
	}
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("-listen: %w", err)
	}
	log.Info("health and metrics", "addr", ln.Addr().String())
	srv := &http.Server{Handler: m, ReadHeaderTimeout: 5 * time.Second}
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			log.Error("health and metrics ended", "error", err)
		}
	})
	return func() { _ = srv.Close(); wg.Wait() }, nil
}
