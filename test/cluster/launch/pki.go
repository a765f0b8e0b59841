package launch

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// authority signs every certificate of the cluster. It lives as long as the cluster.
type authority struct {
	dir    string
	cert   *x509.Certificate
	key    crypto.Signer
	serial int64
}

func newAuthority(dir string) (*authority, error) {
	a := &authority{dir: dir, serial: 1}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	tmpl := template(1, "rouse-test-cluster", nil)
	tmpl.IsCA, tmpl.BasicConstraintsValid, tmpl.KeyUsage = true, true, x509.KeyUsageCertSign|x509.KeyUsageDigitalSignature
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		return nil, err
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		return nil, err
	}
	a.key = key
	return a, a.write("ca.crt", "CERTIFICATE", der)
}

func template(serial int64, name string, groups []string) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(serial),
		Subject:      pkix.Name{CommonName: name, Organization: groups},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(7 * 24 * time.Hour),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
}

// issue writes file.crt and file.key for a user, a member of groups, or a server with names and addresses.
func (a *authority) issue(file, user string, groups, hosts []string) error {
	a.serial++
	tmpl := template(a.serial, user, groups)
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			tmpl.IPAddresses = append(tmpl.IPAddresses, ip)
		} else {
			tmpl.DNSNames = append(tmpl.DNSNames, h)
		}
	}
	key, err := a.newKey(file + ".key")
	if err != nil {
		return err
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, key.Public(), a.key)
	if err != nil {
		return err
	}
	return a.write(file+".crt", "CERTIFICATE", der)
}

// newKey writes a private key and returns it.
func (a *authority) newKey(file string) (crypto.Signer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, err
	}
	return key, a.write(file, "EC PRIVATE KEY", der)
}

func (a *authority) write(name, kind string, der []byte) error {
	return os.WriteFile(filepath.Join(a.dir, name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
}

// The cluster's addresses. Pods are on a bridge whose addresses are the node's.
const (
	bridge      = "pods0"
	nodeIP      = "10.88.0.1"
	podNetwork  = "10.88.0.0/16"
	gateway     = nodeIP + "/16"
	services    = "10.96.0.0/16"
	firstIP     = "10.96.0.1" // the Service "kubernetes", where IPv4 comes first
	podNetwork6 = "fd00:10:88::/64"
	nodeIP6     = "fd00:10:88::1"
	gateway6    = nodeIP6 + "/64"
	services6   = "fd00:10:96::/112"
	firstIP6    = "fd00:10:96::1"
	apiPort     = "16443"
	delayPort   = "16444" // the API server, with slices delayed; for kube-proxy alone
	etcdURL     = "http://127.0.0.1:12379"
	peerURL     = "http://127.0.0.1:12380"
	nodeName    = "node1"
	domain      = "cluster.local"
)

// users are the components' identities: the names that Kubernetes' own roles are bound to. The node is an administrator: it also answers for DNS.
var users = []struct{ file, user, group string }{
	{"admin", "admin", "system:masters"},
	{"controllers", "system:kube-controller-manager", ""},
	{"scheduler", "system:kube-scheduler", ""},
	{"proxy", "system:kube-proxy", ""},
	{"node", "system:node:" + nodeName, "system:masters"},
	{"kubelet-client", "kube-apiserver-kubelet-client", ""},
}

// writeKeys fills the directory pki and writes a kubeconfig for every user.
func writeKeys(state string) error {
	a, err := newAuthority(filepath.Join(state, "pki"))
	if err != nil {
		return fmt.Errorf("keys: %w", err)
	}
	_, err = a.newKey("accounts.key")
	errs := []error{err,
		a.issue("apiserver", "kube-apiserver", nil, []string{"127.0.0.1", nodeIP, nodeIP6, firstIP, firstIP6, "localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc",
			"kubernetes.default.svc." + domain}),
		a.issue("kubelet", "system:node:"+nodeName, []string{"system:nodes"}, []string{nodeIP, nodeIP6, nodeName}),
	}
	for _, u := range users {
		var groups []string
		if u.group != "" {
			groups = []string{u.group}
		}
		errs = append(errs, a.issue(u.file, u.user, groups, nil), writeKubeconfig(state, u.file, "https://"+nodeIP+":"+apiPort))
	}
	// kube-proxy hears of slices by way of the delay.
	errs = append(errs, os.WriteFile(kubeconfig(state, "proxy-delayed"), fmt.Appendf(nil, kubeconfigText, "http://127.0.0.1:"+delayPort, "", ""), 0o600))
	return errors.Join(errs...)
}

func kubeconfig(state, user string) string { return filepath.Join(state, user+".kubeconfig") }

const kubeconfigText = `apiVersion: v1
kind: Config
clusters: [{name: rouse, cluster: {server: %q%s}}]
users: [{name: me, user: {%s}}]
contexts: [{name: rouse, context: {cluster: rouse, user: me}}]
current-context: rouse
`

func writeKubeconfig(state, user, server string) error {
	pki := filepath.Join(state, "pki")
	text := fmt.Appendf(nil, kubeconfigText, server, fmt.Sprintf(", certificate-authority: %q", filepath.Join(pki, "ca.crt")),
		fmt.Sprintf("client-certificate: %q, client-key: %q", filepath.Join(pki, user+".crt"), filepath.Join(pki, user+".key")))
	return os.WriteFile(kubeconfig(state, user), text, 0o600)
}
