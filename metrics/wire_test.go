package metrics_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protowire"
	"pgregory.net/rapid"

	"github.com/rousehq/rouse/metrics"
)

func fullStat() metrics.Stat {
	return metrics.Stat{
		PodName: "hello-00001-abc", AverageConcurrency: 3.5, AverageProxiedConcurrency: 1.25, RequestCount: 40,
		ProxiedRequestCount: 12, ProcessUptime: 98.5, Timestamp: 1600000000,
		Extension: metrics.Extension{
			Version: metrics.ExtensionVersion, RevisionUID: "uid-1", Producer: "p-7", Sequence: 42, QueueLength: 5,
			Draining: true, Lag: 1000, Parked: 2, CPU: 0.25, Memory: 1 << 24, WorkSeconds: 0.05,
			Parallel: 6,
		},
	}
}

// TestKnativeBytes pins the bytes that the message definition of Knative gives, in hexadecimal by hand:
// tag, then value.
func TestKnativeBytes(t *testing.T) {
	s := metrics.Stat{
		PodName: "pod", AverageConcurrency: 1, AverageProxiedConcurrency: 0.5, RequestCount: 2, ProxiedRequestCount: 1,
		ProcessUptime: 10, Timestamp: 300,
	}
	stat := "0a03706f64" + "11000000000000f03f" + "19000000000000e03f" + "210000000000000040" + "29000000000000f03f" +
		"310000000000002440" + "38ac02"
	if got := hex.EncodeToString(metrics.AppendStat(nil, &s)); got != stat {
		t.Errorf("AppendStat = %s, want %s", got, stat)
	}
	message := "0a40" + "0a026e73" + "1203726576" + "1a35" + stat
	msgs := []metrics.Message{{Namespace: "ns", Name: "rev", Stat: s}}
	if got := hex.EncodeToString(metrics.AppendMessages(nil, msgs)); got != message {
		t.Errorf("AppendMessages = %s, want %s", got, message)
	}
}

func TestRoundTrip(t *testing.T) {
	want := []metrics.Message{
		{Namespace: "default", Name: "hello-00001", Stat: fullStat()},
		{Namespace: "other", Name: "r", Stat: metrics.Stat{PodName: "p"}},
		{},
	}
	var d metrics.Decoder
	got, err := d.Messages(metrics.AppendMessages([]byte(nil), want), nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Messages differ (-want +got):\n%s", diff)
	}
}

func TestRoundTripOfAnyStat(t *testing.T) {
	finite := rapid.Float64().Filter(func(f float64) bool { return !math.IsNaN(f) && !math.IsInf(f, 0) })
	name := rapid.StringN(0, 40, 200)
	rapid.Check(t, func(r *rapid.T) {
		want := metrics.Message{Namespace: name.Draw(r, "ns"), Name: name.Draw(r, "name"), Stat: metrics.Stat{
			PodName: name.Draw(r, "pod"), AverageConcurrency: finite.Draw(r, "c"), RequestCount: finite.Draw(r, "n"),
			ProcessUptime: finite.Draw(r, "up"), Timestamp: rapid.Int64().Draw(r, "ts"),
			Extension: metrics.Extension{
				Version: rapid.Uint32Min(1).Draw(r, "v"), Producer: name.Draw(r, "producer"),
				Sequence: rapid.Uint64().Draw(r, "seq"), Draining: rapid.Bool().Draw(r, "draining"),
				Lag: finite.Draw(r, "lag"), Parked: finite.Draw(r, "parked"),
			},
		}}
		var d metrics.Decoder
		got, err := d.Messages(metrics.AppendMessages(nil, []metrics.Message{want}), nil)
		if err != nil || len(got) != 1 || got[0] != want {
			r.Fatalf("Messages = %+v, %v, want %+v", got, err, want)
		}
	})
}

// TestKnativeSkipsTheExtension reads a full message knowing only Knative's seven fields, as its generated code would.
func TestKnativeSkipsTheExtension(t *testing.T) {
	s := fullStat()
	b := metrics.AppendStat(nil, &s)
	var kept []byte
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		size := protowire.ConsumeFieldValue(num, typ, b[n:])
		if n < 0 || size < 0 {
			t.Fatalf("field %d is not well formed", num)
		}
		if num <= 7 {
			kept = append(kept, b[:n+size]...)
		}
		b = b[n+size:]
	}
	s.Extension = metrics.Extension{}
	if want := metrics.AppendStat(nil, &s); !bytes.Equal(kept, want) {
		t.Errorf("the known fields are %x, want %x", kept, want)
	}
}

