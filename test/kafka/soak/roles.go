package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/rousehq/rouse/kafkadispatch"
	"github.com/rousehq/rouse/kafkadispatch/order"
)

// inFlight of each dispatcher.
const inFlight = 64

func dispatch(o options) error {
	c := kafkadispatch.DefaultConfig()
	c.Namespace, c.Name = "soak", "soak"
	c.Kafka.Bootstrap, c.Kafka.Topics, c.Kafka.Group = strings.Split(o.bootstrap, ","), []string{o.topic}, o.topic
	c.Kafka.InitialOffset, c.Kafka.SessionTimeout = kafkadispatch.Earliest, 1500*time.Millisecond
	c.Sink.URL, c.Sink.Timeout = o.url, time.Second
	c.Order.Mode, c.Order.MaxInFlight = order.ByKey, inFlight
	c.Policy.Retries, c.Policy.Delay, c.Policy.MaxDelay = 1_000_000, 5*time.Millisecond, 200*time.Millisecond
	c.CommitEvery = o.commit
	c.RevokeDeadline, c.DrainTimeout = 1500*time.Millisecond, 1500*time.Millisecond
	c.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	c.Committed = func(upTo time.Time, err error) {
		if err == nil {
			_ = note(o, upTo, "commit", os.Getpid())
		}
	}
	d, err := kafkadispatch.New(c)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	return d.Run(ctx)
}

// serve is the hostile sink. A line of its log is: microseconds, how it ended, partition, offset, the record ("key n").
func serve(o options, stdout io.Writer) error {
	f, err := os.Create(o.log)
	if err != nil {
		return err
	}
	defer f.Close()
	w := bufio.NewWriter(f)
	var mu sync.Mutex
	write := func(how string, body []byte) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprintf(w, "%d %s %s\n", time.Now().UnixMicro(), how, body)
		_ = w.Flush()
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Fprintf(stdout, "http://%s/\n", ln.Addr())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	return (&fasthttp.Server{Handler: func(c *fasthttp.RequestCtx) { misbehave(c, write) }}).Serve(ln)
}

func misbehave(c *fasthttp.RequestCtx, write func(string, []byte)) {
	body := fmt.Appendf(nil, "%s %s %s", c.Request.Header.Peek("ce-knativekafkapartition"),
		c.Request.Header.Peek("ce-knativekafkaoffset"), c.PostBody())
	write("got", body)
	time.Sleep(time.Duration(rand.IntN(5000)) * time.Microsecond)
	switch n := rand.IntN(1000); {
	case n < 3:
		time.Sleep(1500 * time.Millisecond) // the dispatcher has given up by now
		write("stalled", body)
	case n < 10:
		c.HijackSetNoResponse(true)
		c.Hijack(func(nc net.Conn) {
			if t, ok := nc.(*net.TCPConn); ok {
				_ = t.SetLinger(0)
			}
		})
		write("reset", body)
	case n < 50:
		c.SetStatusCode(503)
		write("refused", body)
	default:
		c.SetStatusCode(202)
		write("took", body)
	}
}
