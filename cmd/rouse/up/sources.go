package up

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rousehq/rouse/internal/identity"
	"github.com/rousehq/rouse/internal/kafkabroker"
	"github.com/rousehq/rouse/internal/manifest"
	"github.com/rousehq/rouse/internal/route"
	"github.com/rousehq/rouse/kafkadispatch"
	"github.com/rousehq/rouse/kafkadispatch/sink"
	"github.com/rousehq/rouse/kafkadispatch/source"
	"github.com/rousehq/rouse/metrics"
)

// kafkaSource is the kind that this file runs.
const kafkaSource = "sources.knative.dev/KafkaSource"

// sources are the KafkaSources of a rouse: their dispatchers, and the broker inside this process when one asks for it.
type sources struct {
	s           *stack
	broker      *kafkabroker.Broker
	dispatchers []*kafkadispatch.Dispatcher
	names       []string
	scaled      []*scaled
	hosts       []string             // of the services in the manifests
	found       manifest.Diagnostics // of the sources
}

// addSources decodes KafkaSources and makes their dispatchers. One that is wrong is said, and the others go on; with
// --strict it is an error, and so is what is only a warning else.
func (s *stack) addSources(in intake) error {
	all := &sources{s: s, hosts: hostsOf(in.services, s.o.Domain)}
	s.sources = all
	var decoded []decodedSource
	topics := map[string]int{}
	for _, doc := range in.others {
		if doc.Kind == "ScaledObject" {
			all.decodeScaled(doc, topics)
			continue
		}
		k, err := source.Parse(doc.YAML)
		if err != nil {
			all.found = append(all.found, doc.Fault(manifest.Error, "", err.Error(), goesOn))
			continue
		}
		if slices.Equal(k.Spec.BootstrapServers, []string{source.Embedded}) {
			for _, t := range k.Spec.Topics {
				topics[t] = max(topics[t], k.Partitions())
			}
		}
		decoded = append(decoded, decodedSource{k, doc})
	}
	if len(topics) > 0 {
		if err := all.embed(topics); err != nil {
			return err
		}
	}
	for _, d := range decoded {
		all.judge(d, all.add(d.source))
	}
	return all.say()
}

// decodedSource is a KafkaSource with its place in a file.
type decodedSource struct {
	source *source.KafkaSource
	doc    manifest.Document
}

// goesOn is what becomes of a source that is wrong.
const goesOn = "it does not run, others go on"

// judge notes why a source does not run, and what of it has no effect.
func (a *sources) judge(d decodedSource, err error) {
	var faults source.Faults
	switch {
	case errors.As(err, &faults):
		for _, f := range faults {
			a.found = append(a.found, d.doc.Fault(manifest.Error, f.Path(), f.Text, goesOn))
		}
	case err != nil:
		a.found = append(a.found, d.doc.Fault(manifest.Error, "", err.Error(), goesOn))
	default:
		a.judgeSinks(d)
	}
	for _, f := range d.source.Unknown() {
		a.found = append(a.found, d.doc.Fault(manifest.Warning, f.Path(), f.Text, ""))
	}
}

// judgeSinks warns of references to services that nobody serves: their events would be tried again for ever.
func (a *sources) judgeSinks(d decodedSource) {
	sinks := map[string]*source.Destination{"spec.sink": d.source.Spec.Sink}
	if delivery := d.source.Spec.Delivery; delivery != nil {
		sinks["spec.delivery.deadLetterSink"] = delivery.DeadLetterSink
	}
	for _, path := range slices.Sorted(maps.Keys(sinks)) {
		if host := a.away(sinks[path], d.source.Metadata.Namespace); host != "" {
			a.found = append(a.found, d.doc.Fault(manifest.Warning, path, "there is no service "+host+" in the manifests",
				"its events wait until `rouse apply` brings one"))
		}
	}
}

// away returns the host of a destination that is a service by its name and that no manifest has, or "".
func (a *sources) away(to *source.Destination, namespace string) string {
	if to == nil {
		return ""
	}
	host := ""
	if to.Ref != nil {
		host = to.Ref.Name + "." + cmp.Or(to.Ref.Namespace, namespace) + inCluster
	} else if u, err := url.Parse(to.URI); err == nil && strings.HasSuffix(u.Hostname(), inCluster) {
		host = u.Hostname()
	}
	if slices.Contains(a.hosts, host) {
		return ""
	}
	return host
}

// say prints what was found, or with --strict returns it.
func (a *sources) say() error {
	if a.s.o.Strict && len(a.found) > 0 {
		for i := range a.found {
			a.found[i].Severity = manifest.Error
		}
		a.closeBroker()
		return a.found.Err()
	}
	for _, f := range a.found {
		fmt.Fprintln(a.s.o.Stderr, f)
	}
	return nil
}

// closeBroker ends the broker inside the process, when there is one.
func (a *sources) closeBroker() {
	if a.broker != nil {
		a.broker.Close()
	}
}

// usualPort is where Kafka's tools look for a broker.
const usualPort = 9092

