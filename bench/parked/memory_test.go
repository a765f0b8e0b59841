//go:build linux && !race

package parked

import (
	"bytes"
	"testing"
)

// TestParkedRequestCosts holds the bound that --most checks, at a size that every machine's limits allow. The race
// detector multiplies memory, so that the test is built without it.
func TestParkedRequestCosts(t *testing.T) {
	var out, errs bytes.Buffer
	if err := Main(t.Context(), []string{"--requests", "3000", "--steps", "1", "--most", "9000"}, &out, &errs); err != nil {
		t.Errorf("%v\n%s%s", err, out.String(), errs.String())
	}
	t.Log("\n" + out.String())
}
