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
	_ = os.Remove(o.log + ".crashes")
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
