package cli

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
	"github.com/valyala/fasthttp"
	"go.uber.org/goleak"

	"github.com/rousehq/rouse/internal/cmdline"
	"github.com/rousehq/rouse/internal/kafkabroker"
	"github.com/rousehq/rouse/kafkadispatch"
	"github.com/rousehq/rouse/kafkadispatch/sink"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"))
}

// target is an HTTP sink that keeps bodies and headers, and answers with a status.
type target struct {
	url    string
	mu     sync.Mutex
	bodies []string
	errs   int // requests that carried knativeerrordest
}

func newTarget(t *testing.T, status int) *target {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &target{url: "http://" + ln.Addr().String() + "/"}
	srv := &fasthttp.Server{CloseOnShutdown: true, Handler: func(c *fasthttp.RequestCtx) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.bodies = append(s.bodies, string(c.PostBody()))
		if len(c.Request.Header.Peek("ce-knativeerrordest")) > 0 {
			s.errs++
		}
		c.SetStatusCode(status)
	}}
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

func mustRun(t *testing.T, what string, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// One story: records go in, come out, fail into a dead letter topic, show as lag, and are sent again.
func TestCommands(t *testing.T) {
	b, err := kafkabroker.Start(kafkabroker.Config{Topics: map[string]int{"t": 2, "dead": 1}})
	mustRun(t, "broker", err)
	t.Cleanup(b.Close)
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	var out, errs bytes.Buffer
	mustRun(t, "produce", Produce(ctx, []string{"-bootstrap", b.String(), "-key-separator", ":", "-header", "h=v", "t"},
		strings.NewReader("a:1\nb:2\nc:3\n"), &out, &errs))
	mustRun(t, "consume", Consume(ctx, []string{"-bootstrap", b.String(), "t"}, &out, &errs))
	for _, want := range []string{"3 records", "\ta\t1\n", "\tb\t2\n", "\tc\t3\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("output %q lacks %q", out.String(), want)
		}
	}
	out.Reset()
	mustRun(t, "lag", Lag(ctx, []string{"-bootstrap", b.String(), "-group", "g", "t"}, &out, &errs))
	if !strings.HasSuffix(strings.TrimSpace(out.String()), " 3") || !strings.Contains(errs.String(), `no group "g" has committed anything in t`) {
		t.Errorf("lag printed %q and %q, want a total of 3 and that nobody knows the group", out.String(), errs.String())
	}
	fail(ctx, t, b)
	out.Reset()
	errs.Reset()
	mustRun(t, "lag", Lag(ctx, []string{"-bootstrap", b.String(), "-group", "g", "t"}, &out, &errs))
	if !strings.HasSuffix(strings.TrimSpace(out.String()), " 0") || errs.Len() > 0 {
		t.Errorf("lag printed %q and %q, want a total of 0", out.String(), errs.String())
	}
	good := newTarget(t, 202)
	out.Reset()
	mustRun(t, "replay", ReplayDeadLetters(ctx, []string{"-bootstrap", b.String(), "-sink", good.url, "dead"}, &out, &errs))
	good.mu.Lock()
	defer good.mu.Unlock()
	if len(good.bodies) != 3 || good.errs != 0 || !strings.HasPrefix(out.String(), "3 dead letters sent again, 0 left") {
		t.Errorf("replay sent %q with %d error extensions and said %q", good.bodies, good.errs, out.String())
	}
}

// fail runs a dispatcher whose sink refuses everything.
func fail(ctx context.Context, t *testing.T, b *kafkabroker.Broker) {
	t.Helper()
	bad := newTarget(t, 400)
	c := kafkadispatch.DefaultConfig()
	c.Namespace, c.Name = "ns", "n"
	c.Kafka.Bootstrap, c.Kafka.Topics, c.Kafka.Group, c.Kafka.InitialOffset = b.Bootstrap(), []string{"t"}, "g", kafkadispatch.Earliest
	c.Sink = sink.Config{URL: bad.url}
	c.DeadLetter.Topic = "dead"
	d, err := kafkadispatch.New(c)
	mustRun(t, "New", err)
	inner, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- d.Run(inner) }()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for d.Stats().DeadLettered < 3 {
		select {
		case <-ctx.Done():
			t.Fatal("no dead letters")
		case <-tick.C:
		}
	}
	cancel()
	mustRun(t, "Run", <-done)
}

func TestArgumentsAreChecked(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	var out bytes.Buffer
	for name, err := range map[string]error{
		"produce without topic": Produce(ctx, nil, strings.NewReader(""), &out, &out),
		"lag without group":     Lag(ctx, []string{"t"}, &out, &out),
		"replay without sink":   ReplayDeadLetters(ctx, []string{"t"}, &out, &out),
		"unknown flag":          Consume(ctx, []string{"-nope", "t"}, &out, &out),
	} {
		if cmdline.Code(err) != cmdline.Misused {
			t.Errorf("%s: %v, want it to be one of the command line", name, err)
		}
	}
}

func TestHelpShowsTheTopic(t *testing.T) {
	ctx := t.Context()
	var produce, consume, lag, replay bytes.Buffer
	for name, err := range map[string]error{
		"produce": Produce(ctx, []string{"-h"}, strings.NewReader(""), &produce, &produce), "consume": Consume(ctx, []string{"--help"}, &consume, &consume),
		"lag": Lag(ctx, []string{"-h"}, &lag, &lag), "replay-dead-letters": ReplayDeadLetters(ctx, []string{"-h"}, &replay, &replay),
	} {
		if !errors.Is(err, flag.ErrHelp) {
			t.Errorf("%s -h = %v", name, err)
		}
	}
	for name, out := range map[string]*bytes.Buffer{"produce": &produce, "consume": &consume, "lag": &lag, "replay-dead-letters": &replay} {
		if text := out.String(); !strings.Contains(text, "rouse "+name+" [FLAGS] TOPIC\n") || !strings.Contains(text, "before the topic") || !strings.Contains(text, "-bootstrap") {
			t.Errorf("%s -h shows\n%s", name, text)
		}
	}
}

// TestUnreachableBrokersAreNamed: nobody listens on the port of a listener that was closed.
func TestUnreachableBrokersAreNamed(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	mustRun(t, "listen", err)
	addr := ln.Addr().String()
	mustRun(t, "close", ln.Close())
	for code := range slices.Values(unreachable) {
		c := connection{bootstrap: addr}
		if err := c.blame(fmt.Errorf("lag: %w", kafka.NewError(code, "", false))); !strings.Contains(err.Error(), addr) {
			t.Errorf("error %d: %v, want it to name %s", code, err, addr)
		}
	}
	var out bytes.Buffer
	if err := Lag(t.Context(), []string{"-bootstrap", addr, "-timeout", "100ms", "-group", "g", "t"}, &out, &out); err == nil || !strings.Contains(err.Error(), "is there a broker at "+addr+"?") {
		t.Errorf("lag of nobody = %v, want it to name %s", err, addr)
	}
	if err := ReplayDeadLetters(t.Context(), []string{"-bootstrap", addr, "-timeout", "100ms", "-sink", "http://127.0.0.1:1", "t"}, &out, &out); err == nil || !strings.Contains(err.Error(), "is there a broker at "+addr+"?") {
		t.Errorf("dead letters of nobody = %v, want it to name %s", err, addr)
	}
}
