package workload

import (
	"slices"
	"strings"
	"testing"

	"github.com/rousehq/rouse/internal/config"
)

func hello(annotations ...string) *Object {
	o := &Object{Kind: Deployment, Namespace: "default", Name: "hello", UID: "u1", Replicas: 3,
		PodLabels: map[string]string{"app": "hello", "tier": "web"}, Annotations: map[string]string{classKey: config.ClassKPA}}
	for i := 0; i < len(annotations); i += 2 {
		o.Annotations[annotations[i]] = annotations[i+1]
	}
	return o
}

// fronting is a workload whose queue-proxies stand in front of a port.
func fronting(port uint16) *Object {
	o := hello()
	o.Fronts = []Front{{Port: port}}
	return o
}

func service(name string, change func(*Service)) *Service {
	s := &Service{Namespace: "default", Name: name, IPv4: true, Ports: []Port{{Name: "http", Number: 80, Target: 8080}}}
	if change != nil {
		change(s)
	}
	return s
}

// withPorts gives a Service further ports, and says which of them are uncounted.
func withPorts(uncounted string, further ...string) func(*Service) {
	return func(s *Service) {
		s.Annotations = map[string]string{UncountedPorts: uncounted}
		for _, name := range further {
			s.Ports = append(s.Ports, Port{Name: name, Number: 9000})
		}
	}
}

func TestOptedIn(t *testing.T) {
	for _, tc := range []struct {
		name  string
		class string
		label string
		want  bool
	}{
		{"kpa", config.ClassKPA, "", true},
		{"hpa", config.ClassHPA, "", true},
		{"no annotation", "-", "", false},
		{"somebody else's", "keda.sh", "", false},
		{"misspelt", "kpa", "", true},
		{"misspelt in Knative's domain", "kpa.knative.dev", "", true},
		{"made by Knative", config.ClassKPA, "hello-00001", false},
	} {
		o := hello()
		o.Labels = map[string]string{knativeLabel: tc.label}
		o.Annotations[classKey] = tc.class
		if tc.class == "-" {
			delete(o.Annotations, classKey)
		}
		if got := o.OptedIn(); got != tc.want {
			t.Errorf("%s: OptedIn() = %t, want %t", tc.name, got, tc.want)
		}
	}
}

