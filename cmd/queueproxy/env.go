package main

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rousehq/rouse/internal/config"
	"github.com/rousehq/rouse/internal/endpoint"
	"github.com/rousehq/rouse/internal/forward"
	"github.com/rousehq/rouse/internal/identity"
	"github.com/rousehq/rouse/internal/lifecycle"
	"github.com/rousehq/rouse/queueproxy"
	"github.com/rousehq/rouse/queueproxy/readiness"
	"github.com/rousehq/rouse/queueproxy/servingtls"
)

// settings are the environment of the sidecar. Names without ROUSE_ are Knative's, of both generations; those that are
// accepted without effect are in [ignored].
type settings struct {
	ContainerConcurrency int    `env:"CONTAINER_CONCURRENCY,required"`
	ServingPort          uint16 `env:"QUEUE_SERVING_PORT,required"`
	ServingTLSPort       uint16 `env:"QUEUE_SERVING_TLS_PORT" envDefault:"8112"`
	UserPort             uint16 `env:"USER_PORT,required"`
	TimeoutSeconds       int    `env:"REVISION_TIMEOUT_SECONDS,required"`
	ResponseStartSeconds int    `env:"REVISION_RESPONSE_START_TIMEOUT_SECONDS"`
	IdleSeconds          int    `env:"REVISION_IDLE_TIMEOUT_SECONDS"`
	ReadinessProbe       string `env:"SERVING_READINESS_PROBE"`
	DetectHTTP2          bool   `env:"ENABLE_HTTP2_AUTO_DETECTION"`

	Namespace     string `env:"SERVING_NAMESPACE,required"`
	Service       string `env:"SERVING_SERVICE"`
	Configuration string `env:"SERVING_CONFIGURATION,required"`
	Revision      string `env:"SERVING_REVISION,required"`
	Pod           string `env:"SERVING_POD,required"`
	PodIP         string `env:"SERVING_POD_IP,required"`

	LoggingConfig      string `env:"SERVING_LOGGING_CONFIG"`
	LoggingLevel       string `env:"SERVING_LOGGING_LEVEL"`
	RequestLog         bool   `env:"SERVING_ENABLE_REQUEST_LOG"`
	RequestLogTemplate string `env:"SERVING_REQUEST_LOG_TEMPLATE"`
	ProbeRequestLog    bool   `env:"SERVING_ENABLE_PROBE_REQUEST_LOG"`
	Profiling          bool   `env:"ENABLE_PROFILING"`
	Observability      string `env:"OBSERVABILITY_CONFIG"`
	MetricsBackend     string `env:"SERVING_REQUEST_METRICS_BACKEND" envDefault:"prometheus"`

	TLSMinVersion string `env:"QUEUE_PROXY_TLS_MIN_VERSION"`
	TLSMaxVersion string `env:"QUEUE_PROXY_TLS_MAX_VERSION"`
	TLSCiphers    string `env:"QUEUE_PROXY_TLS_CIPHER_SUITES"`
	TLSCurves     string `env:"QUEUE_PROXY_TLS_CURVE_PREFERENCES"`

	ReadinessPaced bool `env:"ROUSE_READINESS_PACED"`
	WholeTimeout   bool `env:"ROUSE_WHOLE_TIMEOUT"`

	RevisionUID  string        `env:"ROUSE_REVISION_UID"`
	BindAddress  string        `env:"ROUSE_BIND_ADDRESS" envDefault:"::"`
	UserProtocol string        `env:"ROUSE_USER_PROTOCOL"`
	AdminPort    uint16        `env:"ROUSE_ADMIN_PORT" envDefault:"8022"`
	StatsPort    uint16        `env:"ROUSE_STATS_PORT" envDefault:"9090"`
	MetricsPort  uint16        `env:"ROUSE_METRICS_PORT" envDefault:"9091"`
	ProfilePort  uint16        `env:"ROUSE_PROFILE_PORT" envDefault:"8008"`
	CertDir      string        `env:"ROUSE_CERT_DIR" envDefault:"/var/lib/knative/certs"`
	StatsURL     string        `env:"ROUSE_STATS_URL"`
	StatsToken   string        `env:"ROUSE_STATS_TOKEN"`
	TokenFile    string        `env:"ROUSE_STATS_TOKEN_FILE"`
	AppPID       int           `env:"ROUSE_APP_PID"`
	AppCgroup    string        `env:"ROUSE_APP_CGROUP"`
	DrainMinimum time.Duration `env:"ROUSE_DRAIN_MINIMUM" envDefault:"5s"`
	DrainQuiet   time.Duration `env:"ROUSE_DRAIN_QUIET" envDefault:"2s"`
	DrainMaximum time.Duration `env:"ROUSE_DRAIN_MAXIMUM"`
	NotifySocket string        `env:"NOTIFY_SOCKET"`

	probes []readiness.Probe // of ReadinessProbe
}

