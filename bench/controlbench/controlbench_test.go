package controlbench

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"time"
)

func TestOptions(t *testing.T) {
	o, err := parse([]string{"--revisions=20", "--pods=2", "--streams=4"}, io.Discard)
	if err != nil || o.revisions != 20 || o.duration != 10*time.Second {
		t.Errorf("options %+v, error %v", o, err)
	}
	child, err := parse(o.childArgs("127.0.0.1:1"), io.Discard)
	if err != nil || child.producers != "127.0.0.1:1" || child.streams != 4 || child.pods != 2 || child.revisions != 20 {
		t.Errorf("the child's options %+v, error %v", child, err)
	}
	_, err = parse([]string{"--revisions=0", "--pods=0", "--streams=9", "--duration=1ms", "--warmup=-1s", "--scrape=0"}, io.Discard)
	for _, flag := range []string{"revisions", "pods", "streams", "duration", "warmup", "scrape"} {
		if err == nil || !strings.Contains(err.Error(), "--"+flag) {
			t.Errorf("error %v does not name --%s", err, flag)
		}
	}
}

// TestSmallRunInMemory runs the whole of ours but the child process.
func TestSmallRunInMemory(t *testing.T) {
	o, err := parse([]string{"--revisions=50", "--pods=3", "--streams=1", "--warmup=0s", "--duration=1s"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{o: o, lag: newLag()}
	b.publish()
	if err := b.begin(); err != nil {
		t.Fatal(err)
	}
	if got := len(b.loop.Snapshot().Revisions); got != 50 {
		t.Errorf("%d revisions under control, want 50", got)
	}
	if es, err := b.loop.ExplainService("rev-00007"); err != nil || es[0].Pods.Ready != 3 || es[0].InFlight == 0 {
		t.Errorf("explanation %+v, error %v", es, err)
	}
}

func TestTable(t *testing.T) {
	var out bytes.Buffer
	table(&out, []Result{
		{Contender: "rouse (streams)", Revisions: 100, CoreShare: 0.1}, {Contender: "rouse (memory)", Revisions: 100, CoreShare: 0.1},
		{Contender: "knative (scrape http)", Revisions: 10, CoreShare: 0.1}, {Contender: "knative (scrape memory)", Revisions: 100, CoreShare: 0.3},
	})
	if want := "10.0 times the CPU per revision to collect and decide, 3.0 times to decide alone"; !strings.Contains(out.String(), want) {
		t.Errorf("table lacks %q:\n%s", want, out.String())
	}
}
