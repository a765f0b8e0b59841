package readiness

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Kind is how a probe asks.
type Kind uint8

// The kinds of a probe.
const (
	TCP  Kind = iota // the port takes a connection
	HTTP             // GET is answered 200 to 399
	GRPC             // grpc.health.v1.Health/Check answers SERVING
)

// minTimeout is Kubernetes' least timeout of a probe, usualFailures its default of failureThreshold.
const (
	minTimeout    = time.Second
	usualFailures = 3
)

// Header is one HTTP header that a probe sends.
type Header struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Probe is one thing that must succeed for the pod to be ready.
type Probe struct {
	Kind    Kind
	Address string // host:port
	// Scheme, Path and Headers are for HTTP probes. Scheme is http or https; certificates are not verified.
	Scheme, Path string
	Headers      []Header
	// Service is what a gRPC probe asks about, usually empty.
	Service string
	// Patient makes a run try again until the probe succeeds. Otherwise the application is asked once, within Timeout:
	// connections that it refuses in that time are no answers.
	Patient bool
	Timeout time.Duration
	// SuccessThreshold is how often in a row a patient or a paced probe must succeed, at least 1.
	SuccessThreshold int
	// Period and FailureThreshold are for paced probes: see [Config].
	Period           time.Duration
	FailureThreshold int
}

// wire is a Kubernetes Probe; what is not listed has no meaning here.
type wire struct {
	HTTPGet *struct {
		Path    string   `json:"path"`
		Port    port     `json:"port"`
		Host    string   `json:"host"`
		Scheme  string   `json:"scheme"`
		Headers []Header `json:"httpHeaders"`
	} `json:"httpGet"`
	TCPSocket *struct {
		Port port   `json:"port"`
		Host string `json:"host"`
	} `json:"tcpSocket"`
	GRPC *struct {
		Port    port   `json:"port"`
		Service string `json:"service"`
	} `json:"grpc"`
	Exec             *struct{} `json:"exec"`
	TimeoutSeconds   int       `json:"timeoutSeconds"`
	PeriodSeconds    int       `json:"periodSeconds"`
	SuccessThreshold int       `json:"successThreshold"`
	FailureThreshold int       `json:"failureThreshold"`
}

// port is a number, or the name of one: the application has a single named port, the one that requests go to.
type port int

// UnmarshalJSON implements json.Unmarshaler.
func (p *port) UnmarshalJSON(b []byte) error {
	var n int
	if json.Unmarshal(b, &n) == nil {
		*p = port(n)
		return nil
	}
	var name string
	if err := json.Unmarshal(b, &name); err != nil {
		return fmt.Errorf("port = %s: must be a number or a name", b)
	}
	if n, err := strconv.Atoi(name); err == nil {
		*p = port(n)
	}
	return nil // a name: 0 stands for the application's port
}

// Decode reads one probe or a list of probes; nulls in a list are containers without one. Ports that are not given are
// userPort. Every fault is reported, each with the field's path.
func Decode(raw string, userPort uint16) ([]Probe, error) {
	var list []*wire
	var err error
	if text := bytes.TrimSpace([]byte(raw)); len(text) > 0 && text[0] == '[' {
		err = json.Unmarshal(text, &list)
	} else {
		list = make([]*wire, 1)
		err = json.Unmarshal(text, &list[0])
	}
	if err != nil {
		return nil, fmt.Errorf("not a Kubernetes probe in JSON: %w", err)
	}
	var probes []Probe
	var faults []error
	for i, w := range list {
		if w == nil {
			continue
		}
		p, err := w.probe(int(userPort))
		if err != nil {
			faults = append(faults, fmt.Errorf("probe %d: %w", i, err))
		}
		probes = append(probes, p)
	}
	return probes, errors.Join(faults...)
}

// probe checks what was read and fills in Kubernetes' defaults.
func (w *wire) probe(userPort int) (Probe, error) {
	p := Probe{
		Patient:          w.PeriodSeconds == 0,
		Timeout:          max(minTimeout, time.Duration(w.TimeoutSeconds)*time.Second),
		SuccessThreshold: max(1, w.SuccessThreshold),
		Period:           time.Duration(w.PeriodSeconds) * time.Second,
		FailureThreshold: cmp.Or(w.FailureThreshold, usualFailures),
	}
	var faults []error
	for name, n := range map[string]int{"timeoutSeconds": w.TimeoutSeconds, "periodSeconds": w.PeriodSeconds, "successThreshold": w.SuccessThreshold, "failureThreshold": w.FailureThreshold} {
		if n < 0 || n > 1<<31-1 {
			faults = append(faults, fmt.Errorf("%s = %d: must be from 0 to 2147483647", name, n))
		}
	}
	host, at, kinds := "", port(0), 0
	if g := w.HTTPGet; g != nil {
		kinds++
		p.Kind, p.Headers, host, at = HTTP, g.Headers, g.Host, g.Port
		p.Path = "/" + strings.TrimPrefix(g.Path, "/")
		if p.Scheme = strings.ToLower(g.Scheme); p.Scheme == "" {
			p.Scheme = "http"
		}
		if p.Scheme != "http" && p.Scheme != "https" {
			faults = append(faults, fmt.Errorf("httpGet.scheme = %q: must be HTTP or HTTPS", g.Scheme))
		}
	}
	if t := w.TCPSocket; t != nil {
		kinds++
		p.Kind, host, at = TCP, t.Host, t.Port
	}
	if g := w.GRPC; g != nil {
		kinds++
		p.Kind, p.Service, at = GRPC, g.Service, g.Port
	}
	if w.Exec != nil {
		kinds++
		p.Kind = TCP
	}
	if kinds != 1 {
		faults = append(faults, fmt.Errorf("has %d of httpGet, tcpSocket, grpc and exec: must have one", kinds))
	}
	if at == 0 {
		at = port(userPort)
	}
	if at < 1 || at > 65535 {
		faults = append(faults, fmt.Errorf("port = %d: must be from 1 to 65535", at))
	}
	if host == "" {
		host = "127.0.0.1"
	}
	p.Address = joinHostPort(host, int(at))
	return p, errors.Join(faults...)
}

func joinHostPort(host string, port int) string {
	if strings.Contains(host, ":") {
		host = "[" + strings.Trim(host, "[]") + "]"
	}
	return host + ":" + strconv.Itoa(port)
}
