package main

import (
	"bufio"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/rousehq/rouse/internal/config"
	"github.com/rousehq/rouse/internal/lifecycle"
)

// settings are the environment of the activator. Names without ROUSE_ are those of Knative's Deployment; what it sets
// beyond them (CONFIG_LOGGING_NAME, CONFIG_OBSERVABILITY_NAME, METRICS_DOMAIN, PROBE_TIMEOUT, PROBE_FREQUENCY, …) needs
// nothing here: probing adapts to the measured round trip.
type settings struct {
	Pod            string     `env:"POD_NAME,required"`
	PodIP          netip.Addr `env:"POD_IP,required"`
	Namespace      string     `env:"SYSTEM_NAMESPACE,required"`
	MaxIdlePerHost int        `env:"MAX_IDLE_PROXY_CONNS_PER_HOST" envDefault:"100"`
	Kubeconfig     string     `env:"KUBECONFIG"`

	HTTPPort      uint16        `env:"ROUSE_HTTP_PORT" envDefault:"8012"`
	H2CPort       uint16        `env:"ROUSE_H2C_PORT" envDefault:"8013"`
	MetricsPort   uint16        `env:"ROUSE_METRICS_PORT" envDefault:"9090"`
	AutoscalerURL string        `env:"ROUSE_AUTOSCALER_URL"`
	DrainMinimum  time.Duration `env:"ROUSE_DRAIN_MINIMUM" envDefault:"10s"`
	DrainQuiet    time.Duration `env:"ROUSE_DRAIN_QUIET" envDefault:"2s"`
	DrainMaximum  time.Duration `env:"ROUSE_DRAIN_MAXIMUM" envDefault:"590s"`
	QueueLimit    int           `env:"ROUSE_QUEUE_LIMIT" envDefault:"10000"`
}

// load reads and checks the environment; the error names every fault.
func load(environ []string) (*settings, error) {
	s := &settings{}
	faults := config.FromEnviron(environ, s)
	if s.MaxIdlePerHost < 1 {
		faults = append(faults, config.Fault{Key: "MAX_IDLE_PROXY_CONNS_PER_HOST", Value: fmt.Sprint(s.MaxIdlePerHost), Allowed: "at least 1"})
	}
	if s.QueueLimit < 1 {
		faults = append(faults, config.Fault{Key: "ROUSE_QUEUE_LIMIT", Value: fmt.Sprint(s.QueueLimit), Allowed: "at least 1"})
	}
	if err := s.draining().Validate(); err != nil && len(faults) == 0 {
		return nil, fmt.Errorf("ROUSE_DRAIN_MINIMUM, ROUSE_DRAIN_QUIET, ROUSE_DRAIN_MAXIMUM: %w", err)
	}
	return s, config.Join(faults)
}

func (s *settings) draining() lifecycle.DrainConfig {
	return lifecycle.DrainConfig{Minimum: s.DrainMinimum, Quiet: s.DrainQuiet, Grace: s.DrainMaximum}
}

// autoscaler is where statistics go: the Service of Knative's autoscaler, unless the environment says otherwise.
func (s *settings) autoscaler() string {
	if s.AutoscalerURL != "" {
		return s.AutoscalerURL
	}
	return "ws://autoscaler." + s.Namespace + ".svc." + clusterDomain("/etc/resolv.conf") + ":8080"
}

// clusterDomain is the domain that a pod's resolver searches Services in; cluster.local when that cannot be told.
func clusterDomain(resolvConf string) string {
	f, err := os.Open(resolvConf)
	if err != nil {
		return "cluster.local"
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		words := strings.Fields(lines.Text())
		if len(words) == 0 || words[0] != "search" {
			continue
		}
		for _, w := range words[1:] {
			if domain, ok := strings.CutPrefix(w, "svc."); ok {
				return strings.TrimSuffix(domain, ".")
			}
		}
	}
	return "cluster.local"
}