// ignored lists the variables that Knative sets and that need nothing here, each with the reason.
func ignored() map[string]string {
	return map[string]string{
		"SERVING_REQUEST_METRICS_REPORTING_PERIOD_SECONDS": "metrics are read when they are scraped",
		"METRICS_COLLECTOR_ADDRESS":                        "for the push of OpenCensus, which is retired",
		"METRICS_DOMAIN":                                   "a prefix of retired metric backends; Prometheus names never had it",
		"TRACING_CONFIG_BACKEND":                           "trace headers pass unchanged; the sidecar reports no spans of its own",
		"TRACING_CONFIG_DEBUG":                             "trace headers pass unchanged; the sidecar reports no spans of its own",
		"TRACING_CONFIG_SAMPLE_RATE":                       "trace headers pass unchanged; the sidecar reports no spans of its own",
		"TRACING_CONFIG_ZIPKIN_ENDPOINT":                   "trace headers pass unchanged; the sidecar reports no spans of its own",
		"ENABLE_HTTP_FULL_DUPLEX":                          "HTTP/1 is always full duplex",
		"ENABLE_MULTI_CONTAINER_PROBES":                    "whether SERVING_READINESS_PROBE is one probe or a list is seen in its JSON",
		"SYSTEM_NAMESPACE":                                 "nothing is read from the cluster",
		"HOST_IP":                                          "an address of the node for Zipkin agents; no spans are reported",
		"ROOT_CA":                                          "for plug-ins that are compiled into Knative's queue-proxy; the sidecar calls nobody over TLS",
	}
}

// sayIgnored logs, for whoever wonders, which variables have no effect.
func sayIgnored(environ []string, log *slog.Logger) {
	reasons := ignored()
	for _, e := range environ {
		name, value, _ := strings.Cut(e, "=")
		if reason, ok := reasons[name]; ok && value != "" {
			log.Debug("a variable has no effect", "name", name, "value", value, "reason", reason)
		}
	}
	for _, name := range config.ServiceLinks(environ, &settings{}) {
		log.Info("a variable is not set: kubelet names a Service of this namespace by it", "name", name)
	}
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
	seconds := map[string]int{"REVISION_TIMEOUT_SECONDS": s.TimeoutSeconds,
		"REVISION_RESPONSE_START_TIMEOUT_SECONDS": s.ResponseStartSeconds, "REVISION_IDLE_TIMEOUT_SECONDS": s.IdleSeconds}
	for _, key := range slices.Sorted(maps.Keys(seconds)) {
		if v := seconds[key]; v < 0 {
			refuse(key, strconv.Itoa(v), "0 (off) or a number of seconds")
		}
	}
	if _, err := netip.ParseAddr(s.BindAddress); err != nil {
		refuse("ROUSE_BIND_ADDRESS", s.BindAddress, "an IP address")
	}
	if _, _, err := s.protocol(); err != nil {
		refuse("ROUSE_USER_PROTOCOL", s.UserProtocol, "h1, h2c, or empty for the protocol of each request")
	}
	if s.AppPID < 0 {
		refuse("ROUSE_APP_PID", strconv.Itoa(s.AppPID), "the number of the application's process")
	}
	if s.AppCgroup != "" && s.AppPID > 0 {
		refuse("ROUSE_APP_CGROUP", s.AppCgroup, "empty when ROUSE_APP_PID is set: one of the two is measured")
	}
	s.observability(refuse)
	s.ports(refuse)
	if s.ReadinessProbe != "" {
		probes, err := readiness.Decode(s.ReadinessProbe, s.UserPort)
		if err != nil {
			refuse("SERVING_READINESS_PROBE", s.ReadinessProbe, "a Kubernetes probe or a list of them in JSON: "+err.Error())
		}
		s.probes = probes
	}
	if _, err := s.tls().Config(nil); err != nil {
		refuse("QUEUE_PROXY_TLS_*", "", err.Error())
	}
	return s, config.Join(faults)
}

