package podtls

import (
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rousehq/rouse/internal/fault"
)

// shake has both ends shake hands over a connection of its own, and returns what the client finds.
func shake(t *testing.T, client, server *tls.Config) error {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		far, err := ln.Accept()
		if err != nil {
			return
		}
		defer far.Close()
		s := tls.Server(far, server)
		if s.Handshake() == nil {
			_, _ = s.Read(make([]byte, 1)) // until the client closes: its certificate is checked by then
		}
	}()
	near, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	err = tls.Client(near, client).Handshake()
	near.Close()
	<-done
	return err
}

func serving(pair tls.Certificate) *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
}

func TestWhoIsBelieved(t *testing.T) {
	ours, theirs := newAuthority(t, "ours"), newAuthority(t, "theirs")
	for _, c := range []struct {
		name, want string // SAN asked for; empty for Knative's
		namespace  string
		server     *tls.Config
		text       string // of the refusal; empty for none
	}{
		{"Knative's name", "", "Default", serving(ours.issue("data-plane.knative.dev", "kn-user-default")), ""},
		{"case", "", "default", serving(ours.issue("KN-USER-default")), ""},
		{"another namespace", "", "shop", serving(ours.issue("data-plane.knative.dev", "kn-user-default")), `not "kn-user-shop"`},
		{"a longer name", "", "shop", serving(ours.issue("kn-user-shop2")), `not "kn-user-shop"`},
		{"another authority", "", "default", serving(theirs.issue("kn-user-default")), "unknown authority"},
		{"a URI", "spiffe://cluster/ns/{namespace}/pod", "shop", serving(ours.issue("spiffe://cluster/ns/shop/pod")), ""},
		{"another URI", "spiffe://cluster/ns/{namespace}/pod", "shop", serving(ours.issue("spiffe://cluster/ns/other/pod")), "spiffe://cluster/ns/shop/pod"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := files(t, t.TempDir(), nil, ours)
			cfg.Name = c.want
			client, err := Load(cfg, nil)
			if err != nil {
				t.Fatal(err)
			}
			err = shake(t, client.For(c.namespace), c.server)
			if c.text == "" {
				if err != nil {
					t.Errorf("refused: %v", err)
				}
				return
			}
			if !errors.Is(err, fault.UpstreamUnverified) || !strings.Contains(err.Error(), c.text) {
				t.Errorf("handshake = %v, want upstream_unverified with %q", err, c.text)
			}
		})
	}
}

func TestOldProtocolIsRefused(t *testing.T) {
	ours := newAuthority(t, "ours")
	client, err := Load(files(t, t.TempDir(), nil, ours), nil)
	if err != nil {
		t.Fatal(err)
	}
	server := serving(ours.issue("kn-user-default"))
	server.MaxVersion = tls.VersionTLS12
	if err := shake(t, client.For("default"), server); err == nil {
		t.Error("TLS 1.2 was accepted, want 1.3 at least")
	}
}

// TestRotation replaces the authorities and the own certificate: handshakes after a second use the new ones, and files
// that cannot be used change nothing.
func TestRotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old, next := newAuthority(t, "old"), newAuthority(t, "next")
		dir := t.TempDir()
		mine := old.issue("activator-1")
		cfg := files(t, dir, &mine, old)
		client, err := Load(cfg, nil)
		if err != nil {
			t.Fatal(err)
		}
		tlsConfig := client.For("default")
		var presented string
		server := func(by *authority) *tls.Config {
			s := serving(by.issue("kn-user-default"))
			s.ClientAuth = tls.RequireAnyClientCert
			s.VerifyConnection = func(cs tls.ConnectionState) error {
				presented = strings.Join(cs.PeerCertificates[0].DNSNames, " ")
				return nil
			}
			return s
		}
		check := func(when string, oldOK, nextOK bool, name string) {
			t.Helper()
			if err := shake(t, tlsConfig, server(old)); (err == nil) != oldOK {
				t.Errorf("%s: old authority's pod: %v, want accepted: %v", when, err, oldOK)
			}
			if err := shake(t, tlsConfig, server(next)); (err == nil) != nextOK {
				t.Errorf("%s: new authority's pod: %v, want accepted: %v", when, err, nextOK)
			}
			if presented != name {
				t.Errorf("%s: presented %q, want %q", when, presented, name)
			}
		}
		check("at first", true, false, "activator-1")
		time.Sleep(time.Millisecond)
		mine2 := next.issue("activator-2")
		files(t, dir, &mine2, old, next)
		check("within the second", true, false, "activator-1")
		time.Sleep(lookEvery)
		check("after the second", true, true, "activator-2")
		write(t, cfg.CAFile, []byte("half a certificate"), time.Now())
		time.Sleep(lookEvery)
		check("with a broken file", true, true, "activator-2")
		mine3 := next.issue("activator-3")
		files(t, dir, &mine3, next)
		time.Sleep(lookEvery)
		check("when the old authority has gone", false, true, "activator-3")
	})
}

func TestLoadNamesWhatIsWrong(t *testing.T) {
	ours := newAuthority(t, "ours")
	dir := t.TempDir()
	good := files(t, dir, nil, ours)
	empty := filepath.Join(dir, "empty.crt")
	write(t, empty, []byte("nothing"), time.Now())
	for _, c := range []struct {
		cfg  Config
		text string
	}{
		{Config{}, "CAFile"},
		{Config{CAFile: good.CAFile, CertFile: "x"}, "KeyFile"},
		{Config{CAFile: filepath.Join(dir, "none.crt")}, "none.crt"},
		{Config{CAFile: empty}, "holds no certificate"},
		{Config{CAFile: good.CAFile, CertFile: empty, KeyFile: empty}, "empty.crt"},
	} {
		if _, err := Load(c.cfg, nil); err == nil || !strings.Contains(err.Error(), c.text) {
			t.Errorf("Load(%+v) = %v, want it to name %q", c.cfg, err, c.text)
		}
	}
}

// TestRefusalsAreLogged says why, and not more often than every ten seconds.
func TestRefusalsAreLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours := newAuthority(t, "ours")
		var text strings.Builder
		client, err := Load(files(t, t.TempDir(), nil, ours), slog.New(slog.NewTextHandler(&text, nil)))
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			_ = shake(t, client.For("shop"), serving(ours.issue("kn-user-default")))
		}
		time.Sleep(noteEvery)
		_ = shake(t, client.For("shop"), serving(ours.issue("kn-user-default")))
		if n := strings.Count(text.String(), "kn-user-shop"); n != 2 {
			t.Errorf("%d lines of 4 refusals over 10 s, want 2 that name what was expected:\n%s", n, text.String())
		}
	})
}
