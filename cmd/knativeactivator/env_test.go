package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var required = []string{"POD_NAME=activator-1", "POD_IP=10.1.0.1", "SYSTEM_NAMESPACE=knative-serving"}

func TestEnvironment(t *testing.T) {
	for name, tc := range map[string]struct {
		more []string
		want []string // parts of the error; none means it loads
	}{
		"Knative's own": {[]string{"GOGC=500", "CONFIG_LOGGING_NAME=config-logging", "PROBE_FREQUENCY=200ms", "MAX_IDLE_PROXY_CONNS=1000"}, nil},
		"faults all at once": {[]string{"POD_IP=nowhere", "MAX_IDLE_PROXY_CONNS_PER_HOST=0", "ROUSE_QUEUE_LIMIT=-1"},
			[]string{"POD_IP", "MAX_IDLE_PROXY_CONNS_PER_HOST", "ROUSE_QUEUE_LIMIT"}},
		"a negative drain": {[]string{"ROUSE_DRAIN_MINIMUM=-1s"}, []string{"ROUSE_DRAIN_MINIMUM"}},
	} {
		_, err := load(append(required[:len(required):len(required)], tc.more...))
		if (err == nil) != (len(tc.want) == 0) {
			t.Errorf("%s: load = %v", name, err)
			continue
		}
		for _, part := range tc.want {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%s: load = %v, want it to name %s", name, err, part)
			}
		}
	}
	if _, err := load(nil); err == nil || !strings.Contains(err.Error(), "POD_NAME") || !strings.Contains(err.Error(), "SYSTEM_NAMESPACE") {
		t.Errorf("load of nothing = %v, want every missing variable", err)
	}
}

func TestClusterDomain(t *testing.T) {
	for text, want := range map[string]string{
		"nameserver 10.0.0.10\nsearch shop.svc.example.org svc.example.org example.org\n": "example.org",
		"search svc.cluster.test.\n":    "cluster.test",
		"nameserver 10.0.0.10\n":        "cluster.local",
		"search example.org home.lan\n": "cluster.local",
	} {
		file := filepath.Join(t.TempDir(), "resolv.conf")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := clusterDomain(file); got != want {
			t.Errorf("clusterDomain(%q) = %q, want %q", text, got, want)
		}
	}
	if got := clusterDomain(filepath.Join(t.TempDir(), "none")); got != "cluster.local" {
		t.Errorf("clusterDomain without a file = %q", got)
	}
}