func TestResolve(t *testing.T) {
	selecting := func(s *Service) { s.Selector = map[string]string{"app": "hello"} }
	naming := func(s *Service) { s.Annotations = map[string]string{ServiceFor: "hello"} }
	for _, tc := range []struct {
		name     string
		o        *Object
		services []*Service
		rivals   []Rival
		service  string // bound to, empty when refused
		reasons  []Reason
		text     string
	}{
		{"by name", hello(), []*Service{service("hello", nil), service("other", nil)}, nil, "hello", nil, ""},
		{"by annotation", hello(), []*Service{service("front", naming)}, nil, "front", nil, ""},
		{"its name belongs to another", hello(), []*Service{service("hello", func(s *Service) {
			s.Annotations = map[string]string{ServiceFor: "other"}
		}), service("front", naming)}, nil, "front", nil, ""},
		{"none", hello(), nil, nil, "", []Reason{NoService}, "make one without a selector named hello"},
		{"two", hello(), []*Service{service("hello", nil), service("front", naming)}, nil, "", []Reason{ManyServices}, "front, hello"},
		{"with a selector", hello(), []*Service{service("hello", selecting)}, nil, "", []Reason{ServiceSelects}, "rouse adopt hello"},
		{"another name, with a selector", hello(), []*Service{service("web", selecting)}, nil, "", []Reason{ServiceSelects}, "rouse adopt web -n default"},
		{"a selector beside the right one", hello(), []*Service{service("hello", nil), service("metrics", selecting)}, nil, "hello", nil, ""},
		{"being adopted", hello(), []*Service{service("hello", func(s *Service) {
			selecting(s)
			s.Annotations = map[string]string{AdoptedSelector: `{"app":"hello"}`, ServiceFor: "hello"}
		})}, nil, "hello", []Reason{SelectorIsBack}, `kubectl patch service hello -n default --type json -p '[{"op":"remove","path":"/spec/selector"}]'`},
		{"adopted", hello(), []*Service{service("hello", func(s *Service) {
			s.Annotations = map[string]string{AdoptedSelector: `{"app":"hello"}`, ServiceFor: "hello"}
		})}, nil, "hello", nil, ""},
		{"being released", hello(), []*Service{service("front", func(s *Service) {
			selecting(s)
			s.Annotations = map[string]string{AdoptedSelector: `{"app":"hello"}`, ServiceFor: "hello", Releasing: "true"}
		})}, nil, "front", nil, ""},
		{"the selector of another name is back", hello(), []*Service{service("front", func(s *Service) {
			selecting(s)
			s.Annotations = map[string]string{AdoptedSelector: `{"app":"hello"}`, ServiceFor: "hello"}
		})}, nil, "front", []Reason{SelectorIsBack}, "rouse release front -n default"},
		{"headless", hello(), []*Service{service("hello", func(s *Service) { s.Headless = true })}, nil, "", []Reason{ServiceHeadless}, "clusterIP"},
		{"headless beside the one that names it", hello(), []*Service{service("hello", func(s *Service) { s.Headless = true; selecting(s) }), service("front", naming)}, nil, "front", nil, ""},
		{"headless of another name", hello(), []*Service{service("hello", nil), service("peers", func(s *Service) { s.Headless = true; selecting(s) })}, nil, "hello", nil, ""},
		{"headless of another name alone", hello(), []*Service{service("peers", func(s *Service) { s.Headless = true; selecting(s) })}, nil, "", []Reason{NoService}, "make one without a selector"},
		{"headless by its own words", hello(), []*Service{service("front", func(s *Service) { s.Headless = true; naming(s) })}, nil, "", []Reason{ServiceHeadless}, "rouse.dev/workload"},
		{"external", hello(), []*Service{service("hello", func(s *Service) { s.External = true })}, nil, "", []Reason{ServiceExternal}, "ExternalName"},
		{"no port", hello(), []*Service{service("hello", func(s *Service) { s.Ports = nil })}, nil, "", []Reason{ServicePorts}, "no port"},
		{"UDP", hello(), []*Service{service("hello", func(s *Service) { s.Ports[0].Protocol = "UDP" })}, nil, "", []Reason{ServicePorts}, "UDP"},
		{"a further port that need not be counted", hello(), []*Service{service("hello", withPorts("metrics", "metrics"))}, nil, "hello", nil, ""},
		{"uncounted, a port that is not there", hello(), []*Service{service("hello", withPorts("rpc", "grpc"))}, nil, "hello", []Reason{UnknownSettings}, `rouse.dev/uncounted-ports = "rpc": rpc is none of its further ports; name some of grpc`},
		{"uncounted, the port that is counted", hello(), []*Service{service("hello", withPorts("http"))}, nil, "hello", []Reason{UnknownSettings}, "remove it: the Service has no port besides"},
		{"the queue-proxy is behind the first port", fronting(8080), []*Service{service("hello", withPorts("grpc", "grpc"))}, nil, "hello", nil, ""},
		{"the queue-proxy is behind another port", fronting(9000), []*Service{service("hello", withPorts("http", "grpc"))}, nil, "hello", []Reason{PortOrder},
			"requests are counted on port grpc, behind which the queue-proxy is, and not on http"},
		{"the queue-proxy is behind none", fronting(7000), []*Service{service("hello", withPorts("grpc", "grpc"))}, nil, "hello", nil, ""},
		{"internalTrafficPolicy", hello(), []*Service{service("hello", func(s *Service) { s.InternalLocal = true })}, nil, "", []Reason{InternalLocal}, "internalTrafficPolicy: Local"},
		{"externalTrafficPolicy", hello(), []*Service{service("hello", func(s *Service) { s.ExternalLocal = true })}, nil, "hello", []Reason{ExternalLocal}, `autoscaling.knative.dev/target-burst-capacity: "-1"`},
		{"externalTrafficPolicy, never led to pods", hello(burstKey, "-1"), []*Service{service("hello", func(s *Service) { s.ExternalLocal = true })}, nil, "hello", nil, ""},
		{"sessionAffinity", hello(), []*Service{service("hello", func(s *Service) { s.ClientIP = true })}, nil, "hello", []Reason{ClientAffinity}, "rouse.dev/session-affinity"},
		{"sessionAffinity by activators, too", hello(affinityKey, "cookie=session"), []*Service{service("hello", func(s *Service) { s.ClientIP = true })}, nil, "hello", nil, ""},
		{"rival", hello(), []*Service{service("hello", nil)}, []Rival{{"HorizontalPodAutoscaler hello"}}, "", []Reason{OtherAutoscaler}, "HorizontalPodAutoscaler hello"},
		{"all faults at once", hello("autoscaling.knative.dev/target", "no", "autoscaling.knative.dev/window", "1s", "rouse.dev/container-concurrency", "many"),
			[]*Service{service("hello", nil)}, nil, "", []Reason{BadSettings}, "autoscaling.knative.dev/window"},
		{"a limit out of range", hello("rouse.dev/container-concurrency", "-1"), []*Service{service("hello", nil)}, nil, "", []Reason{BadSettings}, "-1"},
		{"misspelt class", hello(classKey, "kpa"), []*Service{service("hello", nil)}, nil, "", []Reason{BadSettings}, config.ClassKPA},
		{"misspelt setting", hello("autoscaling.knative.dev/minscale", "1"), []*Service{service("hello", nil)}, nil, "hello", []Reason{UnknownSettings}, "minscale"},
		{"misspelt about the queue-proxy", hello("rouse.dev/inject-prot", "8080"), []*Service{service("hello", nil)}, nil, "hello", []Reason{UnknownSettings}, "inject-prot"},
		{"about the queue-proxy", hello("rouse.dev/inject-port", "8080", "rouse.dev/inject", "enabled"), []*Service{service("hello", nil)}, nil, "hello", nil, ""},
		{"class HPA", hello(classKey, config.ClassHPA), []*Service{service("hello", nil)}, nil, "hello", []Reason{UnknownSettings}, "is scaled as " + config.ClassKPA + ", without a HorizontalPodAutoscaler: make it that"},
		{"class HPA and CPU", hello(classKey, config.ClassHPA, "autoscaling.knative.dev/metric", "cpu"), []*Service{service("hello", nil)}, nil, "hello", []Reason{UnknownSettings, UnknownSettings}, "targets of cpu have no effect"},
		{"class HPA and a metric of one's own", hello(classKey, config.ClassHPA, "autoscaling.knative.dev/metric", "lag"), []*Service{service("hello", nil)}, nil, "hello", []Reason{UnknownSettings, UnknownSettings}, `metric "lag" is measured by nobody: concurrency counts`},
		{"CPU and memory", hello("rouse.dev/metrics", "cpu=500m, rps=5, memory=1Gi"), []*Service{service("hello", nil)}, nil, "hello", []Reason{UnknownSettings}, "targets of cpu and memory have no effect"},
		{"another further metric", hello("rouse.dev/metrics", "rps=5"), []*Service{service("hello", nil)}, nil, "hello", nil, ""},
		{"settings and Service", hello("autoscaling.knative.dev/target", "no"), nil, nil, "", []Reason{BadSettings, NoService}, ""},
		{"not ours", &Object{Name: "x"}, nil, nil, "", nil, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b, problems := Resolve(tc.o, tc.services, tc.rivals, config.Autoscaler{})
			var reasons []Reason
			text := ""
			for _, p := range problems {
				reasons, text = append(reasons, p.Reason), text+p.Text
			}
			if !slices.Equal(reasons, tc.reasons) || !strings.Contains(text, tc.text) {
				t.Errorf("problems %v %q, want %v with %q", reasons, text, tc.reasons, tc.text)
			}
			switch {
			case b == nil && tc.service != "":
				t.Errorf("refused, want Service %s", tc.service)
			case b != nil && b.Service.Name != tc.service:
				t.Errorf("bound to %s, want %q", b.Service.Name, tc.service)
			}
		})
	}
}

