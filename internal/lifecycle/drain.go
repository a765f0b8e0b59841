package lifecycle

import (
	"errors"
	"time"
)

// DrainState is where a proxy stands between its first signal and its end.
type DrainState uint8

// The states of a drain, in order. There is no way back.
const (
	Serving  DrainState = iota // ready
	Draining                   // not ready, still taking what comes, since routers learn late
	Drained                    // may end
)

// String returns the state's name as logs write it.
func (s DrainState) String() string { return [...]string{"serving", "draining", "drained"}[s] }

// DrainConfig says when a drain is over. The zero value of a field means its default.
type DrainConfig struct {
	// Minimum is how long to drain at least, so that routers hear of it. Default 5 s.
	Minimum time.Duration
	// Quiet is how long nothing must have come. Default 2 s.
	Quiet time.Duration
	// Grace is how long to drain at most, counted from the signal. Default 30 s.
	Grace time.Duration
}

// Default returns the configuration with every zero field replaced by its default.
func (c DrainConfig) Default() DrainConfig {
	if c.Minimum == 0 {
		c.Minimum = 5 * time.Second
	}
	if c.Quiet == 0 {
		c.Quiet = 2 * time.Second
	}
	if c.Grace == 0 {
		c.Grace = 30 * time.Second
	}
	return c
}

// Validate names every field that is out of range.
func (c DrainConfig) Validate() error {
	var errs []error
	if c.Minimum < 0 {
		errs = append(errs, errors.New("lifecycle: Minimum must not be negative"))
	}
	if c.Quiet < 0 {
		errs = append(errs, errors.New("lifecycle: Quiet must not be negative"))
	}
	if c.Grace < c.Minimum {
		errs = append(errs, errors.New("lifecycle: Grace must be at least Minimum"))
	}
	return errors.Join(errs...)
}

// Drain is the state machine of a draining proxy. It reads no clock: tell it what happens and when, and ask it. It is
// for one goroutine at a time. Make one with NewDrain.
//
// A proxy is not ready from the moment it begins to drain. The drain is over when nothing is in flight, no connection
// or request came for Quiet, and Minimum has passed (the two do not matter once it is Announced); or when Grace has passed, whatever is in flight.
type Drain struct {
	cfg      DrainConfig
	state    DrainState
	began    time.Time
	lastCame time.Time
	inFlight int

	announced, forced bool
}

// NewDrain returns a serving proxy's drain; zero fields of cfg take their defaults.
func NewDrain(cfg DrainConfig) *Drain { return &Drain{cfg: cfg.Default()} }

// Begin starts the drain at now. Only the first call counts.
func (d *Drain) Begin(now time.Time) {
	if d.state == Serving {
		d.state, d.began = Draining, now
	}
}

// Came tells of a new connection or request at now, whether it stays in flight or not.
func (d *Drain) Came(now time.Time) {
	if now.After(d.lastCame) {
		d.lastCame = now
	}
}

// Announced tells that every caller knows of the drain: neither Minimum nor Quiet is waited for any more.
func (d *Drain) Announced() { d.announced = true }

// Load tells how many requests and tunnels are in flight.
func (d *Drain) Load(inFlight int) { d.inFlight = inFlight }

// Ready says whether probes should be answered with success.
func (d *Drain) Ready() bool { return d.state == Serving }

// Forced says that the drain ended at its deadline with something still in flight.
func (d *Drain) Forced() bool { return d.forced }

// State returns the state at now, and how long until it may change by itself: zero when only an event can change it.
// While something is in flight that is the deadline; an event may come first.
func (d *Drain) State(now time.Time) (DrainState, time.Duration) {
	if d.state != Draining {
		return d.state, 0
	}
	end := d.began.Add(d.cfg.Grace)
	if !now.Before(end) {
		d.state, d.forced = Drained, d.inFlight > 0
		return d.state, 0
	}
	if d.inFlight > 0 {
		return d.state, end.Sub(now)
	}
	if d.announced {
		d.state = Drained
		return d.state, 0
	}
	done := d.began.Add(d.cfg.Minimum)
	if quiet := d.lastCame.Add(d.cfg.Quiet); quiet.After(done) {
		done = quiet
	}
	if done.After(end) {
		done = end
	}
	if !now.Before(done) {
		d.state = Drained
		return d.state, 0
	}
	return d.state, done.Sub(now)
}
