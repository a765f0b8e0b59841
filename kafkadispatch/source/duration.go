package source

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// ParseDuration reads an ISO 8601 duration of days, hours, minutes and seconds (PT0.3S, P1DT12H). Weeks, months and
// years have no fixed place in a delivery and are refused.
func ParseDuration(text string) (time.Duration, error) {
	bad := fmt.Errorf("%q: must be an ISO 8601 duration such as PT0.5S or PT1M30S", text)
	rest, ok := strings.CutPrefix(text, "P")
	if !ok || rest == "" {
		return 0, bad
	}
	days, clock, timed := strings.Cut(rest, "T")
	if timed && clock == "" {
		return 0, bad
	}
	total := time.Duration(0)
	for _, part := range []struct {
		text  string
		units string
	}{{days, "D"}, {clock, "HMS"}} {
		rest, units := part.text, part.units
		for rest != "" {
			i := strings.IndexAny(rest, units)
			if i <= 0 {
				return 0, bad
			}
			n, err := strconv.ParseFloat(strings.ReplaceAll(rest[:i], ",", "."), 64)
			if err != nil || n < 0 || n > 1e6 {
				return 0, bad
			}
			unit := map[byte]time.Duration{'D': 24 * time.Hour, 'H': time.Hour, 'M': time.Minute, 'S': time.Second}[rest[i]]
			total += time.Duration(n * float64(unit))
			units = units[strings.IndexByte(units, rest[i])+1:]
			rest = rest[i+1:]
		}
	}
	return total, nil
}
