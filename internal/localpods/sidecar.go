package localpods

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"strconv"
	"time"
)

// sidecar is a pod's queue-proxy, or the absence of one.
type sidecar interface {
	// addr is where the pod's callers connect.
	addr() netip.AddrPort
	// listening is true once callers can connect.
	listening(pr *prober) bool
	// exited is closed when the sidecar ended by itself; nil when it cannot.
	exited() <-chan struct{}
	// draining is closed when the sidecar was told to drain by somebody else; nil when it cannot be.
	draining() <-chan struct{}
	// drain refuses new requests and blocks until the present ones are done or ctx is; then the sidecar is gone.
	drain(ctx context.Context) error
}

// startSidecar starts what the revision asks for. It does not wait until it listens.
func (p *pod) startSidecar(app netip.AddrPort) (sidecar, error) {
	info := SidecarPod{Spec: p.spec, UID: p.uid, PID: p.app.pid, App: app}
	switch p.spec.Sidecar {
	case SidecarInProcess:
		return startInProcess(p.g.r.deps.InProcess, info)
	case SidecarProcess:
		return p.startQueueProxy(info)
	default:
		return noSidecar{app}, nil
	}
}

// noSidecar stands for a pod that callers reach directly.
type noSidecar struct{ app netip.AddrPort }

func (n noSidecar) addr() netip.AddrPort        { return n.app }
func (n noSidecar) listening(*prober) bool      { return true }
func (n noSidecar) exited() <-chan struct{}     { return nil }
func (n noSidecar) draining() <-chan struct{}   { return nil }
func (n noSidecar) drain(context.Context) error { return nil }

// inProcess is a queue-proxy handler inside this process.
type inProcess struct {
	at   netip.AddrPort
	stop func(context.Context) error
}

func startInProcess(starter InProcessSidecar, pod SidecarPod) (sidecar, error) {
	at, stop, err := starter.StartInProcess(pod)
	if err != nil {
		return nil, fmt.Errorf("start queue-proxy: %w", err)
	}
	return inProcess{at, stop}, nil
}

func (s inProcess) addr() netip.AddrPort            { return s.at }
func (s inProcess) listening(*prober) bool          { return true }
func (s inProcess) exited() <-chan struct{}         { return nil }
func (s inProcess) draining() <-chan struct{}       { return nil }
func (s inProcess) drain(ctx context.Context) error { return s.stop(ctx) }

func loopback(port uint16) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port)
}

// knativeEnv returns the variables that Knative gives its queue-proxy (pkg/reconciler/revision/resources/queue.go).
func knativeEnv(pod SidecarPod, ports SidecarPorts) []string {
	s := pod.Spec
	seconds := func(d time.Duration) string { return strconv.FormatInt(int64((d+time.Second-1)/time.Second), 10) }
	return []string{
		"CONTAINER_CONCURRENCY=" + strconv.Itoa(s.ContainerConcurrency),
		"QUEUE_SERVING_PORT=" + strconv.Itoa(int(ports.Serving)),
		"USER_PORT=" + strconv.Itoa(int(pod.App.Port())),
		"REVISION_TIMEOUT_SECONDS=" + seconds(s.Timeout), "ROUSE_WHOLE_TIMEOUT=true",
		"REVISION_RESPONSE_START_TIMEOUT_SECONDS=" + seconds(s.ResponseStartTimeout),
		"REVISION_IDLE_TIMEOUT_SECONDS=" + seconds(s.IdleTimeout),
		"SERVING_NAMESPACE=" + s.Revision.Namespace,
		"SERVING_SERVICE=" + s.Service,
		"SERVING_CONFIGURATION=" + s.Configuration,
		"SERVING_REVISION=" + s.Revision.Name,
		"SERVING_POD=" + pod.UID,
		"SERVING_POD_IP=127.0.0.1",
		"SERVING_READINESS_PROBE=" + probeJSON(&s.Readiness, pod.App.Port()),
		"SERVING_LOGGING_CONFIG=",
		"SERVING_LOGGING_LEVEL=",
		"OBSERVABILITY_CONFIG={}",
	}
}

// probeJSON writes a probe as Kubernetes encodes it.
func probeJSON(p *Probe, port uint16) string {
	type header struct {
		Name  string `json:"name"`
		Value string `json:"value"`
	}
	type action struct {
		Path    string   `json:"path,omitempty"`
		Port    uint16   `json:"port"`
		Host    string   `json:"host"`
		Scheme  string   `json:"scheme,omitempty"`
		Headers []header `json:"httpHeaders,omitempty"`
	}
	out := struct {
		HTTPGet          *action `json:"httpGet,omitempty"`
		TCPSocket        *action `json:"tcpSocket,omitempty"`
		SuccessThreshold int     `json:"successThreshold"`
	}{SuccessThreshold: max(p.SuccessThreshold, 1)}
	if p.HTTP {
		out.HTTPGet = &action{Path: p.path(), Port: port, Host: "127.0.0.1", Scheme: "HTTP"}
		for name, values := range p.Headers {
			for _, v := range values {
				out.HTTPGet.Headers = append(out.HTTPGet.Headers, header{name, v})
			}
		}
		if p.Host != "" {
			out.HTTPGet.Headers = append(out.HTTPGet.Headers, header{"Host", p.Host})
		}
	} else {
		out.TCPSocket = &action{Port: port, Host: "127.0.0.1"}
	}
	b, err := json.Marshal(out)
	if err != nil {
		panic("localpods: probe of plain strings does not encode: " + err.Error())
	}
	return string(b)
}
