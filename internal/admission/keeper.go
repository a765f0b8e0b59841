package admission

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"
)

// Store is where the instances share their certificates: a Secret, and the configuration of the webhook.
type Store interface {
	// Read returns what is stored, with its version; nothing and "" when there is nothing.
	Read(ctx context.Context) (data map[string][]byte, version string, err error)
	// Write replaces what is stored if it still has that version, else it fails.
	Write(ctx context.Context, data map[string][]byte, version string) error
	// Trust makes the API server trust these authorities, in PEM. It is called often and must write nothing that is
	// there already.
	Trust(ctx context.Context, bundle []byte) error
}

// KeeperConfig of a Keeper. The zero value of a field means its default.
type KeeperConfig struct {
	// Names are those of the server, as the API server calls it. Required.
	Names []string
	// Store is where the state is. Required.
	Store Store
	// Period is how often certificates are looked at, default 1 min; Retry is the pause after a failure, default 1 s.
	Period, Retry time.Duration
	// Log gets a line per change and per failure. Required.
	Log *slog.Logger
}

// Keeper keeps the certificates fresh. Make one with [NewKeeper] and start it with Run.
type Keeper struct {
	cfg     KeeperConfig
	serving atomic.Pointer[tls.Certificate]
}

// NewKeeper checks cfg and returns a keeper without a certificate.
func NewKeeper(cfg KeeperConfig) (*Keeper, error) {
	if len(cfg.Names) == 0 || cfg.Store == nil || cfg.Log == nil {
		return nil, errors.New("admission: Names, Store and Log must be set")
	}
	if cfg.Period == 0 {
		cfg.Period = time.Minute
	}
	if cfg.Retry == 0 {
		cfg.Retry = time.Second
	}
	if cfg.Period < 0 || cfg.Retry < 0 {
		return nil, errors.New("admission: Period and Retry must be positive")
	}
	return &Keeper{cfg: cfg}, nil
}

// Ready says why no handshake can succeed yet, nil when it can.
func (k *Keeper) Ready() error {
	if k.serving.Load() == nil {
		return errors.New("there is no serving certificate yet")
	}
	return nil
}

// Certificate is for tls.Config.GetCertificate.
func (k *Keeper) Certificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if c := k.serving.Load(); c != nil {
		return c, nil
	}
	return nil, k.Ready()
}

// Run looks after the certificates until ctx ends. The store away changes nothing: the last ones serve on. What is wrong is
// said when it begins, changes and ends.
func (k *Keeper) Run(ctx context.Context) error {
	said := ""
	for {
		pause := k.cfg.Period
		switch err := k.once(ctx); {
		case err != nil && ctx.Err() == nil:
			if text := err.Error(); text != said {
				k.cfg.Log.Warn("the webhook's certificates could not be looked after", "retry", k.cfg.Retry, "error", err)
				said = text
			}
			pause = k.cfg.Retry
		case err == nil && said != "":
			k.cfg.Log.Info("the webhook's certificates are looked after again")
			said = ""
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
	}
}

// once brings everything up to now: what is stored, what is trusted, what is served, in this order.
func (k *Keeper) once(ctx context.Context) error {
	data, version, err := k.cfg.Store.Read(ctx)
	if err != nil {
		return fmt.Errorf("read: %w", err)
	}
	state, err := Decode(data)
	if err != nil { // somebody wrote something else there: begin anew
		k.cfg.Log.Warn("the stored certificates are unreadable and replaced", "error", err)
		state = State{}
	}
	next, changed, err := Renew(state, time.Now(), k.cfg.Names)
	if err != nil {
		return err
	}
	if changed {
		stored, err := next.Encode()
		if err == nil {
			err = k.cfg.Store.Write(ctx, stored, version)
		}
		if err != nil {
			return fmt.Errorf("write: %w", err)
		}
		k.cfg.Log.Info("certificates renewed", "authorities", len(next.authorities), "until", next.serving.cert.NotAfter)
	}
	if err := k.cfg.Store.Trust(ctx, next.Bundle()); err != nil { // each time: somebody may have applied a manifest again
		return fmt.Errorf("trust: %w", err)
	}
	k.serving.Store(next.Certificate())
	return nil
}
