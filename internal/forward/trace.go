package forward

// Tracer sees every exchange of a handler, to take part in a distributed trace. The engine itself passes trace headers
// through untouched; a tracer that wants to be a span of its own replaces them with [Exchange.Set].
type Tracer interface {
	// Begin is called before the handler. What it returns is handed to End.
	Begin(x Exchange) any
	// End is called when the handler has returned.
	End(x Exchange, begun any)
}

// Traced returns h seen by t, and h itself when t is nil, so that tracing that is off costs nothing.
func Traced(h Handler, t Tracer) Handler {
	if t == nil {
		return h
	}
	return HandlerFunc(func(x Exchange) {
		begun := t.Begin(x)
		defer t.End(x, begun)
		h.ServeExchange(x)
	})
}