func TestSettings(t *testing.T) {
	o := hello("rouse.dev/container-concurrency", "7", "autoscaling.knative.dev/initial-scale", "5", "autoscaling.knative.dev/max-scale", "50")
	b, problems := Resolve(o, []*Service{service("hello", nil)}, nil, config.Autoscaler{})
	if b == nil || len(problems) > 0 {
		t.Fatalf("refused: %v", problems)
	}
	if got := b.Config.ContainerConcurrency.V; got != 7 {
		t.Errorf("limit %d, want 7", got)
	}
	if got := b.Config.Scaling.InitialScale.V; got != 0 {
		t.Errorf("initial scale %d, want 0: control's start must not wake workloads", got)
	}
	if got := b.Config.Scaling.MaxScale.V; got != 50 {
		t.Errorf("max scale %d, want 50", got)
	}
	if got := b.Config.PodProbe; got.V != config.ProbeQueue || got.IsSet() {
		t.Errorf("pods are asked by %q, set by somebody: %t; want the default of Kubernetes, queue", got.V, got.IsSet())
	}
	off, _ := Resolve(hello("rouse.dev/pod-probe", "off"), []*Service{service("hello", nil)}, nil, config.Autoscaler{})
	if off == nil || off.Config.Dispatching().Probe.By != "" {
		t.Errorf("with rouse.dev/pod-probe: off pods are asked all the same: %+v", off)
	}
	if b.Config.Service != "hello" || b.Config.ID.UID != "u1" {
		t.Errorf("identity %+v of Service %q", b.Config.ID, b.Config.Service)
	}
}