func (a *sources) embed(topics map[string]int) (err error) {
	for t, n := range topics {
		topics[t] = max(n, 1)
	}
	cfg := kafkabroker.Config{Topics: topics}
	if a.s.o.Data != "" {
		cfg.DataDir = filepath.Join(a.s.o.Data, "kafka")
	}
	cfg.Port = usualPort
	if a.broker, err = kafkabroker.Start(cfg); err != nil { // somebody has it: any other will do
		cfg.Port = 0
		a.broker, err = kafkabroker.Start(cfg)
	}
	if err != nil {
		return fmt.Errorf("embedded broker: %w", err)
	}
	kept := "in memory"
	if cfg.DataDir != "" {
		kept = "in " + cfg.DataDir
	}
	fmt.Fprintf(a.s.o.Stdout, "embedded Kafka on %s, records kept %s, replication 1\n", a.broker, kept)
	return nil
}

func (a *sources) add(k *source.KafkaSource) error {
	cfg, err := k.Config(a)
	if err != nil {
		return err
	}
	cfg.Logger = a.s.log
	cfg.Sink.Dial = a.dial
	cfg.Report = a.report(k.Metadata.Namespace+"/"+k.Metadata.Name, cfg.Sink.URL)
	for _, to := range []*sink.Config{cfg.DeadLetter.HTTP, cfg.Reply.HTTP} {
		if to != nil {
			to.Dial = a.dial
		}
	}
	d, err := kafkadispatch.New(cfg)
	if err != nil {
		return err
	}
	fmt.Fprintf(a.s.o.Stdout, "KafkaSource %s/%s reads %s as consumer group %s\n",
		k.Metadata.Namespace, k.Metadata.Name, strings.Join(cfg.Kafka.Topics, ", "), cfg.Kafka.Group)
	a.dispatchers = append(a.dispatchers, d)
	a.names = append(a.names, k.Metadata.Namespace+"/"+k.Metadata.Name)
	return nil
}

// run dispatches until ctx ends. A source that the brokers refuse for good ends alone.
func (a *sources) run(ctx context.Context) error {
	var all sync.WaitGroup
	for i, d := range a.dispatchers {
		all.Go(func() {
			if err := d.Run(ctx); err != nil {
				fmt.Fprintf(a.s.o.Stderr, "KafkaSource %s ended: %v; others go on\n", a.names[i], err)
			}
		})
	}
	for _, s := range a.scaled {
		all.Go(func() { s.run(ctx) })
	}
	all.Wait()
	a.closeBroker()
	return nil
}

// report tells the control loop what a source has for the local service that is its sink: how far behind it is and how
// many requests could be under way, so that no pod is started that would get nothing to do. Other sinks scale elsewhere.
func (a *sources) report(source, sink string) func(kafkadispatch.Demand) {
	u, err := url.Parse(sink)
	if err != nil {
		return nil // the sink's own check says so
	}
	reports := kafkadispatch.Reports{Pod: "kafka/" + source}
	return func(d kafkadispatch.Demand) {
		if rev, ok := a.s.fleet.at(u.Hostname()); ok {
			a.s.loop.Report(metrics.Message{Namespace: rev.Namespace, Name: rev.Name, Stat: reports.Stat(d, time.Now())})
		}
	}
}

// dial leads the names of local services to the activator, and every other address where it says.
func (a *sources) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	if a.s.fleet.serves(host) {
		network, addr = a.s.local.Network(), a.s.local.String()
	}
	var d net.Dialer
	return d.DialContext(ctx, network, addr)
}

// Address implements source.Resolver: a referenced service is a local one.
func (a *sources) Address(ref source.Ref) (string, error) {
	if ref.Kind != "Service" {
		return "", fmt.Errorf("kind %s: only Services run here; give a uri", ref.Kind)
	}
	return "http://" + ref.Name + "." + ref.Namespace + inCluster, nil
}

// Secret implements source.Resolver.
func (a *sources) Secret(namespace, name, key string) (string, error) {
	return "", fmt.Errorf("secret %s/%s, key %s: secrets are not read on one machine; use brokers without login, or kafkadispatch", namespace, name, key)
}

// Embedded implements source.Resolver.
func (a *sources) Embedded() []string {
	if a.broker == nil {
		return nil
	}
	return a.broker.Bootstrap()
}

// Token implements source.Resolver.
func (a *sources) Token(audience string) func(context.Context) (string, error) {
	return func(context.Context) (string, error) {
		return "", errors.New("audience " + audience + ": there are no service account tokens on one machine")
	}
}

// inCluster ends the name that a service has in a cluster.
const inCluster = ".svc.cluster.local"

// hostsOf lists the names of services.
func hostsOf(services []manifest.Service, domain string) (hosts []string) {
	for i := range services {
		s := &services[i]
		hosts = append(hosts, route.Domains{Public: domain}.Hosts(s.Namespace, s.Name, s.ClusterLocal)...)
	}
	return hosts
}

// serves reports whether a host is one of the services'.
func (f *fleet) serves(host string) bool {
	_, ok := f.at(host)
	return ok
}

// at returns the newest revision of the service that a host is the name of.
func (f *fleet) at(host string) (identity.Revision, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, d := range f.services {
		if slices.Contains(route.Domains{Public: f.domains.Public}.Hosts(d.service.Namespace, d.service.Name, d.service.ClusterLocal), host) {
			return d.newest().config.ID, true
		}
	}
	return identity.Revision{}, false
}
