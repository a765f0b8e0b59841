package main

import (
	"net"
	"os"
	"strconv"
	"time"

	"github.com/rousehq/rouse/internal/config"
	"github.com/rousehq/rouse/internal/portalloc"
)

// settings are the environment of control. Names without ROUSE_ are those of Knative's autoscaler.
type settings struct {
	PodName    string `env:"POD_NAME"`
	PodIP      string `env:"POD_IP"`
	Namespace  string `env:"SYSTEM_NAMESPACE" envDefault:"rouse-system"`
	Settings   string `env:"CONFIG_AUTOSCALER_NAME" envDefault:"config-autoscaler"`
	Kubeconfig string `env:"KUBECONFIG"`

	StatsListen  string        `env:"ROUSE_STATS_LISTEN" envDefault:":8080"`
	AssignListen string        `env:"ROUSE_ASSIGN_LISTEN" envDefault:":8081"`
	AdminListen  string        `env:"ROUSE_ADMIN_LISTEN" envDefault:":9090"`
	Token        string        `env:"ROUSE_TOKEN"`
	TokenSecret  string        `env:"ROUSE_TOKEN_SECRET"`
	Audience     string        `env:"ROUSE_TOKEN_AUDIENCE"`
	PortBook     string        `env:"ROUSE_PORTS_CONFIGMAP" envDefault:"rouse-ports"`
	Ports        string        `env:"ROUSE_ACTIVATOR_PORTS" envDefault:"20000-29999"`
	Buckets      int           `env:"ROUSE_BUCKETS" envDefault:"16"`
	PerSlice     int           `env:"ROUSE_ENDPOINTS_PER_SLICE" envDefault:"100"`
	Period       time.Duration `env:"ROUSE_DECISION_PERIOD" envDefault:"2s"`
	Grace        time.Duration `env:"ROUSE_GRACE" envDefault:"10s"`
	LogLevel     string        `env:"ROUSE_LOG_LEVEL" envDefault:"info"`
	LogFormat    string        `env:"ROUSE_LOG_FORMAT" envDefault:"json"`
	Profiles     bool          `env:"ENABLE_PROFILING"`

	ports portalloc.Range
}

// load reads the environment and reports every fault of it at once.
func load(environ []string) (settings, error) {
	var s settings
	faults := config.FromEnviron(environ, &s)
	refuse := func(key, value, allowed string) {
		faults = append(faults, config.Fault{Key: key, Value: value, Allowed: allowed})
	}
	var err error
	if s.ports, err = portalloc.ParseRange(s.Ports); err != nil {
		refuse("ROUSE_ACTIVATOR_PORTS", s.Ports, "a range of ports: "+err.Error())
	}
	if s.Buckets < 1 || s.Buckets > 256 {
		refuse("ROUSE_BUCKETS", strconv.Itoa(s.Buckets), "1 to 256, the same for all instances")
	}
	if s.PerSlice < 1 || s.PerSlice > 1000 {
		refuse("ROUSE_ENDPOINTS_PER_SLICE", strconv.Itoa(s.PerSlice), "1 to 1000")
	}
	if s.Token != "" && s.TokenSecret != "" {
		refuse("ROUSE_TOKEN_SECRET", s.TokenSecret, "nothing beside ROUSE_TOKEN: give one of the two")
	}
	for key, addr := range map[string]string{"ROUSE_STATS_LISTEN": s.StatsListen, "ROUSE_ASSIGN_LISTEN": s.AssignListen, "ROUSE_ADMIN_LISTEN": s.AdminListen} {
		if _, _, err := net.SplitHostPort(addr); err != nil {
			refuse(key, addr, "HOST:PORT, such as :8080")
		}
	}
	if s.PodName == "" {
		s.PodName, _ = os.Hostname() // a name is all that is needed
	}
	return s, config.Join(faults)
}

// peerAddress is where other instances reach this one's stats listener; empty when it has no address of its own.
func (s *settings) peerAddress() string {
	_, port, _ := net.SplitHostPort(s.StatsListen)
	if s.PodIP == "" || port == "" {
		return ""
	}
	return net.JoinHostPort(s.PodIP, port)
}