func TestH2C(t *testing.T) {
	for p, want := range map[Port]bool{
		{Name: "http"}: false, {Name: "h2c"}: true, {Name: "http2"}: true, {AppProtocol: "kubernetes.io/h2c"}: true, {AppProtocol: "http"}: false,
		{Name: "grpc"}: true, {Name: "grpc-api"}: true, {AppProtocol: "grpc"}: true, {Name: "grpc-web"}: false, {Name: "grpc-web-2"}: false, {Name: "grpcs"}: false,
	} {
		if got := p.H2C(); got != want {
			t.Errorf("%+v.H2C() = %t, want %t", p, got, want)
		}
	}
}

func TestPrimary(t *testing.T) {
	web, admin, scrape := Port{Name: "web", Number: 80, Target: 8080}, Port{Name: "admin", Number: 9000}, Port{Name: "http-metrics", Number: 9100, TargetName: "metrics"}
	at8080 := []Front{{Port: 8080, Name: "http"}}
	for _, tc := range []struct {
		want   int
		ports  []Port
		fronts []Front
	}{
		{0, nil, nil}, {0, nil, at8080},
		{0, []Port{{Name: "metrics"}, {Name: "admin"}}, nil}, {1, []Port{{Name: "metrics"}, {Name: "http"}}, nil}, {1, []Port{{Name: "grpc"}, {Name: "http"}}, nil},
		{0, []Port{{Name: "grpc"}, {Name: "metrics"}}, nil}, {1, []Port{{Name: "metrics"}, {Name: "h2c"}}, nil},
		{0, []Port{{Name: "grpc", AppProtocol: "kubernetes.io/h2c"}, {Name: "http"}}, nil},
		{0, []Port{web, admin}, at8080}, {1, []Port{admin, web}, at8080}, {0, []Port{web, scrape}, at8080},
		{0, []Port{admin, web}, []Front{{Port: 9000}, {Port: 8080}}},                         // a rollout to another port
		{0, []Port{admin, web}, []Front{{Port: 8081}}},                                       // none leads there
		{1, []Port{web, scrape}, []Front{{Port: 9100, Name: "metrics"}}},                     // by name
		{1, []Port{web, scrape}, []Front{{Port: 8081, Name: "x"}, {Port: 8082}}},             // nobody has the name
		{1, []Port{{Name: "a", Number: 8080, Target: 9}, {Name: "b", Number: 8080}}, at8080}, // a port's own number is its target's
	} {
		if got := Primary(tc.ports, tc.fronts); got != tc.want {
			t.Errorf("Primary(%+v, %+v) = %d, want %d", tc.ports, tc.fronts, got, tc.want)
		}
	}
}

