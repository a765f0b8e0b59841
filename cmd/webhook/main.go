// Command webhook injects the queue-proxy into pods as the cluster makes them. Its environment is described in
// docs/inject.md.
package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"
	_ "time/tzdata" // schedules name zones, and an image has no database of them

	"github.com/rousehq/rouse/internal/admission"
	"github.com/rousehq/rouse/internal/config"
	"github.com/rousehq/rouse/internal/inject"
	"github.com/rousehq/rouse/internal/kube"
	"github.com/rousehq/rouse/internal/lifecycle"
	"github.com/rousehq/rouse/internal/telemetry"
)

func main() {
	if config.Help(os.Args[1:], "webhook injects the queue-proxy into pods as the cluster makes them. See docs/inject.md.", &settings{}, os.Stdout) {
		return
	}
	signals, stop := lifecycle.Notify()
	code := run(os.Environ(), signals, os.Stderr)
	stop()
	os.Exit(code)
}

// settings are the environment of the webhook.
type settings struct {
	Namespace     string        `env:"SYSTEM_NAMESPACE" envDefault:"rouse-system"`
	Kubeconfig    string        `env:"KUBECONFIG"`
	Listen        string        `env:"ROUSE_LISTEN" envDefault:":8443"`
	AdminListen   string        `env:"ROUSE_ADMIN_LISTEN" envDefault:":9090"`
	Service       string        `env:"ROUSE_SERVICE" envDefault:"rouse-webhook"`
	Secret        string        `env:"ROUSE_SECRET" envDefault:"rouse-webhook-certs"`
	Configuration string        `env:"ROUSE_CONFIGURATION" envDefault:"rouse-inject"`
	Image         string        `env:"ROUSE_QUEUEPROXY_IMAGE,required"`
	StatsURL      string        `env:"ROUSE_STATS_URL"`
	TokenAudience string        `env:"ROUSE_TOKEN_AUDIENCE"`
	CPURequest    string        `env:"ROUSE_SIDECAR_CPU_REQUEST"`
	CPULimit      string        `env:"ROUSE_SIDECAR_CPU_LIMIT"`
	MemoryRequest string        `env:"ROUSE_SIDECAR_MEMORY_REQUEST"`
	MemoryLimit   string        `env:"ROUSE_SIDECAR_MEMORY_LIMIT"`
	Drain         time.Duration `env:"ROUSE_DRAIN_MINIMUM" envDefault:"5s"`
	Grace         time.Duration `env:"ROUSE_GRACE" envDefault:"20s"`
	LogLevel      string        `env:"ROUSE_LOG_LEVEL" envDefault:"info"`
	LogFormat     string        `env:"ROUSE_LOG_FORMAT" envDefault:"json"`
}

// load reads the environment and reports every fault of it at once.
func load(environ []string) (settings, error) {
	var s settings
	faults := config.FromEnviron(environ, &s)
	for key, addr := range map[string]string{"ROUSE_LISTEN": s.Listen, "ROUSE_ADMIN_LISTEN": s.AdminListen} {
		if _, _, err := net.SplitHostPort(addr); err != nil {
			faults = append(faults, config.Fault{Key: key, Value: addr, Allowed: "HOST:PORT, such as :8443"})
		}
	}
	for key, d := range map[string]time.Duration{"ROUSE_DRAIN_MINIMUM": s.Drain, "ROUSE_GRACE": s.Grace} {
		if d < 0 {
			faults = append(faults, config.Fault{Key: key, Value: d.String(), Allowed: "a duration that is not negative"})
		}
	}
	err := errors.Join(config.Join(faults), s.sizes().Validate(variable))
	if o := s.sidecar(); o.Image != "" {
		o.Sizes = inject.Sizes{} // judged already, by the names of the variables
		err = errors.Join(err, o.Validate())
	}
	return s, err
}

// variable is what the environment calls a size such as cpu-request.
func variable(size string) string {
	return "ROUSE_SIDECAR_" + strings.ToUpper(strings.ReplaceAll(size, "-", "_"))
}

func (s *settings) sizes() inject.Sizes {
	return inject.Sizes{CPURequest: s.CPURequest, CPULimit: s.CPULimit, MemoryRequest: s.MemoryRequest, MemoryLimit: s.MemoryLimit}
}

func (s *settings) sidecar() inject.Options {
	return inject.Options{Image: s.Image, StatsURL: s.StatsURL, TokenAudience: s.TokenAudience, Sizes: s.sizes()}
}

// run is the whole life of the webhook: the first signal stops it in order, the second at once.
func run(environ []string, signals lifecycle.Signals, stderr io.Writer) int {
	s, err := load(environ)
	if err != nil {
		fmt.Fprintln(stderr, err)
		return 2
	}
	log, _, err := telemetry.NewLogger(stderr, telemetry.LogConfig{Format: s.LogFormat, Level: s.LogLevel, Component: "webhook"})
	if err != nil {
		fmt.Fprintln(stderr, "ROUSE_LOG_LEVEL, ROUSE_LOG_FORMAT:", err)
		return 2
	}
	kube.Quiet()
	client, err := kube.Connect(s.Kubeconfig, "rouse-webhook")
	if err != nil {
		log.Error("no way to the API server", "error", err)
		return 1
	}
	store := &kube.WebhookStore{Client: client, Namespace: s.Namespace, Secret: s.Secret, Configuration: s.Configuration}
	if err := serve(&s, store, signals, log); err != nil {
		log.Error("webhook ended", "error", err)
		return 1
	}
	return 0
}

var _ admission.Store = (*kube.WebhookStore)(nil)
