//go:build linux

package proxybench

import (
	"encoding/json"
	"fmt"
	"io"
)

// Row is what one contender did in one round of one scenario. Memory figures are the contender's, the same in each
// of its rows.
type Row struct {
	Contender string `json:"contender"`
	Version   string `json:"version"`
	Binary    string `json:"binary_sha256"` // its first 12 digits
	Scenario  string `json:"scenario"`
	Round     int    `json:"round"` // from 1

	Requests          int     `json:"requests"`
	Errors            int     `json:"errors"`
	CPUMicros         float64 `json:"cpu_us_per_request"`
	RPS               float64 `json:"rps"`
	P50               float64 `json:"p50_us"`
	P99               float64 `json:"p99_us"`
	RSS               int64   `json:"rss_bytes"` // after start and a few requests
	PerParked         int64   `json:"bytes_per_parked"`
	PerIdle           int64   `json:"bytes_per_idle"`
	AllocsPer         float64 `json:"allocs_per_request"`          // -1: the contender does not tell
	StreamedAllocsPer float64 `json:"allocs_per_streamed_request"` // likewise, with a response of 64 KiB
	FirstError        string  `json:"first_error,omitempty"`
	DirectP50         float64 `json:"direct_p50_us,omitempty"` // the backend without a proxy, open loop only
	WindowNanos       int64   `json:"window_ns"`
}

// writeJSON writes rows as an array, one row a line.
func writeJSON(w io.Writer, rows []Row) error {
	sep := "["
	for _, r := range rows {
		b, err := json.Marshal(r)
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(w, "%s\n%s", sep, b); err != nil {
			return err
		}
		sep = ","
	}
	if len(rows) == 0 {
		_, err := fmt.Fprintln(w, "[]")
		return err
	}
	_, err := fmt.Fprint(w, "\n]\n")
	return err
}
