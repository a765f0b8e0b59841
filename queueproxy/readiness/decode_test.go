package readiness

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestDecode(t *testing.T) {
	for _, c := range []struct {
		name, raw string
		want      []Probe
	}{
		{"Knative's default", `{"tcpSocket":{"port":8080,"host":"127.0.0.1"},"successThreshold":1}`,
			[]Probe{{Kind: TCP, Address: "127.0.0.1:8080", Patient: true, Timeout: time.Second, SuccessThreshold: 1, FailureThreshold: 3}}},
		{"http with everything", `{"httpGet":{"path":"/ready","port":9000,"host":"127.0.0.1","scheme":"HTTPS","httpHeaders":[{"name":"A","value":"b"}]},"timeoutSeconds":3,"periodSeconds":10,"failureThreshold":5,"initialDelaySeconds":1}`,
			[]Probe{{Kind: HTTP, Address: "127.0.0.1:9000", Scheme: "https", Path: "/ready", Headers: []Header{{"A", "b"}}, Timeout: 3 * time.Second, SuccessThreshold: 1, Period: 10 * time.Second, FailureThreshold: 5}}},
		{"port 0 and no host", `{"httpGet":{"port":0}}`,
			[]Probe{{Kind: HTTP, Address: "127.0.0.1:8080", Scheme: "http", Path: "/", Patient: true, Timeout: time.Second, SuccessThreshold: 1, FailureThreshold: 3}}},
		{"named port", `{"tcpSocket":{"port":"http1"},"periodSeconds":1}`,
			[]Probe{{Kind: TCP, Address: "127.0.0.1:8080", Timeout: time.Second, SuccessThreshold: 1, Period: time.Second, FailureThreshold: 3}}},
		{"grpc", `{"grpc":{"port":50051,"service":"shop"},"periodSeconds":1}`,
			[]Probe{{Kind: GRPC, Address: "127.0.0.1:50051", Service: "shop", Timeout: time.Second, SuccessThreshold: 1, Period: time.Second, FailureThreshold: 3}}},
		{"exec becomes a connection", `{"exec":{"command":["cat","/tmp/ready"]},"periodSeconds":1}`,
			[]Probe{{Kind: TCP, Address: "127.0.0.1:8080", Timeout: time.Second, SuccessThreshold: 1, Period: time.Second, FailureThreshold: 3}}},
		{"containers with and without a probe", `[null,{"tcpSocket":{"port":"9001","host":"::1"},"successThreshold":3}]`,
			[]Probe{{Kind: TCP, Address: "[::1]:9001", Patient: true, Timeout: time.Second, SuccessThreshold: 3, FailureThreshold: 3}}},
		{"no containers", `[]`, nil},
	} {
		got, err := Decode(c.raw, 8080)
		if diff := cmp.Diff(c.want, got); err != nil || diff != "" {
			t.Errorf("%s: Decode = error %v, difference (-want +got):\n%s", c.name, err, diff)
		}
	}
}

func TestDecodeNamesEveryFault(t *testing.T) {
	_, err := Decode(`[{"httpGet":{"scheme":"ftp","port":70000},"periodSeconds":-1},{},{"grpc":{"port":1},"exec":{}}]`, 8080)
	if err == nil {
		t.Fatal("Decode = nil, want faults")
	}
	for _, want := range []string{"probe 0", "httpGet.scheme", "port = 70000", "periodSeconds = -1", "probe 1", "has 0 of", "probe 2", "has 2 of"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("Decode = %v, want it to name %q", err, want)
		}
	}
	for _, raw := range []string{"", "tcp", `{"tcpSocket":{"port":{}}}`, `{"tcpSocket":`} {
		if _, err := Decode(raw, 8080); err == nil {
			t.Errorf("Decode(%q) succeeded, want a fault", raw)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(`{"httpGet":{"path":"x","port":"1","host":"::1"}}`)
	f.Add(`[{"grpc":{"port":1}},null]`)
	f.Fuzz(func(t *testing.T, raw string) {
		probes, err := Decode(raw, 8080)
		for _, p := range probes {
			if err == nil && (p.Address == "" || p.Timeout < time.Second || p.SuccessThreshold < 1) {
				t.Errorf("Decode(%q) = %+v, want defaults filled in", raw, p)
			}
		}
	})
}

func FuzzHealthStatus(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0, 2, 8, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		if status, ok := healthStatus(b); !ok && status != 0 {
			t.Errorf("healthStatus(%x) = %d of no message, want 0", b, status)
		}
	})
}
