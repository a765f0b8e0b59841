// Package podtls makes the activator sure that the pod it talks to is the one it means.
//
// A pod's certificate must be signed by one of the authorities in a file, and must name the subject alternative name
// that pods of the revision's namespace have; addresses are reused, names are not. Knative's queue-proxies are named
// kn-user-NAMESPACE. The activator's own certificate is optional.
//
// The files are looked at again at a handshake, at most once per second: authorities and certificate change without a
// restart. What cannot be used is logged, and what is in force stays. Connections that are open keep what they
// negotiated. A pod that is refused is told so by a TLS alert; the request's cause is [fault.UpstreamUnverified].
//
// It watches nothing and has no goroutine. All methods are safe for concurrent use.
package podtls

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/rousehq/rouse/internal/fault"
)

// KnativeName is the subject alternative name of Knative's queue-proxies.
const KnativeName = "kn-user-{namespace}"

// serverName is what Knative's activator asks for by SNI; queue-proxies have one certificate and do not care.
const serverName = "data-plane.knative.dev"

// lookEvery is how long a look at the files is good for.
const lookEvery = time.Second

// noteEvery bounds how often refusals are logged.
const noteEvery = 10 * time.Second

// Config of a [Client].
type Config struct {
	// CAFile holds the certificates of the authorities, as PEM.
	CAFile string
	// CertFile and KeyFile are the activator's own certificate; both or none.
	CertFile, KeyFile string
	// Name is the subject alternative name that a pod must have, default [KnativeName]: a DNS name, or a URI if it
	// contains "://". {namespace} stands for the revision's namespace in lower case.
	Name string
	// MinVersion of TLS, default 1.3.
	MinVersion uint16
}

// Validate names every field that is missing.
func (c Config) Validate() error {
	var errs []error
	if c.CAFile == "" {
		errs = append(errs, errors.New("podtls: CAFile must name the file with the authorities of the pods' certificates"))
	}
	if (c.CertFile == "") != (c.KeyFile == "") {
		errs = append(errs, errors.New("podtls: CertFile and KeyFile belong together: set both or none"))
	}
	return errors.Join(errs...)
}

// Client verifies pods. Make one with [Load].
type Client struct {
	cfg Config
	log *slog.Logger

	mu     sync.Mutex // guards the following
	roots  *x509.CertPool
	own    *tls.Certificate // nil without
	seen   []stamp
	looked time.Time
	noted  time.Time // when a refusal was last logged
}

// stamp tells versions of a file apart.
type stamp struct {
	modified time.Time
	size     int64
}

// Load reads the files. It fails when one cannot be used.
func Load(cfg Config, log *slog.Logger) (*Client, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.Name == "" {
		cfg.Name = KnativeName
	}
	if cfg.MinVersion == 0 {
		cfg.MinVersion = tls.VersionTLS13
	}
	c := &Client{cfg: cfg, log: log, looked: time.Now()}
	seen, err := c.stamps()
	if err != nil {
		return nil, err
	}
	c.seen = seen
	return c, c.read()
}

// For returns the configuration for connections to the pods of a namespace. It may be kept: each handshake uses the
// files of its time.
func (c *Client) For(namespace string) *tls.Config {
	name := strings.ReplaceAll(c.cfg.Name, "{namespace}", strings.ToLower(namespace))
	return &tls.Config{
		MinVersion:         c.cfg.MinVersion,
		ServerName:         serverName,
		InsecureSkipVerify: true, //nolint:gosec // VerifyConnection does it, with authorities that can change
		VerifyConnection: func(cs tls.ConnectionState) error {
			err := c.verify(cs, name)
			c.note(err)
			return err
		},
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			if _, own := c.current(); own != nil {
				return own, nil
			}
			return &tls.Certificate{}, nil
		},
	}
}

// note logs why a pod was refused, at most every ten seconds: clients are not told what its certificate says.
func (c *Client) note(err error) {
	if err == nil || c.log == nil {
		return
	}
	c.mu.Lock()
	now := time.Now()
	quiet := now.Sub(c.noted) < noteEvery
	if !quiet {
		c.noted = now
	}
	c.mu.Unlock()
	if !quiet {
		c.log.Error("TLS to pods: a pod was refused", "error", err.Error())
	}
}

// verify checks who signed the pod's certificate, and whom it names.
func (c *Client) verify(cs tls.ConnectionState, name string) error {
	if len(cs.PeerCertificates) == 0 {
		return fmt.Errorf("%w: it sent none", fault.UpstreamUnverified)
	}
	leaf := cs.PeerCertificates[0]
	roots, _ := c.current()
	between := x509.NewCertPool()
	for _, cert := range cs.PeerCertificates[1:] {
		between.AddCert(cert)
	}
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between}); err != nil {
		return fmt.Errorf("%w: %w (the authorities are those of %s)", fault.UpstreamUnverified, err, c.cfg.CAFile)
	}
	if !names(leaf, name) {
		return fmt.Errorf("%w: it names %q %q, not %q", fault.UpstreamUnverified, leaf.DNSNames, leaf.URIs, name)
	}
	return nil
}

// names reports that the certificate has the subject alternative name.
func names(leaf *x509.Certificate, name string) bool {
	if strings.Contains(name, "://") {
		for _, u := range leaf.URIs {
			if u.String() == name {
				return true
			}
		}
		return false
	}
	for _, n := range leaf.DNSNames {
		if strings.EqualFold(n, name) {
			return true
		}
	}
	return false
}

// current returns what is in force, after a look at the files when the last one is too old.
func (c *Client) current() (*x509.CertPool, *tls.Certificate) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if now.Sub(c.looked) < lookEvery {
		return c.roots, c.own
	}
	c.looked = now
	seen, err := c.stamps()
	if err == nil && changed(seen, c.seen) {
		c.seen = seen
		err = c.read()
	}
	if err != nil && c.log != nil {
		c.log.Error("TLS to pods: files were not reloaded, what is in force stays", "error", err.Error())
	}
	return c.roots, c.own
}

func changed(a, b []stamp) bool {
	for i := range a {
		if a[i] != b[i] {
			return true
		}
	}
	return false
}

func (c *Client) files() []string {
	if c.cfg.CertFile == "" {
		return []string{c.cfg.CAFile}
	}
	return []string{c.cfg.CAFile, c.cfg.CertFile, c.cfg.KeyFile}
}

// stamps follows links: Kubernetes swaps the directory that they lead to.
func (c *Client) stamps() ([]stamp, error) {
	var seen []stamp
	for _, name := range c.files() {
		info, err := os.Stat(name)
		if err != nil {
			return nil, fmt.Errorf("TLS to pods: %w", err)
		}
		seen = append(seen, stamp{info.ModTime(), info.Size()})
	}
	return seen, nil
}

// read takes everything from the files, or nothing. The caller holds mu, or nobody else has c yet.
func (c *Client) read() error {
	pem, err := os.ReadFile(c.cfg.CAFile)
	if err != nil {
		return fmt.Errorf("TLS to pods: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return fmt.Errorf("TLS to pods: %s holds no certificate in PEM", c.cfg.CAFile)
	}
	if c.cfg.CertFile != "" {
		own, err := tls.LoadX509KeyPair(c.cfg.CertFile, c.cfg.KeyFile)
		if err != nil {
			return fmt.Errorf("TLS to pods: certificate %s with key %s: %w", c.cfg.CertFile, c.cfg.KeyFile, err)
		}
		c.own = &own
	}
	c.roots = roots
	return nil
}
