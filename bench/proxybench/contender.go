//go:build linux

package proxybench

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

// Ports inside an arena. Knative fixes those of its queue-proxy's admin and metrics servers.
const (
	proxyPort   = 8012
	backendPort = 8080
	adminPort   = 8022
	metricsPort = 9091
)

// place is where a contender runs: its files, where it listens, and what it forwards to.
type place struct {
	dir            string
	proxy, backend netip.AddrPort
}

func loopback(port uint16) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port)
}

// contender is one proxy to be measured.
type contender struct {
	Name    string
	Version string
	Hash    string // of the binary
	ours    bool   // must pass the fidelity check, and shows its configuration
	direct  bool   // no proxy but another backend, on the backend's core: what the others add to
	command func(place) (command, error)
	// proxies finds the processes that count among those that the contender has started; nil when it is one.
	proxies func(tree []int) ([]int, error)
}

// recipe makes a contender; it builds or finds the binary.
type recipe struct {
	name string
	make func(ctx context.Context, b *builder, limit int) (contender, error)
}

// recipes in the order of a round.
func recipes() []recipe {
	return []recipe{
		{"rouse", makeRouse},
		{"series", makeSeries},
		{"knative", makeKnative},
		{"haproxy", makeHAProxy},
		{"nginx", makeNginx},
		{"reverseproxy", makeReverseProxy},
	}
}

// chosen makes the contenders that names lists, or all.
func chosen(ctx context.Context, names []string, b *builder, limit int) ([]contender, error) {
	all := recipes()
	for _, n := range names {
		if !slices.ContainsFunc(all, func(r recipe) bool { return r.name == n }) {
			return nil, fmt.Errorf("--contenders: there is no %q", n)
		}
	}
	var out []contender
	for _, r := range all {
		if len(names) > 0 && !slices.Contains(names, r.name) {
			continue
		}
		c, err := r.make(ctx, b, limit)
		if err != nil {
			return nil, fmt.Errorf("contender %s: %w", r.name, err)
		}
		out = append(out, c)
	}
	return out, nil
}

// direct is what latency is without a proxy.
func direct(backendPath string) contender {
	return contender{Name: "direct", direct: true, command: func(at place) (command, error) {
		return backendAt(backendPath, at.proxy), nil
	}}
}

func backendAt(path string, addr netip.AddrPort) command {
	return command{path: path, args: []string{"-listen", addr.String()}, env: []string{"GOMAXPROCS=1"}}
}

// withBinary fills what follows from a binary's path.
func withBinary(c contender, path string, cmd func(place) (command, error)) (contender, error) {
	hash, err := fileHash(path)
	c.Hash, c.command = hash, cmd
	return c, err
}

// queueEnv is the environment that Knative's controller gives to a queue-proxy.
func queueEnv(limit int, at place) []string {
	return []string{
		"GOMAXPROCS=1",
		"CONTAINER_CONCURRENCY=" + strconv.Itoa(limit),
		fmt.Sprint("QUEUE_SERVING_PORT=", at.proxy.Port()), "QUEUE_SERVING_TLS_PORT=8112", fmt.Sprint("USER_PORT=", at.backend.Port()),
		"REVISION_TIMEOUT_SECONDS=300", "REVISION_RESPONSE_START_TIMEOUT_SECONDS=300", "REVISION_IDLE_TIMEOUT_SECONDS=0",
		"SERVING_NAMESPACE=default", "SERVING_SERVICE=bench", "SERVING_CONFIGURATION=bench", "SERVING_REVISION=bench-00001",
		"SERVING_POD=bench-00001-deployment-0", "SERVING_POD_IP=127.0.0.1",
		"SERVING_LOGGING_CONFIG=", "SERVING_LOGGING_LEVEL=",
		"SERVING_REQUEST_METRICS_BACKEND=prometheus", "SERVING_REQUEST_METRICS_REPORTING_PERIOD_SECONDS=5",
		"METRICS_DOMAIN=knative.dev/internal/serving", "SYSTEM_NAMESPACE=knative-serving",
	}
}

func makeRouse(ctx context.Context, b *builder, limit int) (contender, error) {
	path, err := b.ours(ctx, "cmd/queueproxy")
	if err != nil {
		return contender{}, err
	}
	return withBinary(contender{Name: "rouse", Version: "source tree, " + runtime.Version(), ours: true}, path,
		func(at place) (command, error) { return command{path: path, env: queueEnv(limit, at)}, nil })
}

