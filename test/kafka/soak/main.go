// Command soak runs dispatchers against real brokers and a hostile sink, and kills whatever can be killed: the
// dispatcher with SIGKILL, brokers with SIGKILL, group members by joining and leaving. Afterwards a checker reads the
// sink's log, and nothing else, and says what was lost, out of order or doubled.
//
//	cluster.sh up 3 DIR && go run ./test/kafka/soak -cluster DIR -kills 20
//
// The same program is dispatcher, sink and checker, each in a process of its own.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
)

const roleEnv = "ROUSE_SOAK_ROLE"

type options struct {
	bootstrap, cluster, script, log, topic, url string
	kills, rate, keys, partitions, brokers      int
	every, commit                               time.Duration
}

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, stdout, stderr io.Writer) int {
	var o options
	fs := flag.NewFlagSet("soak", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.StringVar(&o.bootstrap, "bootstrap", "127.0.0.1:29091,127.0.0.1:29092,127.0.0.1:29093", "brokers")
	fs.StringVar(&o.cluster, "cluster", "", "directory of cluster.sh; empty leaves the brokers alone")
	fs.StringVar(&o.script, "script", "test/kafka/cluster.sh", "path of cluster.sh")
	fs.StringVar(&o.log, "log", filepath.Join(os.TempDir(), "rouse-soak.log"), "the sink's log")
	fs.StringVar(&o.topic, "topic", fmt.Sprintf("soak-%x", time.Now().UnixNano()), "topic")
	fs.StringVar(&o.url, "url", "", "sink; set by the parent process")
	fs.IntVar(&o.kills, "kills", 20, "how often the dispatcher is killed")
	fs.DurationVar(&o.every, "every", 3*time.Second, "time between kills")
	fs.DurationVar(&o.commit, "commit", 200*time.Millisecond, "commit period")
	fs.IntVar(&o.rate, "rate", 500, "records per second")
	fs.IntVar(&o.keys, "keys", 200, "keys")
	fs.IntVar(&o.partitions, "partitions", 6, "partitions")
	fs.IntVar(&o.brokers, "brokers", 3, "brokers of the cluster")
	if err := fs.Parse(args); err != nil {
		return 2
	}
	var err error
	switch os.Getenv(roleEnv) {
	case "dispatcher":
		err = dispatch(o)
	case "sink":
		err = serve(o, stdout)
	case "checker":
		err = check(o, stdout)
	default:
		err = soak(o, stdout, stderr)
	}
	if err != nil {
		fmt.Fprintln(stderr, "soak:", err)
		return 1
	}
	return 0
}

// self starts this program in another role with the same options.
func self(o options, role string, stderr io.Writer) *exec.Cmd {
	cmd := exec.Command(os.Args[0], "-bootstrap", o.bootstrap, "-topic", o.topic, "-log", o.log, "-url", o.url,
		"-commit", o.commit.String(), "-keys", fmt.Sprint(o.keys))
	cmd.Env = append(os.Environ(), roleEnv+"="+role)
	cmd.Stderr = stderr
	return cmd
}

func soak(o options, stdout, stderr io.Writer) error {
	if err := createTopic(o); err != nil {
		return err
	}
	_ = os.Remove(o.log + ".marks")
	sink := self(o, "sink", stderr)
	in, err := sink.StdinPipe()
	if err != nil {
		return err
	}
	out, err := sink.StdoutPipe()
	if err != nil {
		return err
	}
	if err := sink.Start(); err != nil {
		return err
	}
	defer func() { in.Close(); _ = sink.Wait() }()
	if o.url, err = bufio.NewReader(out).ReadString('\n'); err != nil {
		return err
	}
	o.url = strings.TrimSpace(o.url)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var wg sync.WaitGroup
	var produced int
	var perr error
	load, endLoad := context.WithCancel(ctx)
	wg.Go(func() { produced, perr = produce(load, o) })
	wg.Go(func() { churn(load, o, stderr) })
	if o.cluster != "" {
		wg.Go(func() { breakBrokers(load, o, stdout, stderr) })
	}
	if err := killing(o, stdout, stderr); err != nil {
		endLoad()
		wg.Wait()
		return err
	}
	endLoad()
	wg.Wait()
	if perr != nil {
		return perr
	}
	return finish(o, produced, stdout, stderr)
}

// finish lets one healthy dispatcher end the work and calls the checker.
func finish(o options, produced int, stdout, stderr io.Writer) error {
	last := self(o, "dispatcher", stderr)
	if err := last.Start(); err != nil {
		return err
	}
	defer func() { _ = last.Process.Signal(syscall.SIGTERM); _ = last.Wait() }()
	fmt.Fprintf(stdout, "%d records produced\n", produced)
	if err := os.WriteFile(o.log+".produced", fmt.Appendln(nil, produced), 0o644); err != nil {
		return err
	}
	var err error
	for deadline := time.Now().Add(90 * time.Second); time.Now().Before(deadline); {
		text := strings.Builder{}
		c := self(o, "checker", io.Discard)
		c.Stdout = &text
		if err = c.Run(); err == nil || time.Until(deadline) < 2*time.Second {
			fmt.Fprint(stdout, text.String())
			return err
		}
		time.Sleep(time.Second)
	}
	return err
}

func killing(o options, stdout, stderr io.Writer) error {
	for i := range o.kills {
		d := self(o, "dispatcher", stderr)
		if err := d.Start(); err != nil {
			return err
		}
		if err := note(o, time.Now(), "start", d.Process.Pid); err != nil {
			return err
		}
		awaitCommit(o, d.Process.Pid)
		time.Sleep(o.every)
		if err := note(o, time.Now(), "kill", d.Process.Pid); err != nil {
			return err
		}
		_ = d.Process.Kill()
		_ = d.Wait()
		fmt.Fprintf(stdout, "kill %d\n", i+1)
	}
	return nil
}

// note writes a mark beside the sink's log: when, what, and of which process.
func note(o options, at time.Time, what string, pid int) error {
	f, err := os.OpenFile(o.log+".marks", os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = fmt.Fprintf(f, "%d %s %d\n", at.UnixMicro(), what, pid)
	return err
}

// awaitCommit waits until a dispatcher has committed, so that a kill hits one that works; 20 s at most, because its
// coordinator may be down.
func awaitCommit(o options, pid int) {
	want := fmt.Sprintf(" commit %d\n", pid)
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); {
		if text, err := os.ReadFile(o.log + ".marks"); err == nil && strings.Contains(string(text), want) {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// churn lets another member join and leave every two seconds.
func churn(ctx context.Context, o options, stderr io.Writer) {
	for ctx.Err() == nil {
		d := self(o, "dispatcher", stderr)
		if d.Start() != nil || note(o, time.Now(), "start", d.Process.Pid) != nil {
			return
		}
		pause(ctx, 2*time.Second)
		_ = d.Process.Signal(syscall.SIGTERM)
		_ = d.Wait()
		if note(o, time.Now(), "end", d.Process.Pid) != nil {
			return
		}
		pause(ctx, 2*time.Second)
	}
}

// breakBrokers kills a broker, waits, starts it again, and goes on with the next.
func breakBrokers(ctx context.Context, o options, stdout, stderr io.Writer) {
	for i := 0; ctx.Err() == nil; i++ {
		id := fmt.Sprint(i%o.brokers + 1)
		pause(ctx, 5*time.Second)
		for _, what := range []string{"stop", "start"} {
			cmd := exec.Command(o.script, what, id, o.cluster)
			cmd.Stderr = stderr
			if err := cmd.Run(); err != nil {
				fmt.Fprintf(stderr, "broker %s, %s: %v\n", id, what, err)
			}
			fmt.Fprintf(stdout, "broker %s: %s\n", id, what)
			if what == "stop" {
				time.Sleep(3 * time.Second)
			}
		}
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

func createTopic(o options) error {
	a, err := kafka.NewAdminClient(&kafka.ConfigMap{"bootstrap.servers": o.bootstrap})
	if err != nil {
		return err
	}
	defer a.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	res, err := a.CreateTopics(ctx, []kafka.TopicSpecification{{Topic: o.topic, NumPartitions: o.partitions, ReplicationFactor: min(3, o.brokers)}})
	if err != nil {
		return err
	}
	if res[0].Error.Code() != kafka.ErrNoError {
		return res[0].Error
	}
	return nil
}

// produce writes "key n" records, n rising per key, until ctx ends; it returns how many the brokers took.
func produce(ctx context.Context, o options) (int, error) {
	p, err := kafka.NewProducer(&kafka.ConfigMap{"bootstrap.servers": o.bootstrap, "enable.idempotence": true, "acks": "all",
		"linger.ms": 5, "message.timeout.ms": 120_000, "go.delivery.reports": true, "log_level": 2})
	if err != nil {
		return 0, err
	}
	defer p.Close()
	failed := errors.New("")
	var lost int
	var wg sync.WaitGroup
	wg.Go(func() {
		for e := range p.Events() {
			if m, ok := e.(*kafka.Message); ok && m.TopicPartition.Error != nil {
				lost++
				failed = m.TopicPartition.Error
			}
		}
	})
	n := 0
	tick := time.NewTicker(time.Second / time.Duration(o.rate))
	defer tick.Stop()
	for ctx.Err() == nil {
		<-tick.C
		key := fmt.Sprint("k", n%o.keys)
		m := &kafka.Message{TopicPartition: kafka.TopicPartition{Topic: &o.topic, Partition: int32(n % o.keys % o.partitions)},
			Key: []byte(key), Value: fmt.Appendf(nil, "%s %d", key, n/o.keys)}
		if err := p.Produce(m, nil); err != nil {
			return n, err
		}
		n++
	}
	if left := p.Flush(120_000); left > 0 {
		return n, fmt.Errorf("%d records were not taken by the brokers", left)
	}
	p.Close()
	wg.Wait()
	if lost > 0 {
		return n, fmt.Errorf("%d records were refused by the brokers: %w", lost, failed)
	}
	return n, nil
}