// ports refuses to serve two things on one port: what is for operators must never be reachable by clients.
func (s *settings) ports(refuse func(key, value, allowed string)) {
	taken := make(map[uint16]string)
	for _, p := range []struct {
		key  string
		port uint16
	}{
		{"QUEUE_SERVING_PORT", s.ServingPort}, {"USER_PORT", s.UserPort}, {"ROUSE_ADMIN_PORT", s.AdminPort},
		{"ROUSE_STATS_PORT", s.StatsPort}, {"ROUSE_METRICS_PORT", s.metricsPort()},
		{"ROUSE_PROFILE_PORT", s.profilePort()}, {"QUEUE_SERVING_TLS_PORT", s.tlsPort()},
	} {
		if p.port == 0 {
			continue // not opened, or any free one
		}
		if other, ok := taken[p.port]; ok {
			refuse(p.key, strconv.Itoa(int(p.port)), "a port of its own: "+other+" has this one")
			continue
		}
		taken[p.port] = p.key
	}
}

// measured says whether there is a page of metrics. With Knative's other backends its queue-proxy opens no port for one, and
// another container of the pod may have it.
func (s *settings) measured() bool { return s.MetricsBackend == "prometheus" }

// metricsPort, profilePort and tlsPort are 0 when nothing is served there.
func (s *settings) metricsPort() uint16 {
	if s.measured() {
		return s.MetricsPort
	}
	return 0
}

func (s *settings) profilePort() uint16 {
	if s.Profiling {
		return s.ProfilePort
	}
	return 0
}

func (s *settings) tlsPort() uint16 {
	if _, _, mounted := s.certificate(); mounted {
		return s.ServingTLSPort
	}
	return 0
}

// certificate returns the files of the serving certificate, and whether both are there.
func (s *settings) certificate() (cert, key string, mounted bool) {
	cert, key = filepath.Join(s.CertDir, "tls.crt"), filepath.Join(s.CertDir, "tls.key")
	for _, name := range []string{cert, key} {
		if _, err := os.Stat(name); errors.Is(err, os.ErrNotExist) {
			return cert, key, false
		}
	}
	return cert, key, true
}

// protocol returns what the application speaks, and whether the protocol of the request decides.
func (s *settings) protocol() (p endpoint.Protocol, follow bool, err error) {
	switch strings.ToLower(s.UserProtocol) {
	case "":
		return endpoint.H1, true, nil
	case "h1", "http1":
		return endpoint.H1, false, nil
	case "h2c":
		return endpoint.H2C, false, nil
	}
	return 0, false, fmt.Errorf("unknown protocol %q", s.UserProtocol)
}

func (s *settings) tls() servingtls.Options {
	return servingtls.Options{MinVersion: s.TLSMinVersion, MaxVersion: s.TLSMaxVersion, CipherSuites: s.TLSCiphers, CurvePreferences: s.TLSCurves}
}

func (s *settings) address(port uint16) string {
	return netip.AddrPortFrom(netip.MustParseAddr(s.BindAddress), port).String()
}

// grace is how long a drain may take: the pod's grace period is the request timeout.
func (s *settings) grace() time.Duration {
	if s.DrainMaximum > 0 {
		return s.DrainMaximum
	}
	return max(time.Duration(max(s.TimeoutSeconds, 1))*time.Second, s.DrainMinimum)
}

func (s *settings) sidecar() queueproxy.SidecarConfig {
	protocol, follow, _ := s.protocol() // load has checked it
	return queueproxy.SidecarConfig{
		Proxy: queueproxy.Config{
			Revision:             identity.Revision{Namespace: s.Namespace, Name: s.Revision, UID: s.RevisionUID},
			Pod:                  s.Pod,
			ContainerConcurrency: s.ContainerConcurrency,
			Timeouts: forward.Timeouts{
				Total:     time.Duration(s.TimeoutSeconds) * time.Second,
				Streams:   !s.WholeTimeout,
				FirstByte: time.Duration(s.ResponseStartSeconds) * time.Second,
				Idle:      time.Duration(s.IdleSeconds) * time.Second,
			},
			App: netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), s.UserPort),
		},
		Protocol:       protocol,
		FollowProtocol: follow,
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
