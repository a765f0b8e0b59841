package admission

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"time"
)

// Lives of what is made here.
const (
	authorityLife = 365 * 24 * time.Hour
	servingLife   = 30 * 24 * time.Hour
	// settling is how long a new authority is trusted before anything is signed by it: the API server's copies of the
	// webhook's configuration have it by then.
	settling = 10 * time.Minute
	// skew is how far clocks may differ.
	skew = 5 * time.Minute
)

// pair is a certificate with its key.
type pair struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// State is what all instances share: authorities, oldest first, and the serving certificate. The zero value is empty.
type State struct {
	authorities []pair
	serving     pair
}

// Keys of a stored State.
const (
	authoritiesKey = "authorities.pem"
	certKey        = "tls.crt"
	keyKey         = "tls.key"
)

// Renew returns the state that should be at now, for a server with these names. It is the same when nothing is due.
func Renew(s State, now time.Time, names []string) (next State, changed bool, err error) {
	if len(names) == 0 {
		return s, false, errors.New("admission: a serving certificate needs a name")
	}
	next = State{serving: s.serving, authorities: slices.DeleteFunc(slices.Clone(s.authorities), func(p pair) bool { return !now.Before(p.cert.NotAfter) })}
	changed = len(next.authorities) != len(s.authorities)
	if n := len(next.authorities); n == 0 || due(next.authorities[n-1].cert, now) {
		made, err := authority(now)
		if err != nil {
			return s, false, err
		}
		next.authorities, changed = append(next.authorities, made), true
	}
	signer := next.signer(now)
	if !next.serves(now, names) {
		if next.serving, err = serving(signer, now, names); err != nil {
			return s, false, err
		}
		changed = true
	}
	return next, changed, nil
}

// due says whether a third or less of a certificate's life is left.
func due(c *x509.Certificate, now time.Time) bool {
	return c.NotAfter.Sub(now) <= c.NotAfter.Sub(c.NotBefore)/3
}

// signer is the newest authority that has settled, or the oldest one.
func (s *State) signer(now time.Time) pair {
	for _, p := range slices.Backward(s.authorities) {
		if now.Sub(p.cert.NotBefore.Add(skew)) >= settling {
			return p
		}
	}
	return s.authorities[0]
}

// serves says whether the serving certificate can stay.
func (s *State) serves(now time.Time, names []string) bool {
	c := s.serving.cert
	if c == nil || due(c, now) || !slices.Equal(c.DNSNames, names) {
		return false
	}
	return slices.ContainsFunc(s.authorities, func(p pair) bool { return c.CheckSignatureFrom(p.cert) == nil })
}

// authority makes a new one. Each has a name of its own, so that chains are never mistaken.
func authority(now time.Time) (pair, error) {
	return issue(&x509.Certificate{
		Subject: pkix.Name{CommonName: "rouse-webhook " + now.UTC().Format(time.RFC3339Nano)}, NotBefore: now.Add(-skew), NotAfter: now.Add(authorityLife),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign,
	}, nil)
}

func serving(by pair, now time.Time, names []string) (pair, error) {
	end := now.Add(servingLife)
	if end.After(by.cert.NotAfter) {
		end = by.cert.NotAfter
	}
	return issue(&x509.Certificate{
		Subject: pkix.Name{CommonName: names[0]}, DNSNames: names, NotBefore: now.Add(-skew), NotAfter: end,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, BasicConstraintsValid: true,
	}, &by)
}

// issue makes a key and signs its certificate, by itself without a signer.
func issue(template *x509.Certificate, by *pair) (pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return pair{}, err
	}
	if template.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127)); err != nil {
		return pair{}, err
	}
	parent, signer := template, key
	if by != nil {
		parent, signer = by.cert, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		return pair{}, err
	}
	cert, err := x509.ParseCertificate(der)
	return pair{cert, key}, err
}

// Bundle returns the authorities to trust, in PEM.
func (s *State) Bundle() []byte {
	var b bytes.Buffer
	for _, p := range s.authorities {
		_ = pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: p.cert.Raw}) // a buffer takes everything
	}
	return b.Bytes()
}

// Certificate returns what a server serves with, nil when there is none.
func (s *State) Certificate() *tls.Certificate {
	if s.serving.cert == nil {
		return nil
	}
	return &tls.Certificate{Certificate: [][]byte{s.serving.cert.Raw}, PrivateKey: s.serving.key, Leaf: s.serving.cert}
}

// Encode returns the state as the data of a Secret.
func (s *State) Encode() (map[string][]byte, error) {
	var all bytes.Buffer
	for _, p := range s.authorities {
		cert, key, err := p.encode()
		if err != nil {
			return nil, err
		}
		all.Write(cert)
		all.Write(key)
	}
	cert, key, err := s.serving.encode()
	return map[string][]byte{authoritiesKey: all.Bytes(), certKey: cert, keyKey: key}, err
}

func (p pair) encode() (cert, key []byte, err error) {
	der, err := x509.MarshalPKCS8PrivateKey(p.key)
	if err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.cert.Raw}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// mostAuthorities bounds what a Secret may bring in.
const mostAuthorities = 8

// Decode reads what Encode wrote; nothing stands for nothing.
func Decode(data map[string][]byte) (s State, err error) {
	if s.authorities, err = decodePairs(data[authoritiesKey]); err != nil {
		return State{}, fmt.Errorf("%s: %w", authoritiesKey, err)
	}
	if len(s.authorities) > mostAuthorities {
		return State{}, fmt.Errorf("%s: %d authorities, more than %d", authoritiesKey, len(s.authorities), mostAuthorities)
	}
	one, err := decodePairs(slices.Concat(data[certKey], data[keyKey]))
	switch {
	case err != nil:
		return State{}, fmt.Errorf("%s and %s: %w", certKey, keyKey, err)
	case len(one) > 1:
		return State{}, fmt.Errorf("%s and %s: %d pairs, not one", certKey, keyKey, len(one))
	case len(one) == 1:
		s.serving = one[0]
	}
	return s, nil
}

func decodePairs(text []byte) (all []pair, err error) {
	for {
		var cert, key *pem.Block
		if cert, text = pem.Decode(text); cert == nil {
			return all, nil
		}
		if key, text = pem.Decode(text); key == nil {
			return nil, errors.New("a certificate has no key")
		}
		c, err := x509.ParseCertificate(cert.Bytes)
		if err != nil {
			return nil, err
		}
		k, err := x509.ParsePKCS8PrivateKey(key.Bytes)
		if err != nil {
			return nil, err
		}
		ec, ok := k.(*ecdsa.PrivateKey)
		if !ok || !ec.PublicKey.Equal(c.PublicKey) {
			return nil, errors.New("a key does not belong to its certificate")
		}
		all = append(all, pair{c, ec})
	}
}
