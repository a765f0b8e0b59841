package order

import (
	"fmt"
	"testing"
	"time"
)

// A record without a key takes its way through the scheduler without an allocation, in steady state.
func TestSchedulerAllocatesNothing(t *testing.T) {
	for _, mode := range []Mode{ByPartition, Unordered} {
		s := New(Config{Mode: mode, MaxInFlight: 8})
		p := s.Assign(TopicPartition{"t", 0}, 0, Map{})
		now := time.Unix(0, 0)
		rs := [4]Record{}
		batch := make([]*Record, 0, 1)
		next := int64(0)
		once := func() {
			for i := range rs {
				rs[i] = Record{Offset: next, Size: 1}
				next++
				s.Add(p, &rs[i], now)
			}
			for range rs {
				batch = s.Take(batch[:0], 1, 1)
				s.Finish(batch, now)
			}
		}
		once()
		if n := testing.AllocsPerRun(1000, once); n > 0 {
			t.Errorf("%v: 4 records allocate %v times", mode, n)
		}
	}
}

// A window that was wide gives its memory back when it has closed.
func TestWideWindowIsGivenBack(t *testing.T) {
	o := NewOffsets(0)
	now := time.Unix(0, 0)
	for i := range int64(100_000) {
		o.Receive(i, 1, now)
	}
	for i := range uint64(100_000) {
		o.Finish(99_999-i, now)
	}
	if o.Position() != 100_000 || len(o.ring) != 0 {
		t.Errorf("position %d with room for %d records, want 100000 and 0", o.Position(), len(o.ring))
	}
	o.Finish(o.Receive(100_000, 1, now), now)
	if o.Position() != 100_001 {
		t.Errorf("position %d afterwards, want 100001", o.Position())
	}
}

func TestWindowReasons(t *testing.T) {
	now := time.Unix(0, 0)
	for _, c := range []struct {
		window Window
		want   Reason
	}{
		{Window{Records: 3}, WindowRecords}, {Window{Records: 4, Bytes: 30}, WindowBytes}, {Window{Age: time.Second}, WindowAge}, {Window{Records: 4}, Open},
	} {
		s := New(Config{MaxInFlight: 1, Window: c.window})
		p := s.Assign(TopicPartition{"t", 0}, 0, Map{})
		for i := range int64(3) {
			s.Add(p, &Record{Offset: i, Size: 10}, now)
		}
		if got := p.Full(now.Add(time.Second)); got != c.want {
			t.Errorf("Full with %+v = %v, want %v", c.window, got, c.want)
		}
	}
}

func ExampleScheduler() {
	s := New(Config{Mode: ByKey, MaxInFlight: 10})
	now := time.Now()
	p := s.Assign(TopicPartition{Topic: "orders", Partition: 0}, 0, Map{})
	for i, key := range []string{"ann", "ann", "bob"} {
		s.Add(p, &Record{Offset: int64(i), Key: []byte(key), Size: 1}, now)
	}
	first := s.Take(nil, 1, 1)
	second := s.Take(nil, 1, 1)
	fmt.Println("in flight:", first[0].Offset, "and", second[0].Offset)
	s.Finish(second, now)
	offset, metadata, _ := p.Commit()
	m, _ := DecodeMap(metadata, offset)
	fmt.Println("commit:", offset, "done beyond:", m.Done)
	// Output:
	// in flight: 0 and 2
	// commit: 0 done beyond: [{2 3}]
}

// BenchmarkScheduler stands beside channels, one for each lane, which is what a bare loop uses.
func BenchmarkScheduler(b *testing.B) {
	keys := make([][]byte, 1000)
	for i := range keys {
		keys[i] = fmt.Append(nil, "key-", i)
	}
	b.Run("lanes by key", func(b *testing.B) {
		s := New(Config{Mode: ByKey, MaxInFlight: 256})
		p := s.Assign(TopicPartition{"t", 0}, 0, Map{})
		now := time.Now()
		rs := make([]Record, 256)
		batch := make([]*Record, 0, 1)
		next := int64(0)
		b.ReportAllocs()
		for b.Loop() {
			r := &rs[next%256]
			*r = Record{Offset: next, Key: keys[next%1000], Size: 100}
			next++
			s.Add(p, r, now)
			batch = s.Take(batch[:0], 1, 1<<20)
			s.Finish(batch, now)
		}
	})
	b.Run("channels", func(b *testing.B) {
		lanes := make([]chan *Record, 256)
		for i := range lanes {
			lanes[i] = make(chan *Record, 8)
		}
		next := int64(0)
		b.ReportAllocs()
		for b.Loop() {
			r := &Record{Offset: next, Key: keys[next%1000], Size: 100}
			next++
			h := uint32(2166136261)
			for _, c := range r.Key {
				h = (h ^ uint32(c)) * 16777619
			}
			lane := lanes[h%256]
			lane <- r
			<-lane
		}
	})
}
