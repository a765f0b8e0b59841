package kafkadispatch_test

import (
	"context"
	"flag"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/valyala/fasthttp"
	"go.uber.org/goleak"

	"github.com/rousehq/rouse/internal/kafkabroker"
	"github.com/rousehq/rouse/kafkadispatch"
	"github.com/rousehq/rouse/kafkadispatch/sink"
)

func TestMain(m *testing.M) {
	if text := os.Getenv(childEnv); text != "" {
		os.Exit(runChild(text))
	}
	// Most cases wait, for a group to form or a backoff to pass; cores are not what bounds them.
	_ = flag.Set("test.parallel", "8")
	// The sink of these tests is a fasthttp server, which leaves a clock and a janitor behind.
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"))
}

// request is what the sink saw.
type request struct {
	path, body string
	header     map[string]string
	at         time.Time
}

func (r request) ce(name string) string { return r.header["ce-"+name] }

// httpSink is a real HTTP server that keeps what it saw and answers as told.
type httpSink struct {
	url    string
	answer func(n int, r request, c *fasthttp.RequestCtx)

	mu   sync.Mutex
	seen []request
	news chan struct{}
}

func newSink(t testing.TB, answer func(n int, r request, c *fasthttp.RequestCtx)) *httpSink {
	t.Helper()
	s := &httpSink{answer: answer, news: make(chan struct{}, 1)}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.url = "http://" + ln.Addr().String() + "/x"
	srv := &fasthttp.Server{Handler: s.handle, Logger: quiet{}, CloseOnShutdown: true}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(ln) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = srv.ShutdownWithContext(ctx)
		<-done
	})
	return s
}

type quiet struct{}

func (quiet) Printf(string, ...any) {}

func (s *httpSink) handle(c *fasthttp.RequestCtx) {
	r := request{path: string(c.Path()), body: string(c.PostBody()), header: map[string]string{}, at: time.Now()}
	for k, v := range c.Request.Header.All() {
		r.header[strings.ToLower(string(k))] = string(v)
	}
	s.mu.Lock()
	n := len(s.seen)
	s.seen = append(s.seen, r)
	s.mu.Unlock()
	select {
	case s.news <- struct{}{}:
	default:
	}
	c.SetStatusCode(202)
	if s.answer != nil {
		s.answer(n, r, c)
	}
}

func (s *httpSink) requests() []request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]request(nil), s.seen...)
}

// await waits until cond holds.
func await(t testing.TB, what string, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(2 * time.Minute)
	for !cond() {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s", what)
		}
		runtimeYield()
	}
}

func runtimeYield() { <-time.After(2 * time.Millisecond) }

// brokersEnv names real brokers; without it each test has an embedded one, over TCP.
const brokersEnv = "ROUSE_KAFKA_BOOTSTRAP"

// cluster is what tests talk to.
type cluster struct {
	addrs []string
	login []string // where a login is wanted
	run   string   // makes names unique on brokers that outlive the test

	user, password string // for addrs, when these want a login, too
}

// client is what clients of the tests themselves are configured with.
func (c *cluster) client(more kafka.ConfigMap) *kafka.ConfigMap {
	m := kafka.ConfigMap{"bootstrap.servers": c.String()}
	if c.user != "" {
		m["security.protocol"], m["sasl.mechanisms"] = "SASL_PLAINTEXT", "PLAIN"
		m["sasl.username"], m["sasl.password"] = c.user, c.password
	}
	for k, v := range more {
		m[k] = v
	}
	return &m
}

func (c *cluster) Bootstrap() []string { return c.addrs }
func (c *cluster) String() string      { return strings.Join(c.addrs, ",") }

// topic makes a topic and returns its name.
func (c *cluster) topic(t testing.TB, name string, partitions int) string {
	t.Helper()
	name += c.run
	createTopic(t, c, name, partitions)
	return name
}

