package main

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/rousehq/rouse/internal/config"
	"github.com/rousehq/rouse/internal/endpoint"
	"github.com/rousehq/rouse/internal/forward"
	"github.com/rousehq/rouse/internal/identity"
	"github.com/rousehq/rouse/internal/lifecycle"
	"github.com/rousehq/rouse/queueproxy"
)

// settings are the environment of the sidecar. Names without ROUSE_ are Knative's.
type settings struct {
	ContainerConcurrency int    `env:"CONTAINER_CONCURRENCY,required"`
	ServingPort          uint16 `env:"QUEUE_SERVING_PORT,required"`
	UserPort             uint16 `env:"USER_PORT,required"`
	TimeoutSeconds       int    `env:"REVISION_TIMEOUT_SECONDS,required"`
	ResponseStartSeconds int    `env:"REVISION_RESPONSE_START_TIMEOUT_SECONDS"`
	IdleSeconds          int    `env:"REVISION_IDLE_TIMEOUT_SECONDS"`
	ReadinessProbe       string `env:"SERVING_READINESS_PROBE"`

	Namespace     string `env:"SERVING_NAMESPACE,required"`
	Service       string `env:"SERVING_SERVICE"`
	Configuration string `env:"SERVING_CONFIGURATION,required"`
	Revision      string `env:"SERVING_REVISION,required"`
	Pod           string `env:"SERVING_POD,required"`
	PodIP         string `env:"SERVING_POD_IP,required"`

	RevisionUID  string        `env:"ROUSE_REVISION_UID"`
	BindAddress  string        `env:"ROUSE_BIND_ADDRESS" envDefault:"::"`
	UserProtocol string        `env:"ROUSE_USER_PROTOCOL" envDefault:"h1"`
	AdminPort    uint16        `env:"ROUSE_ADMIN_PORT" envDefault:"8022"`
	StatsPort    uint16        `env:"ROUSE_STATS_PORT" envDefault:"9090"`
	MetricsPort  uint16        `env:"ROUSE_METRICS_PORT" envDefault:"9091"`
	StatsURL     string        `env:"ROUSE_STATS_URL"`
	StatsToken   string        `env:"ROUSE_STATS_TOKEN"`
	DrainMinimum time.Duration `env:"ROUSE_DRAIN_MINIMUM" envDefault:"5s"`
	DrainQuiet   time.Duration `env:"ROUSE_DRAIN_QUIET" envDefault:"2s"`
	DrainMaximum time.Duration `env:"ROUSE_DRAIN_MAXIMUM"`
}

// load reads the environment and reports every fault of it at once.
func load(environ []string) (settings, error) {
	var s settings
	faults := config.FromEnviron(environ, &s)
	refuse := func(key, value, allowed string) {
		faults = append(faults, config.Fault{Key: key, Value: value, Allowed: allowed})
	}
	if s.ContainerConcurrency < 0 {
		refuse("CONTAINER_CONCURRENCY", fmt.Sprint(s.ContainerConcurrency), "0 (no limit) or more")
	}
	for key, v := range map[string]int{"REVISION_TIMEOUT_SECONDS": s.TimeoutSeconds,
		"REVISION_RESPONSE_START_TIMEOUT_SECONDS": s.ResponseStartSeconds, "REVISION_IDLE_TIMEOUT_SECONDS": s.IdleSeconds} {
		if v < 0 {
			refuse(key, fmt.Sprint(v), "0 (off) or a number of seconds")
		}
	}
	if _, err := netip.ParseAddr(s.BindAddress); err != nil {
		refuse("ROUSE_BIND_ADDRESS", s.BindAddress, "an IP address")
	}
	if _, err := s.protocol(); err != nil {
		refuse("ROUSE_USER_PROTOCOL", s.UserProtocol, "h1 or h2c")
	}
	return s, config.Join(faults)
}

func (s *settings) protocol() (endpoint.Protocol, error) {
	switch strings.ToLower(s.UserProtocol) {
	case "h1", "http1":
		return endpoint.H1, nil
	case "h2c":
		return endpoint.H2C, nil
	}
	return 0, fmt.Errorf("unknown protocol %q", s.UserProtocol)
}

func (s *settings) address(port uint16) string {
	return netip.AddrPortFrom(netip.MustParseAddr(s.BindAddress), port).String()
}

// grace is how long a drain may take: the pod's grace period is the request timeout.
func (s *settings) grace() time.Duration {
	if s.DrainMaximum > 0 {
		return s.DrainMaximum
	}
	return time.Duration(max(s.TimeoutSeconds, 1)) * time.Second
}

func (s *settings) sidecar() queueproxy.SidecarConfig {
	protocol, _ := s.protocol() // load has checked it
	return queueproxy.SidecarConfig{
		Proxy: queueproxy.Config{
			Revision:             identity.Revision{Namespace: s.Namespace, Name: s.Revision, UID: s.RevisionUID},
			Pod:                  s.Pod,
			ContainerConcurrency: s.ContainerConcurrency,
			Timeouts: forward.Timeouts{
				Total:     time.Duration(s.TimeoutSeconds) * time.Second,
				FirstByte: time.Duration(s.ResponseStartSeconds) * time.Second,
				Idle:      time.Duration(s.IdleSeconds) * time.Second,
			},
			App: netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), s.UserPort),
		},
		Protocol: protocol,
		Drain: lifecycle.DrainConfig{
			Minimum: max(s.DrainMinimum, time.Nanosecond), // 0 asks for none, the zero value for the default
			Quiet:   max(s.DrainQuiet, time.Nanosecond),
			Grace:   max(s.grace(), s.DrainMinimum),
		},
	}
}

func (s *settings) labels() queueproxy.Labels {
	return queueproxy.Labels{Namespace: s.Namespace, Service: s.Service, Configuration: s.Configuration, Revision: s.Revision, Pod: s.Pod}
}