func TestRemains(t *testing.T) {
	s := service("front", nil)
	for _, tc := range []struct {
		name        string
		annotations map[string]string
		limit       int
	}{
		{"opted out with its settings", map[string]string{"rouse.dev/container-concurrency": "7"}, 7},
		{"without", nil, 0},
		{"settings that can't be", map[string]string{"rouse.dev/container-concurrency": "-7"}, 0},
		{"opted in", map[string]string{classKey: config.ClassKPA, "rouse.dev/container-concurrency": "7"}, 7},
	} {
		o := hello()
		o.Annotations = tc.annotations
		if cfg := Remains(o, s, config.Autoscaler{}); cfg.ContainerConcurrency.V != tc.limit || cfg.Service != "front" || cfg.ID != o.Revision() {
			t.Errorf("%s: limit %d of %s for Service %s, want %d", tc.name, cfg.ContainerConcurrency.V, cfg.ID, cfg.Service, tc.limit)
		}
	}
}

// TestRemainsOfWhatIsGood: a setting that is no good costs the others nothing, however it is refused.
func TestRemainsOfWhatIsGood(t *testing.T) {
	with := func(kv ...string) *Object {
		return hello(append(kv, "autoscaling.knative.dev/max-scale", "5")...)
	}
	for _, tc := range []struct {
		name string
		o    *Object
	}{
		{"limit", with("rouse.dev/container-concurrency", "5000")},
		{"timeout", with("rouse.dev/timeout-seconds", "7000")},
		{"start", with("rouse.dev/response-start-timeout-seconds", "-1")},
		{"idle", with("rouse.dev/idle-timeout-seconds", "301")},
		{"no number", with("rouse.dev/timeout-seconds", "5m")},
		{"beyond the timeout that is no good", with("rouse.dev/timeout-seconds", "7000", "rouse.dev/idle-timeout-seconds", "400")},
		{"several", with("rouse.dev/timeout-seconds", "7000", "autoscaling.knative.dev/target", "no")},
		{"no class", with(classKey, "kpa")},
	} {
		cfg := Remains(tc.o, service("hello", nil), config.Autoscaler{})
		if cfg.Scaling.MaxScale.V != 5 || cfg.Timeout.V != config.DefaultTimeout || cfg.IdleTimeout.V != 0 || cfg.ContainerConcurrency.V != 0 {
			t.Errorf("%s: max-scale %d, limit %d, timeouts %s and %s; want 5 and the defaults", tc.name, cfg.Scaling.MaxScale.V,
				cfg.ContainerConcurrency.V, cfg.Timeout.V, cfg.IdleTimeout.V)
		}
	}
}

func TestShed(t *testing.T) {
	opted, foreign := hello("rouse.dev/container-concurrency", "7"), hello(classKey, "keda.sh")
	delete(opted.Annotations, classKey)
	for _, o := range []*Object{opted, foreign} {
		if o.Shed(); o.OptedIn() || o.PodLabels != nil {
			t.Errorf("what is left is opted in, or has labels: %+v", o)
		}
	}
	if len(opted.Annotations) != 1 || foreign.Annotations != nil {
		t.Errorf("kept %v and %v, want the settings of the one that names no class", opted.Annotations, foreign.Annotations)
	}
}

func TestShadowed(t *testing.T) {
	plain := &Object{Name: "hello"}
	for _, tc := range []struct {
		name            string
		deployment, set *Object
		want            bool
	}{
		{"both are scaled", hello(), hello(), true}, {"only the Deployment", hello(), plain, false}, {"only the StatefulSet", plain, hello(), false},
		{"no Deployment", nil, hello(), false}, {"no StatefulSet", hello(), nil, false},
	} {
		if got := Shadowed(tc.deployment, tc.set); got != tc.want {
			t.Errorf("%s: %t, want %t", tc.name, got, tc.want)
		}
	}
	if p := Taken(); p.Reason != NameTaken || p.Minor {
		t.Errorf("Taken() = %+v", p)
	}
}
