package servingtls

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// write makes a self-signed pair with the name and puts it in place.
func write(t *testing.T, dir, name string) (cert, key string) {
	t.Helper()
	priv, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Unix(0, 0), NotAfter: time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC),
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &priv.PublicKey, priv)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(priv)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	put(t, cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	put(t, key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}))
	return cert, key
}

func put(t *testing.T, file string, data []byte) {
	t.Helper()
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// age sets the time of both files: what was written within one tick of the file system's clock looks the same.
func age(t *testing.T, at time.Time, files ...string) {
	t.Helper()
	for _, f := range files {
		if err := os.Chtimes(f, at, at); err != nil {
			t.Fatal(err)
		}
	}
}

func nameOf(t *testing.T, c *Certificate) string {
	t.Helper()
	pair, err := c.Get(nil)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	return leaf.Subject.CommonName
}

// TestRotation replaces the files: handshakes within the second still see the old pair, later ones the new, and a
// broken pair changes nothing.
func TestRotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		cert, key := write(t, dir, "first")
		age(t, time.Unix(1000, 0), cert, key)
		c, err := Load(cert, key, nil)
		if err != nil {
			t.Fatal(err)
		}
		write(t, dir, "second")
		age(t, time.Unix(2000, 0), cert, key)
		if got := nameOf(t, c); got != "first" {
			t.Errorf("within the second = %s, want first", got)
		}
		time.Sleep(lookEvery)
		if got := nameOf(t, c); got != "second" {
			t.Errorf("after the second = %s, want second", got)
		}
		put(t, cert, []byte("half a certificate"))
		time.Sleep(lookEvery)
		if got := nameOf(t, c); got != "second" {
			t.Errorf("with a broken file = %s, want second to stay", got)
		}
		if err := os.Remove(key); err != nil {
			t.Fatal(err)
		}
		time.Sleep(lookEvery)
		if got := nameOf(t, c); got != "second" {
			t.Errorf("with a missing file = %s, want second to stay", got)
		}
		write(t, dir, "third")
		age(t, time.Unix(3000, 0), cert, key)
		time.Sleep(lookEvery)
		if got := nameOf(t, c); got != "third" {
			t.Errorf("after the repair = %s, want third", got)
		}
	})
}

func TestLoadNamesTheFile(t *testing.T) {
	dir := t.TempDir()
	cert, key := write(t, dir, "x")
	if _, err := Load(filepath.Join(dir, "none"), key, nil); err == nil || !strings.Contains(err.Error(), "none") {
		t.Errorf("Load of no file = %v, want its name", err)
	}
	put(t, key, []byte("no key"))
	if _, err := Load(cert, key, nil); err == nil || !strings.Contains(err.Error(), key) {
		t.Errorf("Load of a broken key = %v, want its name", err)
	}
}

func TestOptions(t *testing.T) {
	c, err := Options{}.Config(nil)
	if err != nil || c.MinVersion != tls.VersionTLS13 || c.NextProtos[0] != "h2" {
		t.Errorf("default = %+v, %v; want TLS 1.3 and h2 first", c, err)
	}
	c, err = Options{MinVersion: "1.2", MaxVersion: "1.3", CipherSuites: "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", CurvePreferences: "X25519, P-256"}.Config(nil)
	if err != nil || c.MinVersion != tls.VersionTLS12 || len(c.CipherSuites) != 1 || len(c.CurvePreferences) != 2 {
		t.Errorf("chosen = %+v, %v; want what was asked for", c, err)
	}
	_, err = Options{MinVersion: "1.1", MaxVersion: "2", CipherSuites: "TLS_RSA_WITH_RC4_128_SHA", CurvePreferences: "P-1"}.Config(nil)
	for _, want := range []string{"MIN_VERSION", "MAX_VERSION", "CIPHER_SUITES", "CURVE_PREFERENCES"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Config = %v, want it to name %s", err, want)
		}
	}
	if _, err := (Options{MinVersion: "1.3", MaxVersion: "1.2"}).Config(nil); err == nil {
		t.Error("a maximum below the minimum was accepted")
	}
}