func makeKnative(ctx context.Context, b *builder, limit int) (contender, error) {
	path, err := b.knative(ctx)
	if err != nil {
		return contender{}, err
	}
	version, err := knativeVersion(b.source)
	if err != nil {
		return contender{}, err
	}
	return withBinary(contender{Name: "knative", Version: version}, path,
		func(at place) (command, error) { return command{path: path, env: queueEnv(limit, at)}, nil })
}

func knativeVersion(source string) (string, error) {
	mod, err := os.ReadFile(filepath.Join(source, "bench", "peers", "go.mod"))
	if err != nil {
		return "", err
	}
	_, after, ok := strings.Cut(string(mod), "knative.dev/serving v")
	if !ok {
		return "", fmt.Errorf("bench/peers/go.mod does not require knative.dev/serving")
	}
	return strings.Fields(after)[0] + ", " + runtime.Version(), nil
}

func makeReverseProxy(ctx context.Context, b *builder, _ int) (contender, error) {
	path, err := b.ours(ctx, "bench/cmd/reverseproxy")
	if err != nil {
		return contender{}, err
	}
	return withBinary(contender{Name: "reverseproxy", Version: "net/http/httputil, " + runtime.Version()}, path,
		func(at place) (command, error) {
			args := []string{"-listen", at.proxy.String(), "-backend", at.backend.String()}
			return command{path: path, args: args, env: []string{"GOMAXPROCS=1"}}, nil
		})
}

func makeHAProxy(ctx context.Context, _ *builder, _ int) (contender, error) {
	path, err := installed("haproxy")
	if err != nil {
		return contender{}, err
	}
	version, err := printedVersion(ctx, path, "-v", "ersion ")
	if err != nil {
		return contender{}, err
	}
	return withBinary(contender{Name: "haproxy", Version: version}, path, func(at place) (command, error) {
		file := filepath.Join(at.dir, "haproxy.cfg")
		text := fmt.Sprintf(haproxyConfig, at.proxy, at.backend)
		return command{path: path, args: []string{"-db", "-f", file}}, os.WriteFile(file, []byte(text), 0o644)
	})
}

func makeNginx(ctx context.Context, _ *builder, _ int) (contender, error) {
	path, err := installed("nginx")
	if err != nil {
		return contender{}, err
	}
	version, err := printedVersion(ctx, path, "-v", "nginx/")
	if err != nil {
		return contender{}, err
	}
	return withBinary(contender{Name: "nginx", Version: version}, path, func(at place) (command, error) {
		file := filepath.Join(at.dir, "nginx.conf")
		text := strings.NewReplacer("LISTEN", at.proxy.String(), "BACKEND", at.backend.String(), "DIR", at.dir).Replace(nginxConfig)
		return command{path: path, args: []string{"-c", file, "-p", at.dir, "-e", filepath.Join(at.dir, "error.log")}}, os.WriteFile(file, []byte(text), 0o644)
	})
}

// One thread, and upstream connections shared by all clients.
const haproxyConfig = `global
  nbthread 1
  maxconn 4500
defaults
  mode http
  option forwardfor
  http-reuse always
  timeout connect 1s
  timeout client 300s
  timeout server 300s
frontend in
  bind %s backlog 4096
  default_backend app
backend app
  server app %s
`

// One process, and upstream connections kept open without a limit on their requests.
const nginxConfig = `daemon off;
master_process off;
pid DIR/nginx.pid;
error_log DIR/error.log crit;
events { worker_connections 8192; }
http {
  access_log off;
  keepalive_requests 1000000000;
  keepalive_timeout 300s;
  client_body_temp_path DIR/body;
  proxy_temp_path DIR/proxy;
  fastcgi_temp_path DIR/fastcgi;
  uwsgi_temp_path DIR/uwsgi;
  scgi_temp_path DIR/scgi;
  upstream app { server BACKEND; keepalive 1024; keepalive_requests 1000000000; }
  server {
    listen LISTEN backlog=4096;
    location / {
      proxy_pass http://app;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $http_host;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_read_timeout 300s;
    }
  }
}
`
