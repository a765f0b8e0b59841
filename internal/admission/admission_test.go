package admission

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/rousehq/rouse/internal/inject"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var names = []string{"rouse-webhook.rouse-system.svc"}

const pod = `{"apiVersion":"v1","kind":"Pod","metadata":{"generateName":"hello-5d8f9c-","labels":{"pod-template-hash":"5d8f9c","rouse.dev/inject":"enabled"},
"ownerReferences":[{"kind":"ReplicaSet","name":"hello-5d8f9c","controller":true}]},
"spec":{"containers":[{"name":"app","image":"example.test/app","ports":[{"containerPort":8080}]}]}}`

// ask sends a review of a pod and returns the response.
func ask(t *testing.T, h http.Handler, resource, operation, object string) *response {
	t.Helper()
	body := `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"u1","namespace":"default","operation":"` + operation +
		`","resource":{"group":"","version":"v1","resource":"` + resource + `"},"object":` + object + `}}`
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/inject", strings.NewReader(body)))
	var out review
	if err := json.Unmarshal(w.Body.Bytes(), &out); w.Code != 200 || err != nil || out.Response == nil || out.Response.UID != "u1" {
		t.Fatalf("the answer is %d %s, %v", w.Code, w.Body, err)
	}
	if !out.Response.Allowed {
		t.Error("a pod was refused")
	}
	return out.Response
}

func handler(t *testing.T, log io.Writer) *Handler {
	t.Helper()
	h, err := NewHandler(inject.Options{Image: "rouse/queueproxy:v1"}, slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestHandler(t *testing.T) {
	var log bytes.Buffer
	h := handler(t, &log)
	r := ask(t, h, "pods", "CREATE", pod)
	var patch []inject.Operation
	if err := json.Unmarshal(r.Patch, &patch); err != nil || r.PatchType != "JSONPatch" || len(patch) != 3 {
		t.Errorf("the patch is %s of type %q, %v; want containers, sidecar and grace period", r.Patch, r.PatchType, err)
	}
	if !strings.Contains(string(r.Patch), `"name":"SERVING_REVISION","value":"hello"`) {
		t.Errorf("the sidecar does not know its Deployment: %s", r.Patch)
	}
	for _, c := range []struct{ name, resource, operation, object, warning string }{
		{"not opted in", "pods", "CREATE", strings.Replace(pod, `"rouse.dev/inject":"enabled"`, `"a":"b"`, 1), ""},
		{"an update", "pods", "UPDATE", pod, ""},
		{"something else", "services", "CREATE", `{}`, ""},
		{"on the host's network", "pods", "CREATE", strings.Replace(pod, `"spec":{`, `"spec":{"hostNetwork":true,`, 1), "hostNetwork"},
		{"no object", "pods", "CREATE", `[]`, "no object"},
	} {
		r := ask(t, h, c.resource, c.operation, c.object)
		if said := strings.Join(r.Warnings, " "); len(r.Patch) > 0 || (c.warning == "") != (said == "") || !strings.Contains(said, c.warning) {
			t.Errorf("%s: patch %s, warnings %q; want none, and %q", c.name, r.Patch, said, c.warning)
		}
	}
	if n := strings.Count(log.String(), "a pod has no queue-proxy"); n != 2 {
		t.Errorf("%d lines were logged about pods without a sidecar, want 2:\n%s", n, log.String())
	}
}

func TestHandlerRefusesWhatIsNoReview(t *testing.T) {
	h := handler(t, io.Discard)
	for name, body := range map[string]string{"no JSON": "x", "no request": `{"apiVersion":"admission.k8s.io/v1"}`,
		"another version": `{"apiVersion":"admission.k8s.io/v1beta1","request":{"uid":"1"}}`, "too large": strings.Repeat("x", maxReview+1)} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/inject", strings.NewReader(body)))
		if w.Code < 400 || w.Code > 499 {
			t.Errorf("%s: %d %s, want a fault of the client", name, w.Code, w.Body)
		}
	}
}

// verify checks that a client with this bundle trusts what the state serves.
func verify(s *State, bundle []byte, now time.Time) error {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(bundle)
	c := s.Certificate()
	if c == nil {
		return errors.New("no certificate")
	}
	_, err := c.Leaf.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: now, DNSName: names[0]})
	return err
}

// TestThreeYears renews day by day, and near each change minute by minute. Whatever is served is trusted by the bundle of
// now and by that of five minutes ago, which an API server may still have.
func TestThreeYears(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	end := now.Add(3 * authorityLife)
	var s State
	var bundles [][]byte // of the last minutes, oldest first
	authorities, certificates := map[string]bool{}, map[string]bool{}
	for step := time.Duration(0); now.Before(end); now = now.Add(step) {
		next, changed, err := Renew(s, now, names)
		if err != nil {
			t.Fatal(err)
		}
		data, err := next.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if s, err = Decode(data); err != nil {
			t.Fatal(err)
		}
		if len(bundles) == 0 {
			bundles = append(bundles, s.Bundle())
		}
		for _, b := range [][]byte{s.Bundle(), bundles[0]} {
			if err := verify(&s, b, now); err != nil {
				t.Fatalf("at %s: %v", now, err)
			}
		}
		if bundles = append(bundles, s.Bundle()); len(bundles) > 5 {
			bundles = bundles[1:]
		}
		for _, p := range s.authorities {
			authorities[p.cert.SerialNumber.String()] = true
		}
		certificates[s.serving.cert.SerialNumber.String()] = true
		if step = time.Minute; !changed && len(certificates) > 0 && s.calm(now) {
			step = 24 * time.Hour
			bundles = bundles[len(bundles)-1:]
		}
	}
	if a, c := len(authorities), len(certificates); a < 4 || a > 6 || c < 3*18 || c > 3*20 {
		t.Errorf("three years took %d authorities and %d certificates", a, c)
	}
}

