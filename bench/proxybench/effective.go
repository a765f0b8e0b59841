//go:build linux

package proxybench

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// effective is the part of our sidecar's /config that decides whether its figures may be compared.
type effective struct {
	Limit      int    `json:"limit"`
	Metrics    bool   `json:"metrics"`
	Timeouts   bool   `json:"timeouts"`
	Forwarded  bool   `json:"forwarded"`
	ClientGone bool   `json:"client_gone"`
	Drain      string `json:"drain_minimum"`
}

// checkEffective refuses a proxy that was made faster by leaving something off. A key that is missing counts as off.
func checkEffective(page []byte) error {
	var e effective
	if err := json.Unmarshal(page, &e); err != nil {
		return fmt.Errorf("effective configuration %q: %w", page, err)
	}
	drain, err := time.ParseDuration(e.Drain)
	var off []string
	for _, f := range []struct {
		name string
		on   bool
	}{
		{"limit", e.Limit > 0}, {"metrics", e.Metrics}, {"timeouts", e.Timeouts}, {"forwarded", e.Forwarded},
		{"client_gone", e.ClientGone}, {"drain_minimum", err == nil && drain > 0},
	} {
		if !f.on {
			off = append(off, f.name)
		}
	}
	if len(off) > 0 {
		return fmt.Errorf("the proxy runs with %s off, and would look cheaper than it is in service: turn it on", strings.Join(off, ", "))
	}
	return nil
}
