package podtls

import (
	"crypto/tls"
	"testing"
)

// What the tests of another package need of the certificates that are made here.

type Authority struct{ a *authority }

func NewAuthority(t testing.TB, name string) Authority { return Authority{newAuthority(t, name)} }

func (a Authority) Issue(names ...string) tls.Certificate { return a.a.issue(names...) }
func (a Authority) PEM() []byte                           { return a.a.pem() }

func Files(t testing.TB, dir string, own *tls.Certificate, by Authority) Config {
	return files(t, dir, own, by.a)
}
