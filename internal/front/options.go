package front

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/rousehq/rouse/activator/podtls"
	"github.com/rousehq/rouse/internal/cmdline"
	"github.com/rousehq/rouse/internal/config"
	"github.com/rousehq/rouse/internal/lifecycle"
)

// Options are what an activator process is asked for, by its environment and by flags, which win. The flags have the
// names of the variables: ROUSE_QUEUE_TOTAL is --queue-total.
type Options struct {
	// Listen are the addresses where requests come in and are routed by host; TLSListen are encrypted ones, with the
	// certificate and key of CertDir (tls.crt, tls.key).
	Listen    []string `env:"ROUSE_LISTEN" envDefault:":8080"`
	TLSListen []string `env:"ROUSE_TLS_LISTEN"`
	CertDir   string   `env:"ROUSE_CERT_DIR"`
	// PodsCAFile holds the authorities of pods that speak TLS, PodsCertFile and PodsKeyFile the activator's own
	// certificate towards them, PodsName the subject alternative name that they must have; empty for Knative's.
	PodsCAFile   string `env:"ROUSE_PODS_CA_FILE"`
	PodsCertFile string `env:"ROUSE_PODS_CERT_FILE"`
	PodsKeyFile  string `env:"ROUSE_PODS_KEY_FILE"`
	PodsName     string `env:"ROUSE_PODS_NAME"`
	// Trusted is an address where Knative's revision headers are honoured: no public client may reach it. Empty for none.
	Trusted string `env:"ROUSE_TRUSTED_LISTEN"`
	// Admin is the address of metrics and health; Profiles adds pprof.
	Admin    string `env:"ROUSE_ADMIN_LISTEN" envDefault:":9090"`
	Profiles bool   `env:"ROUSE_PROFILES"`
	// PortHost is the host that per-revision ports listen on; empty for all.
	PortHost string `env:"ROUSE_PORT_HOST"`

	// Control are the assignment listeners of all control instances, Stats those that take reports of load.
	Control []string `env:"ROUSE_CONTROL_URLS"`
	Stats   []string `env:"ROUSE_STATS_URLS"`
	// TokenFile holds the bearer token for both; Token is the token itself. At most one.
	TokenFile string `env:"ROUSE_TOKEN_FILE"`
	Token     string `env:"ROUSE_TOKEN"`
	// Name is what people call this activator, and what its load is reported by: no other has it. Addr is where others reach
	// its first listener. Empty takes the host's name and the listener's own address. An IPv6 address may stand there without
	// brackets: Kubernetes can't write them around $(POD_IP). Zone is its failure domain.
	Name string `env:"ROUSE_NAME"`
	Addr string `env:"ROUSE_ADDRESS"`
	Zone string `env:"ROUSE_ZONE"`

	// QueueTotal bounds parked requests, Tries how often one is dispatched.
	QueueTotal int `env:"ROUSE_QUEUE_TOTAL" envDefault:"100000"`
	Tries      int `env:"ROUSE_TRIES" envDefault:"12"`
	// Growth reports a burst ahead of the period; 0 for never.
	Growth float64 `env:"ROUSE_GROWTH" envDefault:"2"`
	// ColdStartHeader and ServerTiming tell clients what became of their request.
	ColdStartHeader bool `env:"ROUSE_COLD_START_HEADER"`
	ServerTiming    bool `env:"ROUSE_SERVER_TIMING"`

	// DrainMinimum is how long to go on accepting at least, DrainQuiet how long no connection must have come, Grace how
	// long all of it may take.
	DrainMinimum time.Duration `env:"ROUSE_DRAIN_MINIMUM" envDefault:"5s"`
	DrainQuiet   time.Duration `env:"ROUSE_DRAIN_QUIET" envDefault:"2s"`
	Grace        time.Duration `env:"ROUSE_GRACE" envDefault:"10m"`

	LogLevel  string `env:"ROUSE_LOG_LEVEL" envDefault:"info"`
	LogFormat string `env:"ROUSE_LOG_FORMAT" envDefault:"json"`
	// WithStdin stops the activator when its standard input ends: it goes with the process that started it.
	WithStdin bool `env:"ROUSE_WITH_STDIN"`
}

