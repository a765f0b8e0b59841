package servingtls

import (
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
)

// Options are Knative's TLS settings as text; empty is the default.
type Options struct {
	// MinVersion and MaxVersion are 1.2 or 1.3; MinVersion defaults to 1.3.
	MinVersion, MaxVersion string
	// CipherSuites are names of crypto/tls, separated by commas; they have a meaning below TLS 1.3 only.
	CipherSuites string
	// CurvePreferences are names of crypto/tls, separated by commas, or the IANA names of NIST curves.
	CurvePreferences string
}

// Config returns what a server needs to serve with the certificate; ALPN offers h2 and http/1.1. It names every
// option that has no meaning.
func (o Options) Config(get func(*tls.ClientHelloInfo) (*tls.Certificate, error)) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS13, GetCertificate: get, NextProtos: []string{"h2", "http/1.1"}}
	var errs []error
	note := func(field string, err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", field, err))
		}
	}
	if o.MinVersion != "" {
		v, err := version(o.MinVersion)
		note("MIN_VERSION", err)
		c.MinVersion = v
	}
	if o.MaxVersion != "" {
		v, err := version(o.MaxVersion)
		note("MAX_VERSION", err)
		c.MaxVersion = v
	}
	if c.MaxVersion != 0 && c.MaxVersion < c.MinVersion {
		note("MAX_VERSION", fmt.Errorf("%q is below MIN_VERSION", o.MaxVersion))
	}
	var err error
	c.CipherSuites, err = ciphers(o.CipherSuites)
	note("CIPHER_SUITES", err)
	c.CurvePreferences, err = curves(o.CurvePreferences)
	note("CURVE_PREFERENCES", err)
	return c, errors.Join(errs...)
}

func version(s string) (uint16, error) {
	switch strings.TrimSpace(s) {
	case "1.2":
		return tls.VersionTLS12, nil
	case "1.3":
		return tls.VersionTLS13, nil
	}
	return 0, fmt.Errorf("%q: must be 1.2 or 1.3", s)
}

// names splits a list.
func names(list string) (all []string) {
	for n := range strings.SplitSeq(list, ",") {
		if n = strings.TrimSpace(n); n != "" {
			all = append(all, n)
		}
	}
	return all
}

func ciphers(list string) (ids []uint16, err error) {
	var errs []error
	for _, name := range names(list) {
		id, ok := cipher(name)
		if !ok {
			errs = append(errs, fmt.Errorf("%q: must be a cipher suite of crypto/tls that is not insecure", name))
			continue
		}
		ids = append(ids, id)
	}
	return ids, errors.Join(errs...)
}

func cipher(name string) (uint16, bool) {
	for _, s := range tls.CipherSuites() {
		if s.Name == name {
			return s.ID, true
		}
	}
	return 0, false
}

func curves(list string) (ids []tls.CurveID, err error) {
	known := map[string]tls.CurveID{
		"X25519": tls.X25519, "X25519MLKEM768": tls.X25519MLKEM768,
		"CurveP256": tls.CurveP256, "P-256": tls.CurveP256, "CurveP384": tls.CurveP384, "P-384": tls.CurveP384,
		"CurveP521": tls.CurveP521, "P-521": tls.CurveP521,
	}
	var errs []error
	for _, name := range names(list) {
		id, ok := known[name]
		if !ok {
			errs = append(errs, fmt.Errorf("%q: must be X25519, X25519MLKEM768, CurveP256, CurveP384 or CurveP521", name))
			continue
		}
		ids = append(ids, id)
	}
	return ids, errors.Join(errs...)
}
