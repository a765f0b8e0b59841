package simulate

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"
)

// Distribution draws durations.
type Distribution interface {
	// Draw returns the next duration, never negative.
	Draw(r *rand.Rand) time.Duration
	// String returns what ParseDistribution reads.
	String() string
}

// Constant is always the same.
type Constant time.Duration

// Draw implements Distribution.
func (c Constant) Draw(*rand.Rand) time.Duration { return time.Duration(c) }

// String implements Distribution.
func (c Constant) String() string { return time.Duration(c).String() }

// Exponential has that mean and no memory.
type Exponential time.Duration

// Draw implements Distribution.
func (e Exponential) Draw(r *rand.Rand) time.Duration {
	return time.Duration(r.ExpFloat64() * float64(e))
}

// String implements Distribution.
func (e Exponential) String() string { return "exp:" + time.Duration(e).String() }

// Uniform lies between Low and High.
type Uniform struct{ Low, High time.Duration }

// Draw implements Distribution.
func (u Uniform) Draw(r *rand.Rand) time.Duration {
	return u.Low + time.Duration(r.Float64()*float64(u.High-u.Low))
}

// String implements Distribution.
func (u Uniform) String() string { return fmt.Sprintf("uniform:%v-%v", u.Low, u.High) }

// LogNormal has that median; Sigma is the spread of the logarithm, 0.5 for a mild tail, 1 for a long one.
type LogNormal struct {
	Median time.Duration
	Sigma  float64
}

// Draw implements Distribution.
func (l LogNormal) Draw(r *rand.Rand) time.Duration {
	return time.Duration(min(float64(l.Median)*math.Exp(l.Sigma*r.NormFloat64()), float64(24*time.Hour)))
}

// String implements Distribution.
func (l LogNormal) String() string {
	return fmt.Sprintf("lognormal:%v,%s", l.Median, strconv.FormatFloat(l.Sigma, 'g', -1, 64))
}

// ParseDistribution reads a duration ("50ms"), "exp:50ms" (mean), "uniform:10ms-90ms" or "lognormal:50ms,0.5" (median
// and spread).
func ParseDistribution(s string) (Distribution, error) {
	d, err := parseDistribution(s)
	if err != nil {
		return nil, fmt.Errorf("distribution %q: %w; write 50ms, exp:50ms, uniform:10ms-90ms or lognormal:50ms,0.5", s, err)
	}
	return d, nil
}

func parseDistribution(s string) (Distribution, error) {
	kind, rest, found := strings.Cut(s, ":")
	if !found {
		d, err := parseDuration(s)
		return Constant(d), err
	}
	switch kind {
	case "exp":
		d, err := parseDuration(rest)
		return Exponential(d), err
	case "uniform":
		low, high, _ := strings.Cut(rest, "-")
		a, err := parseDuration(low)
		if err != nil {
			return nil, err
		}
		b, err := parseDuration(high)
		if err == nil && b < a {
			err = fmt.Errorf("%v is more than %v", a, b)
		}
		return Uniform{a, b}, err
	case "lognormal":
		median, spread, _ := strings.Cut(rest, ",")
		m, err := parseDuration(median)
		if err != nil {
			return nil, err
		}
		sigma, err := strconv.ParseFloat(spread, 64)
		if err == nil && !(sigma >= 0 && sigma <= 5) {
			err = fmt.Errorf("the spread %v is not in [0, 5]", sigma)
		}
		return LogNormal{m, sigma}, err
	}
	return nil, fmt.Errorf("%q is not known", kind)
}

func parseDuration(s string) (time.Duration, error) {
	d, err := time.ParseDuration(strings.TrimSpace(s))
	if err == nil && d < 0 {
		err = fmt.Errorf("%v is negative", d)
	}
	return d, err
}

// stream returns one of the independent sequences of a seed.
func stream(seed, which uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, which)) }