func newBroker(t testing.TB) *cluster {
	t.Helper()
	if real := os.Getenv(brokersEnv); real != "" {
		return &cluster{addrs: strings.Split(real, ","), run: fmt.Sprintf("-%x", time.Now().UnixNano())}
	}
	b, err := kafkabroker.Start(kafkabroker.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return &cluster{addrs: b.Bootstrap()}
}

// loginEnv names the real brokers' addresses that want a login, with user and password: user:password@host:port,...
const loginEnv = "ROUSE_KAFKA_LOGIN"

// loginBroker has addresses that want a login beside those that want none.
func loginBroker(t testing.TB) (b *cluster, user, password string) {
	t.Helper()
	if os.Getenv(brokersEnv) != "" {
		b = newBroker(t)
		who, at, ok := strings.Cut(os.Getenv(loginEnv), "@")
		user, password, named := strings.Cut(who, ":")
		if !ok || !named {
			t.Fatalf("%s is set, so %s must be user:password@host:port,...", brokersEnv, loginEnv)
		}
		b.login = strings.Split(at, ",")
		return b, user, password
	}
	k, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.EnableSASL(), kfake.Superuser("PLAIN", "u", "p"), kfake.Superuser("SCRAM-SHA-256", "u", "p"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Close)
	return &cluster{addrs: k.ListenAddrs(), login: k.ListenAddrs(), user: "u", password: "p"}, "u", "p"
}

// put writes records and waits for the broker to have them.
func put(t testing.TB, b *cluster, topic string, msgs ...*kafka.Message) {
	t.Helper()
	p, err := kafka.NewProducer(b.client(kafka.ConfigMap{"linger.ms": 1, "go.delivery.reports": false, "queue.buffering.max.messages": 2000000}))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	for _, m := range msgs {
		m.TopicPartition.Topic = &topic
		if err := p.Produce(m, nil); err != nil {
			t.Fatal(err)
		}
	}
	if left := p.Flush(20_000); left != 0 {
		t.Fatalf("%d records were not taken by the broker", left)
	}
}

func record(partition int32, key, value string) *kafka.Message {
	m := &kafka.Message{TopicPartition: kafka.TopicPartition{Partition: partition}, Value: []byte(value)}
	if key != "" {
		m.Key = []byte(key)
	}
	return m
}

// config is a dispatcher's with times fit for tests.
func config(b *cluster, topic, url string) kafkadispatch.Config {
	c := kafkadispatch.DefaultConfig()
	c.Namespace, c.Name = "ns", "src"
	c.Kafka.Bootstrap, c.Kafka.Group, c.Kafka.Topics = b.Bootstrap(), "g-"+topic, []string{topic}
	c.Kafka.InitialOffset = kafkadispatch.Earliest
	c.Kafka.SessionTimeout = 6 * time.Second // a busy machine must not cost a member its session
	c.Sink = sink.Config{URL: url, Timeout: 10 * time.Second}
	c.Policy = sink.Policy{Retries: 3, Linear: true, Delay: time.Millisecond}
	c.CommitEvery = 20 * time.Millisecond
	return c
}

// start runs a dispatcher until stop is called, or the test ends.
func start(t testing.TB, c kafkadispatch.Config) (d *kafkadispatch.Dispatcher, stop func()) {
	t.Helper()
	d, err := kafkadispatch.New(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			select {
			case err := <-done:
				if err != nil {
					t.Errorf("Run: %v", err)
				}
			case <-time.After(30 * time.Second):
				t.Error("Run did not return")
			}
		})
	}
	t.Cleanup(stop)
	return d, stop
}

// committed is what the group has committed for a partition, or -1.
func committed(t testing.TB, b *cluster, group, topic string, partition int32) int64 {
	t.Helper()
	a, err := kafka.NewAdminClient(b.client(nil))
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	res, err := a.ListConsumerGroupOffsets(ctx, []kafka.ConsumerGroupTopicPartitions{{Group: group, Partitions: []kafka.TopicPartition{{Topic: &topic, Partition: partition}}}})
	if err != nil {
		return -1 // the group has never committed
	}
	for _, tp := range res.ConsumerGroupsTopicPartitions[0].Partitions {
		if tp.Partition == partition && tp.Offset >= 0 {
			return int64(tp.Offset)
		}
	}
	return -1
}

func offsets(rs []request) string {
	var out []string
	for _, r := range rs {
		out = append(out, fmt.Sprintf("%s/%s", r.ce("knativekafkapartition"), r.ce("knativekafkaoffset")))
	}
	return strings.Join(out, " ")
}

// awaitDone waits until the dispatcher has received records and finished all of them.
func awaitDone(t testing.TB, d *kafkadispatch.Dispatcher) {
	t.Helper()
	await(t, "all records finished", func() bool {
		demand, st := d.Demand(), d.Stats()
		finished := st.Delivered + st.DeadLettered + st.Dropped // a member that lost its partitions has no lag either
		return finished > 0 && demand.Partitions > 0 && demand.Lag == 0 && demand.InFlight == 0
	})
}