// Parse reads the environment and then args. Faults are reported together; help goes to out.
func Parse(args, environ []string, out io.Writer) (Options, error) {
	var o Options
	faults := config.FromEnviron(environ, &o)
	fs := flag.NewFlagSet("activator", flag.ContinueOnError)
	fs.SetOutput(out)
	o.flags(fs)
	fs.Usage = func() {
		fmt.Fprintln(out, "activator takes requests, wakes revisions and forwards, as control tells it. See docs/activator.md. Its flags:")
		fs.PrintDefaults()
		fmt.Fprint(out, "\nand the environment beneath them:\n\n")
		config.WriteVariables(out, &o)
	}
	if err := cmdline.Parse(fs, args); err != nil {
		return o, err
	}
	if o.Name == "" {
		name, err := os.Hostname()
		if err != nil {
			name = "activator"
		}
		o.Name = name
	}
	o.Addr = bracketed(o.Addr)
	return o, errors.Join(config.Join(faults), o.validate())
}

// bracketed puts brackets around the IPv6 address of ADDRESS:PORT. Everything after the last colon is the port.
func bracketed(addr string) string {
	if i := strings.LastIndexByte(addr, ':'); i > 0 {
		if a, err := netip.ParseAddr(addr[:i]); err == nil && a.Is6() {
			return net.JoinHostPort(addr[:i], addr[i+1:])
		}
	}
	return addr
}

func (o *Options) flags(fs *flag.FlagSet) {
	fs.Var((*list)(&o.Listen), "listen", "addresses of requests, routed by host, separated by commas")
	fs.Var((*list)(&o.TLSListen), "tls-listen", "encrypted addresses of requests")
	fs.StringVar(&o.CertDir, "cert-dir", o.CertDir, "folder of tls.crt and tls.key for --tls-listen; a new pair is taken without a restart")
	fs.StringVar(&o.PodsCAFile, "pods-ca-file", o.PodsCAFile, "authorities of the pods' certificates, as PEM; it may be replaced at any time")
	fs.StringVar(&o.PodsCertFile, "pods-cert-file", o.PodsCertFile, "the activator's own certificate towards pods; it may be replaced at any time")
	fs.StringVar(&o.PodsKeyFile, "pods-key-file", o.PodsKeyFile, "the key of --pods-cert-file")
	fs.StringVar(&o.PodsName, "pods-name", o.PodsName, "subject alternative name that a pod's certificate must have; empty for "+podtls.KnativeName)
	fs.StringVar(&o.Trusted, "trusted-listen", o.Trusted, "address where Knative's revision headers are honoured; no public client may reach it")
	fs.StringVar(&o.Admin, "admin-listen", o.Admin, "address of metrics and health")
	fs.BoolVar(&o.Profiles, "profiles", o.Profiles, "serve pprof on the admin address")
	fs.StringVar(&o.PortHost, "port-host", o.PortHost, "host that per-revision ports listen on; empty for all")
	fs.Var((*list)(&o.Control), "control-urls", "assignment listeners of all control instances, ws://HOST:PORT, separated by commas")
	fs.Var((*list)(&o.Stats), "stats-urls", "where reports of load go, ws://HOST:PORT, separated by commas")
	fs.StringVar(&o.TokenFile, "token-file", o.TokenFile, "file of the bearer token for control; it may be replaced at any time")
	fs.StringVar(&o.Name, "name", o.Name, "this activator's name, which no other has; empty for the host's")
	fs.StringVar(&o.Addr, "address", o.Addr, "HOST:PORT by which others reach the first listener")
	fs.StringVar(&o.Zone, "zone", o.Zone, "failure domain")
	fs.IntVar(&o.QueueTotal, "queue-total", o.QueueTotal, "parked requests of all revisions together, at most")
	fs.IntVar(&o.Tries, "tries", o.Tries, "how often one request is dispatched at most, when certainly nobody saw it")
	fs.Float64Var(&o.Growth, "growth", o.Growth, "report load at once when so many times more is parked; 0 for each second only")
	fs.BoolVar(&o.ColdStartHeader, "cold-start-header", o.ColdStartHeader, "add X-Rouse-Cold-Start to answers of requests that met no pod")
	fs.BoolVar(&o.ServerTiming, "server-timing", o.ServerTiming, "add Server-Timing to answers of requests that were parked")
	fs.DurationVar(&o.DrainMinimum, "drain-minimum", o.DrainMinimum, "how long to go on accepting after SIGTERM, for endpoints to spread")
	fs.DurationVar(&o.DrainQuiet, "drain-quiet", o.DrainQuiet, "how long neither a request nor a new connection must have come before the end")
	fs.DurationVar(&o.Grace, "grace", o.Grace, "how long requests may take to finish after SIGTERM")
	fs.StringVar(&o.LogLevel, "log-level", o.LogLevel, "debug, info, warn or error")
	fs.StringVar(&o.LogFormat, "log-format", o.LogFormat, "json or text")
	fs.BoolVar(&o.WithStdin, "with-stdin", o.WithStdin, "stop when standard input ends")
}

