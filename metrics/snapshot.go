package metrics

// WindowSnapshot is the content of a Window, as plain values for JSON.
type WindowSnapshot struct {
	// Granularity is the width of a bucket in seconds; 0 when the window is empty.
	Granularity int64 `json:"granularity"`
	// Last is the newest bucket, First and PanicFirst those in which the histories of the two windows begin, as Unix
	// seconds divided by Granularity.
	Last       int64 `json:"last"`
	First      int64 `json:"first"`
	PanicFirst int64 `json:"panicFirst"`
	// Buckets are the values, oldest first; the last one is that of Last.
	Buckets []float64 `json:"buckets"`
}

// Snapshot returns the content for a successor.
func (w *Window) Snapshot() WindowSnapshot {
	if !w.written {
		return WindowSnapshot{}
	}
	s := WindowSnapshot{
		Granularity: w.granularity,
		Last:        w.last,
		First:       w.stable.first,
		PanicFirst:  w.panic.first,
		Buckets:     make([]float64, 0, len(w.ring)),
	}
	for b := w.last - w.stable.size + 1; b <= w.last; b++ {
		s.Buckets = append(s.Buckets, w.ring[w.index(b)])
	}
	return s
}

// Restore replaces the content by a snapshot, of which it keeps what fits. A snapshot of another granularity leaves
// the window empty.
func (w *Window) Restore(s WindowSnapshot) {
	clear(w.ring)
	w.written = false
	if s.Granularity != w.granularity || len(s.Buckets) == 0 || s.Last < int64(len(s.Buckets)) {
		return
	}
	n := min(len(s.Buckets), len(w.ring))
	w.written = true
	w.last = s.Last
	for i, v := range s.Buckets[len(s.Buckets)-n:] {
		w.ring[w.index(s.Last-int64(n-1-i))] = v
	}
	// What the snapshot does not hold is not history: it must not be averaged as zeros.
	known := s.Last - int64(len(s.Buckets)) + 1
	w.stable.first = min(max(s.First, known), s.Last)
	w.panic.first = min(max(s.PanicFirst, known), s.Last)
	w.widenPanic()
}

// Resize changes the windows and the algorithm and keeps the samples that still fit. Another granularity empties the
// window.
func (w *Window) Resize(cfg WindowConfig) {
	s := w.Snapshot()
	w.configure(cfg)
	if int64(len(w.ring)) != w.stable.size {
		w.ring = make([]float64, w.stable.size)
	}
	w.Restore(s)
}

// widenPanic lets the panic window's history begin where its oldest sample is. A window that has grown looks at samples
// from before its history began, and would divide them by too few seconds.
func (w *Window) widenPanic() {
	for b := max(w.last-w.panic.size+1, w.stable.first); b < w.panic.first; b++ {
		if w.ring[w.index(b)] != 0 {
			w.panic.first = b
		}
	}
}
