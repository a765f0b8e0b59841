package forwardtest

import (
	"slices"
	"testing"

	"github.com/rousehq/rouse/internal/forward"
)

// diary notes what a tracer is told.
type diary struct{ entries []string }

func (d *diary) Begin(x forward.Exchange) any {
	d.entries = append(d.entries, "begin "+string(x.Host()))
	x.Set("Traceparent", "00-1-2-01")
	return "token"
}

func (d *diary) End(_ forward.Exchange, begun any) {
	d.entries = append(d.entries, "end "+begun.(string))
}

func TestTraced(t *testing.T) {
	d := &diary{}
	x := New("hello")
	h := forward.HandlerFunc(func(x forward.Exchange) {
		d.entries = append(d.entries, "handler")
		x.Reply(204, "", "")
	})
	forward.Traced(h, d).ServeExchange(x)
	if want := []string{"begin hello", "handler", "end token"}; !slices.Equal(d.entries, want) {
		t.Errorf("order = %q, want %q", d.entries, want)
	}
	if x.RequestEdits["Traceparent"] != "00-1-2-01" {
		t.Errorf("edits = %v, want the tracer's header", x.RequestEdits)
	}
}

func TestTracedWithoutTracerIsTheHandler(t *testing.T) {
	called := 0
	h := forward.HandlerFunc(func(forward.Exchange) { called++ })
	if allocs := testing.AllocsPerRun(10, func() { forward.Traced(h, nil).ServeExchange(nil) }); allocs != 0 || called == 0 {
		t.Errorf("%v allocations and %d calls, want none and some", allocs, called)
	}
}