func TestDecodeFaults(t *testing.T) {
	nan := protowire.AppendFixed64(protowire.AppendTag(nil, 2, protowire.Fixed64Type), math.Float64bits(math.NaN()))
	long := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), strings.Repeat("x", 600))
	for name, c := range map[string]struct {
		in   []byte
		want error
	}{
		"truncated tag":    {[]byte{0x80}, metrics.ErrMalformed},
		"truncated string": {[]byte{0x0a, 5, 'a'}, metrics.ErrMalformed},
		"truncated double": {[]byte{0x11, 1, 2}, metrics.ErrMalformed},
		"field number 0":   {[]byte{0x00, 0}, metrics.ErrMalformed},
		"end of no group":  {[]byte{0x0c}, metrics.ErrMalformed},
		"not a number":     {nan, metrics.ErrMalformed},
		"endless name":     {long, metrics.ErrTooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			var d metrics.Decoder
			var s metrics.Stat
			if err := d.Stat(c.in, &s); !errors.Is(err, c.want) {
				t.Errorf("Stat(%x) = %v, want %v", c.in, err, c.want)
			}
		})
	}
}

// TestGoodBeforeBad keeps the entries before a fault: one broken producer must not silence the others of its batch.
func TestGoodBeforeBad(t *testing.T) {
	good := []metrics.Message{{Namespace: "a", Name: "b", Stat: fullStat()}}
	b := append(metrics.AppendMessages(nil, good), 0x0a, 9, 1)
	var d metrics.Decoder
	got, err := d.Messages(b, nil)
	if !errors.Is(err, metrics.ErrMalformed) || len(got) != 1 || got[0] != good[0] {
		t.Errorf("Messages = %v, %v, want the good entry and ErrMalformed", got, err)
	}
}

func TestSkipsUnknownAndMistyped(t *testing.T) {
	b := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), 7)     // pod name as a number
	b = protowire.AppendString(protowire.AppendTag(b, 999, protowire.BytesType), "later") // a field of a later version
	b = protowire.AppendFixed32(protowire.AppendTag(b, 2, protowire.Fixed32Type), 1)      // a double of 32 bits
	b = protowire.AppendFixed64(protowire.AppendTag(b, 4, protowire.Fixed64Type), 1<<62)  // known
	b = protowire.AppendTag(protowire.AppendTag(b, 50, protowire.StartGroupType), 50, protowire.EndGroupType)
	var d metrics.Decoder
	var s metrics.Stat
	if err := d.Stat(b, &s); err != nil || s != (metrics.Stat{RequestCount: 2}) {
		t.Errorf("Stat = %+v, %v, want request count 2 only", s, err)
	}
}

func TestCodecAllocatesNothing(t *testing.T) {
	msgs := []metrics.Message{{Namespace: "default", Name: "hello-00001", Stat: fullStat()}}
	buf := metrics.AppendMessages(nil, msgs)
	if n := testing.AllocsPerRun(100, func() { buf = metrics.AppendMessages(buf[:0], msgs) }); n != 0 {
		t.Errorf("AppendMessages allocates %v times, want 0", n)
	}
	var d metrics.Decoder
	out, err := d.Messages(buf, nil)
	if err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(100, func() { out, _ = d.Messages(buf, out[:0]) }); n != 0 {
		t.Errorf("Decoder.Messages allocates %v times for known names, want 0", n)
	}
}

// FuzzDecode checks that no input panics, and that what was understood survives another round.
func FuzzDecode(f *testing.F) {
	s := fullStat()
	f.Add(metrics.AppendMessages(nil, []metrics.Message{{Namespace: "ns", Name: "rev", Stat: s}}))
	f.Add(metrics.AppendStat(nil, &s))
	f.Add([]byte{0x0a, 0x02, 0x1a, 0x00})
	f.Fuzz(func(t *testing.T, b []byte) {
		var d metrics.Decoder
		msgs, err := d.Messages(b, nil)
		if err != nil && !errors.Is(err, metrics.ErrMalformed) && !errors.Is(err, metrics.ErrTooLarge) {
			t.Fatalf("Messages(%x): %v is no error of this package", b, err)
		}
		for i := range msgs {
			if msgs[i].Stat.Extension.Version == 0 {
				msgs[i].Stat.Extension = metrics.Extension{} // not written without a version
			}
		}
		again, err := d.Messages(metrics.AppendMessages(nil, msgs), nil)
		if err != nil || !cmp.Equal(msgs, again) && len(msgs) > 0 {
			t.Fatalf("a second round of %x: %v\n%s", b, err, cmp.Diff(msgs, again))
		}
	})
}

func BenchmarkAppendMessages(b *testing.B) {
	msgs := []metrics.Message{{Namespace: "default", Name: "hello-00001", Stat: fullStat()}}
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		buf = metrics.AppendMessages(buf[:0], msgs)
	}
	b.SetBytes(int64(len(buf)))
}

func BenchmarkDecodeMessages(b *testing.B) {
	buf := metrics.AppendMessages(nil, []metrics.Message{{Namespace: "default", Name: "hello-00001", Stat: fullStat()}})
	var d metrics.Decoder
	var msgs []metrics.Message
	b.ReportAllocs()
	b.SetBytes(int64(len(buf)))
	for b.Loop() {
		msgs, _ = d.Messages(buf, msgs[:0])
	}
}