// list is a flag of several values.
type list []string

// String implements flag.Value.
func (l *list) String() string { return strings.Join(*l, ",") }

// Set implements flag.Value.
func (l *list) Set(text string) error {
	*l = nil
	for part := range strings.SplitSeq(text, ",") {
		if part = strings.TrimSpace(part); part != "" {
			*l = append(*l, part)
		}
	}
	return nil
}

func (o *Options) validate() error {
	var errs []error
	for name, addrs := range map[string][]string{
		"--listen": o.Listen, "--tls-listen": o.TLSListen, "--trusted-listen": {o.Trusted}, "--admin-listen": {o.Admin}, "--address": {o.Addr},
	} {
		for _, a := range addrs {
			if _, _, err := net.SplitHostPort(a); a != "" && err != nil {
				errs = append(errs, fmt.Errorf("%s %q: must be HOST:PORT or :PORT", name, a))
			}
		}
	}
	if len(o.Listen)+len(o.TLSListen) == 0 {
		errs = append(errs, errors.New("--listen: must name at least one address"))
	}
	if len(o.TLSListen) > 0 && o.CertDir == "" {
		errs = append(errs, errors.New("--tls-listen needs --cert-dir with tls.crt and tls.key"))
	}
	if o.PodsCAFile == "" && o.PodsCertFile+o.PodsKeyFile+o.PodsName != "" {
		errs = append(errs, errors.New("--pods-cert-file, --pods-key-file and --pods-name need --pods-ca-file: who signs the pods' certificates"))
	}
	if len(o.Control) == 0 || len(o.Stats) == 0 {
		errs = append(errs, errors.New("--control-urls and --stats-urls (ROUSE_CONTROL_URLS, ROUSE_STATS_URLS): must name control's listeners, such as ws://control:8081"))
	}
	if o.Token != "" && o.TokenFile != "" {
		errs = append(errs, errors.New("ROUSE_TOKEN and --token-file: give one of the two"))
	}
	if err := o.draining().Validate(); err != nil {
		errs = append(errs, fmt.Errorf("--drain-minimum, --drain-quiet, --grace: %w", err))
	}
	return errors.Join(errs...)
}

func (o *Options) draining() lifecycle.DrainConfig {
	// Zero would be taken for the default.
	return lifecycle.DrainConfig{Minimum: max(o.DrainMinimum, 1), Quiet: max(o.DrainQuiet, 1), Grace: o.Grace}
}

// token is asked for with every connection: projected tokens are replaced while the process lives.
func (o *Options) token() (string, error) {
	if o.TokenFile == "" {
		return o.Token, nil
	}
	b, err := os.ReadFile(o.TokenFile)
	return strings.TrimSpace(string(b)), err
}
