package launch

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"
)

func TestHeldBodyComesLateAndInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, w := io.Pipe()
		d := &delay{}
		d.set(3 * time.Second)
		body := d.hold(r)
		began := time.Now()
		go func() {
			_, _ = io.WriteString(w, "one\n")
			time.Sleep(time.Second)
			_, _ = io.WriteString(w, "two\n")
			w.Close()
		}()
		lines := bufio.NewReader(body)
		for i, want := range []string{"one\n", "two\n"} {
			got, err := lines.ReadString('\n')
			if due := time.Duration(3+i) * time.Second; err != nil || got != want || time.Since(began) != due {
				t.Errorf("line %d = %q, %v after %v, want %q after %v", i, got, err, time.Since(began), want, due)
			}
		}
		if _, err := lines.ReadByte(); err != io.EOF {
			t.Errorf("at the end: %v, want EOF", err)
		}
	})
}

func TestHeldBodyEndsWhenClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, w := io.Pipe()
		d := &delay{}
		d.set(time.Hour)
		body := d.hold(r)
		go func() { _, _ = io.WriteString(w, "never seen") }()
		go func() {
			time.Sleep(time.Second)
			body.Close()
		}()
		if n, err := body.Read(make([]byte, 10)); n != 0 || err == nil {
			t.Errorf("Read = %d, %v after Close, want an error", n, err)
		}
	})
}

func TestOnlyWatchesOfSlicesAreHeld(t *testing.T) {
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.URL.RequestURI()) }))
	defer api.Close()
	var log bytes.Buffer
	d := newDelay(api.URL, &http.Transport{}, &log)
	d.set(50 * time.Millisecond)
	front := httptest.NewServer(d)
	defer front.Close()
	for uri, held := range map[string]bool{
		"/apis/discovery.k8s.io/v1/endpointslices?watch=true": true,
		"/apis/discovery.k8s.io/v1/endpointslices":            false,
		"/api/v1/services?watch=true":                         false,
	} {
		began := time.Now()
		resp, err := http.Get(front.URL + uri)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || string(body) != uri {
			t.Errorf("%s: %q, %v", uri, body, err)
		}
		if took := time.Since(began); held && took < 50*time.Millisecond {
			t.Errorf("%s took %v, want it held for 50 ms", uri, took)
		}
	}
}
