package kafkabroker

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"
)

// childEnv makes this test binary a broker with the given data directory, until it is killed.
const childEnv = "ROUSE_TEST_BROKER"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		b, err := Start(Config{DataDir: dir, Topics: map[string]int{"t": 1}})
		if err != nil {
			os.Exit(1)
		}
		fmt.Println(b)
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

func client(t *testing.T, addr string, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	c, err := kgo.NewClient(append(opts, kgo.SeedBrokers(addr))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func fill(t *testing.T, addr string, n int) {
	t.Helper()
	c := client(t, addr, kgo.DefaultProduceTopic("t"))
	for i := range n {
		if err := c.ProduceSync(t.Context(), &kgo.Record{Value: fmt.Append(nil, i)}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
}

// read takes up to n records with a group and commits them.
func read(t *testing.T, addr string, n int) (values []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	c := client(t, addr, kgo.ConsumerGroup("g"), kgo.ConsumeTopics("t"), kgo.DisableAutoCommit(), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	for len(values) < n {
		fetched := c.PollRecords(ctx, n-len(values))
		if err := fetched.Err(); err != nil {
			t.Fatalf("after %d of %d records: %v", len(values), n, err)
		}
		for _, r := range fetched.Records() {
			values = append(values, string(r.Value))
		}
		if err := c.CommitRecords(ctx, fetched.Records()...); err != nil {
			t.Fatal(err)
		}
	}
	return values
}

func TestRecordsAndCommitsOutliveAKill(t *testing.T) {
	dir := t.TempDir()
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), childEnv+"="+dir)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	addr := line[:len(line)-1]
	fill(t, addr, 60)
	read(t, addr, 24)
	_ = cmd.Process.Kill()
	_ = cmd.Wait()

	b, err := Start(Config{DataDir: dir, Topics: map[string]int{"t": 1}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	if got := read(t, b.String(), 36); got[0] != "24" || got[35] != "59" {
		t.Errorf("after the kill the group read %s to %s, want 24 to 59", got[0], got[35])
	}
}

func TestFixedPortAllowsOneBroker(t *testing.T) {
	if b, err := Start(Config{Port: 1, Brokers: 2}); err == nil {
		b.Close()
		t.Error("two brokers on one port were taken")
	}
}