// calm says that nothing is about to settle.
func (s *State) calm(now time.Time) bool {
	newest := s.authorities[len(s.authorities)-1].cert
	return now.Sub(newest.NotBefore) > 2*settling+skew
}

func TestDecodeRefuses(t *testing.T) {
	s, _, err := Renew(State{}, time.Now(), names)
	if err != nil {
		t.Fatal(err)
	}
	good, err := s.Encode()
	if err != nil {
		t.Fatal(err)
	}
	other, _, err := Renew(State{}, time.Now(), names)
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := other.Encode()
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(map[string][]byte){
		"key of another": func(d map[string][]byte) { d[keyKey] = foreign[keyKey] },
		"no key":         func(d map[string][]byte) { d[keyKey] = nil },
		"not PEM's DER": func(d map[string][]byte) {
			d[authoritiesKey] = bytes.Replace(d[authoritiesKey], []byte("MII"), []byte("AAA"), 1)
		},
	} {
		data := maps.Clone(good)
		change(data)
		if _, err := Decode(data); err == nil {
			t.Errorf("%s: was read", name)
		}
	}
	if s, err := Decode(nil); err != nil || s.Certificate() != nil {
		t.Errorf("nothing stored: %+v, %v", s, err)
	}
}

// memory is a store with a version.
type memory struct {
	mu      sync.Mutex // guards the following
	data    map[string][]byte
	version int
	bundle  []byte
	away    bool
	writes  int
}

func (m *memory) Read(context.Context) (map[string][]byte, string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.away {
		return nil, "", errors.New("away")
	}
	return m.data, strings.Repeat("v", m.version), nil
}

func (m *memory) Write(_ context.Context, data map[string][]byte, version string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if version != strings.Repeat("v", m.version) {
		return errors.New("somebody wrote first")
	}
	m.data, m.version, m.writes = data, m.version+1, m.writes+1
	return nil
}

func (m *memory) Trust(_ context.Context, bundle []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.bundle = bundle
	return nil
}

// TestKeeperSaysItOnce: an outage is two lines in the log, however many tries it takes.
func TestKeeperSaysItOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, out := &memory{away: true}, &bytes.Buffer{}
		k, err := NewKeeper(KeeperConfig{Names: names, Store: store, Log: slog.New(slog.NewTextHandler(out, nil))})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var owned sync.WaitGroup
		owned.Go(func() { _ = k.Run(ctx) })
		time.Sleep(time.Hour)
		store.mu.Lock()
		store.away = false
		store.mu.Unlock()
		time.Sleep(time.Hour)
		cancel()
		owned.Wait()
		if n := strings.Count(out.String(), "level=WARN"); n != 1 || strings.Count(out.String(), "looked after again") != 1 {
			t.Errorf("an hour without the store is %d warnings:\n%.2000s", n, out)
		}
	})
}

// TestKeepers: two instances and one store, for three months with an outage of one. Both always serve what is trusted.
func TestKeepers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &memory{}
		ctx, cancel := context.WithCancel(t.Context())
		var owned sync.WaitGroup
		var keepers []*Keeper
		for range 2 {
			k, err := NewKeeper(KeeperConfig{Names: names, Store: store, Period: time.Hour, Log: slog.New(slog.DiscardHandler)})
			if err != nil {
				t.Fatal(err)
			}
			if k.Ready() == nil {
				t.Error("ready before there is a certificate")
			}
			keepers = append(keepers, k)
			owned.Go(func() { _ = k.Run(ctx) })
		}
		for day := range 90 {
			time.Sleep(24 * time.Hour)
			synctest.Wait()
			store.mu.Lock()
			store.away = day > 50 && day < 55
			bundle := store.bundle
			store.mu.Unlock()
			for _, k := range keepers {
				c, err := k.Certificate(&tls.ClientHelloInfo{})
				if err != nil {
					t.Fatalf("day %d: %v", day, err)
				}
				roots := x509.NewCertPool()
				roots.AppendCertsFromPEM(bundle)
				if _, err := c.Leaf.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: time.Now(), DNSName: names[0]}); err != nil {
					t.Fatalf("day %d: %v", day, err)
				}
			}
		}
		cancel()
		owned.Wait()
		if store.writes < 4 || store.writes > 6 {
			t.Errorf("%d writes in 90 days, want one per certificate", store.writes)
		}
	})
}
