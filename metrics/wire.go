package metrics

import "errors"

// Errors of the decoder. Each is wrapped with the offending field.
var (
	// ErrMalformed says that the bytes are not the protobuf message they should be.
	ErrMalformed = errors.New("malformed stat message")
	// ErrTooLarge says that a message is larger than any honest producer's.
	ErrTooLarge = errors.New("stat message too large")
)

// AppendStat appends the wire form of s to b and returns the longer slice. It allocates only to grow b.
func AppendStat(b []byte, s *Stat) []byte { panic("not built yet") }

// AppendMessages appends a WireStatMessages that carries msgs to b. It allocates only to grow b.
func AppendMessages(b []byte, msgs []Message) []byte { panic("not built yet") }

// Decoder reads stat messages and keeps the strings that it has met, so that a stream of reports from the same
// producers decodes without allocating. The zero value is ready. It is not safe for concurrent use: one per stream.
type Decoder struct {
	names map[string]string
}

// Stat decodes one Stat, the body of a queue-proxy's :9090/metrics, into s, replacing all of it. Unknown fields are
// skipped. It returns ErrMalformed or ErrTooLarge, and then s is undefined.
func (d *Decoder) Stat(b []byte, s *Stat) error { panic("not built yet") }

// Messages decodes a WireStatMessages and appends its entries to msgs. Strings do not alias b. It returns
// ErrMalformed or ErrTooLarge together with the entries before the fault.
func (d *Decoder) Messages(b []byte, msgs []Message) ([]Message, error) { panic("not built yet") }
