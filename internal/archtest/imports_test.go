package archtest

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// rank orders packages from the inside out. A package imports lower ranks only; pure ones and leaves also their like.
type rank int

const (
	pure    rank = iota // values in, values out
	leaf                // small services to everybody: decoding, telemetry, start and stop
	engine              // what several edges share
	edge                // sockets, processes, Kubernetes, Kafka
	harness             // benchmarks run edges beside their rivals
	process             // everything of one container, for the commands that run it
	binary              // cmd wires it all
)

func (r rank) String() string {
	return [...]string{"pure", "leaf", "engine", "edge", "harness", "process", "binary"}[r]
}

// ranks names everything that is not an edge, by path prefix; the longest wins. Paths that do not exist are fine.
var ranks = map[string]rank{
	"breaker":             pure,
	"metrics":             pure,
	"control/kpa":         pure,
	"control/slots":       pure,
	"kafkadispatch/order": pure,
	"internal/identity":   pure,
	"internal/endpoint":   pure,
	"internal/fault":      pure,
	"internal/route":      pure,
	"internal/sliceplan":  pure,
	"internal/portalloc":  pure,
	"internal/member":     pure,
	"internal/cmdline":    leaf,
	"internal/config":     leaf,
	"internal/lifecycle":  leaf,
	"internal/telemetry":  leaf,
	"internal/usage":      leaf,
	"internal/workload":   leaf,
	"internal/inject":     leaf,
	"internal/place":      leaf,
	"internal/jsontext":   leaf,
	// Reads /proc and knows nothing of pods.
	"internal/localpods/procfs": leaf,
	"internal/forward":          engine,
	"internal/front":            process,
	"bench":                     harness,
	"test":                      harness,
	"cmd":                       binary,
	"bench/cmd":                 binary,
	"examples":                  binary,
}

// families are trees whose packages belong together and may import each other.
var families = []string{"activator", "queueproxy", "kafkadispatch", "control", "bench", "internal/forward",
	"internal/kube", "internal/localpods", "internal/manifest", "internal/statstream", "internal/cmdline", "internal/config", "internal/telemetry"}

// rankOf returns a package's rank; what nobody ranked is an edge.
func rankOf(path string) rank {
	best, found := edge, ""
	for prefix, r := range ranks {
		if under(path, prefix) && len(prefix) > len(found) {
			best, found = r, prefix
		}
	}
	return best
}

func under(path, prefix string) bool { return path == prefix || strings.HasPrefix(path, prefix+"/") }

// family returns the tree that a package belongs to; each command is one.
func family(path string) string {
	for _, f := range families {
		if under(path, f) {
			return f
		}
	}
	if parts := strings.Split(path, "/"); parts[0] == "cmd" && len(parts) > 1 {
		return "cmd/" + parts[1]
	}
	return path
}

// inward checks that imports point inward.
func inward(pkgs []pkg) (violations []string) {
	for _, p := range pkgs {
		from := rankOf(p.path())
		for _, imp := range p.Imports {
			to := rankOf(within(imp))
			if !own(imp) || to < from || (family(p.path()) == family(within(imp)) && to <= from) {
				continue
			}
			if to == from && from <= leaf {
				continue
			}
			violations = append(violations, fmt.Sprintf("%s (%s) imports %s (%s): imports point inward, cmd → edges → engine → leaves → pure; "+
				"declare a small interface here and let cmd wire it, or rank the package in internal/archtest", p.path(), from, within(imp), to))
		}
	}
	return violations
}

// purity: what pure packages may import besides each other.
var purity = struct {
	foreign []string
	banned  []string
}{
	foreign: []string{"go.uber.org/atomic", "google.golang.org/protobuf/encoding/protowire"},
	banned:  []string{"net", "net/http", "os", "os/exec", "os/signal", "log", "log/slog", "syscall", "io/ioutil", "testing"},
}

func pureImports(pkgs []pkg) (violations []string) {
	for _, p := range pkgs {
		if rankOf(p.path()) != pure {
			continue
		}
		for _, imp := range p.Imports {
			foreign := strings.Contains(strings.Split(imp, "/")[0], ".") && !own(imp)
			if (foreign && !slices.Contains(purity.foreign, imp)) || slices.Contains(purity.banned, imp) {
				violations = append(violations, fmt.Sprintf("%s imports %s: a decision is a pure function of values, its effects are at the edges; "+
					"allowed are the standard library without sockets, files and logs, and %s", p.path(), imp, strings.Join(purity.foreign, ", ")))
			}
		}
	}
	return violations
}

// ban keeps a library inside the packages that are there to hold it.
type ban struct {
	library string
	holders []string
	reason  string
}

var bans = []ban{
	{"k8s.io/client-go", []string{"internal/kube"}, "one package knows Kubernetes, so that everything else runs without it"},
	{"k8s.io/apimachinery", []string{"internal/kube"}, "Kubernetes' types stay at its edge; plain structs cross it"},
	{"k8s.io/api", []string{"internal/kube"}, "Kubernetes' types stay at its edge; plain structs cross it"},
	{"knative.dev", []string{"bench"}, "Knative is a peer to measure and to interoperate with, not a library"},
	{"github.com/confluentinc/confluent-kafka-go", []string{"kafkadispatch", "bench", "test"}, "librdkafka needs cgo, and one owner per consumer"},
	{"github.com/twmb/franz-go", []string{"internal/kafkabroker", "kafkadispatch", "bench", "test"}, "the embedded broker is for rouse up and tests, not for the data plane"},
	{"github.com/spf13/cobra", []string{"cmd/rouse", "cmd/rouse-kube", "internal/cmdline/commands"}, "people type commands to rouse alone; the containers read their environment"},
	{"github.com/caarlos0/env", []string{"internal/config"}, "one package decodes settings, and reports all faults at once"},
	{"go.yaml.in/yaml", []string{"internal/manifest", "internal/config", "internal/inject", "internal/place"}, "positions of faults come from one decoder; what changes people's files keeps their comments"},
	{"google.golang.org/grpc", []string{"control/keda", "internal/telemetry", "bench", "test"}, "the data plane forwards gRPC as HTTP/2; one endpoint speaks it, and exporters may"},
	{"testing/synctest", nil, "bubbles are for tests"},
}

func libraries(pkgs []pkg) (violations []string) {
	for _, p := range pkgs {
		for _, imp := range p.Imports {
			for _, b := range bans {
				held := slices.ContainsFunc(b.holders, func(h string) bool { return under(p.path(), h) })
				if under(imp, b.library) && !held {
					violations = append(violations, fmt.Sprintf("%s imports %s, which only %v may: %s", p.path(), imp, b.holders, b.reason))
				}
			}
		}
	}
	return violations
}

// linkage says what a binary must not carry, however deep.
type linkage struct {
	binary  string
	without []string
	reason  string
}

var linkages = []linkage{
	{"cmd/queueproxy", []string{"k8s.io/client-go", "github.com/confluentinc/confluent-kafka-go", "github.com/twmb/franz-go", "github.com/spf13/cobra", "go.yaml.in/yaml/v3", "google.golang.org/grpc"},
		"the sidecar stands in every cold start and in every pod: it is small and starts in milliseconds"},
	{"cmd/activator", []string{"k8s.io/client-go", "github.com/confluentinc/confluent-kafka-go", "github.com/twmb/franz-go", "github.com/spf13/cobra", "go.yaml.in/yaml/v3", "google.golang.org/grpc"},
		"the activator is a small static binary: what it must know of Kubernetes and Kafka, control tells it"},
	{"cmd/autoscaler", []string{"github.com/confluentinc/confluent-kafka-go", "github.com/twmb/franz-go", "github.com/spf13/cobra"},
		"the autoscaler is a static binary; lag reaches it as numbers"},
	{"cmd/webhook", []string{"github.com/confluentinc/confluent-kafka-go", "github.com/twmb/franz-go", "github.com/spf13/cobra"},
		"the webhook is a static binary that changes pods and nothing else"},
	{"cmd/rouse", []string{"k8s.io/client-go"},
		"the program stands in the cold starts of rouse up: Kubernetes' libraries double its size and its start, see cmd/rouse-kube"},
	{"cmd/kafkadispatch", []string{"github.com/spf13/cobra"},
		"a container reads its environment and its files; the embedded broker is in it because a source may ask for one"},
}

func links(pkgs []pkg) (violations []string) {
	for _, p := range pkgs {
		for _, l := range linkages {
			if p.path() != l.binary {
				continue
			}
			for _, dep := range p.Deps {
				if i := slices.IndexFunc(l.without, func(lib string) bool { return under(dep, lib) }); i >= 0 {
					violations = append(violations, fmt.Sprintf("%s links %s: %s", p.path(), dep, l.reason))
				}
			}
		}
	}
	return violations
}

// zoneData is the database of time zones that a program carries for images that have none: 450 kB.
const zoneData = "time/tzdata"

// scheduled are the programs that read the annotation rouse.dev/schedule: those that judge or decide.
var scheduled = []string{"cmd/autoscaler", "cmd/webhook", "cmd/rouse-kube", "cmd/rouse"}

// zones checks that a schedule's zone is known wherever it is read, and that no other program carries the database.
func zones(pkgs []pkg) (violations []string) {
	for _, p := range pkgs {
		if p.Name != "main" || !under(p.path(), "cmd") {
			continue
		}
		switch reads, carries := slices.Contains(scheduled, p.path()), slices.Contains(p.Deps, zoneData); {
		case reads && !carries:
			violations = append(violations, fmt.Sprintf("%s reads schedules and does not import %s: in an image without zoneinfo it would refuse \"in Europe/Berlin\"", p.path(), zoneData))
		case carries && !reads:
			violations = append(violations, fmt.Sprintf("%s links %s and reads no schedules: take it out, or name the program among those that do", p.path(), zoneData))
		}
	}
	return violations
}

var vague = []string{"util", "utils", "common", "helper", "helpers", "types", "misc", "shared", "base", "pkg", "lib"}

func names(pkgs []pkg) (violations []string) {
	for _, p := range pkgs {
		for part := range strings.SplitSeq(p.path(), "/") {
			if slices.Contains(vague, part) {
				violations = append(violations, fmt.Sprintf("%s: the name %q says nothing about what is inside; name the role", p.path(), part))
			}
		}
	}
	return violations
}

func TestImportsPointInward(t *testing.T)   { report(t, inward(load(t))) }
func TestPurePackagesStayPure(t *testing.T) { report(t, pureImports(load(t))) }
func TestLibrariesStayHome(t *testing.T)    { report(t, libraries(load(t))) }
func TestBinariesLinkLittle(t *testing.T)   { report(t, links(load(t))) }
func TestZonesAreKnown(t *testing.T)        { report(t, zones(load(t))) }
func TestPackageNamesSayARole(t *testing.T) { report(t, names(load(t))) }

// TestRulesCatch shows each rule a module that breaks it, and one that does not: a rule that never fires is no rule.
func TestRulesCatch(t *testing.T) {
	at := func(path string, imports ...string) pkg {
		for i, imp := range imports {
			imports[i] = strings.Replace(imp, "~", module, 1)
		}
		return pkg{ImportPath: module + "/" + path, Imports: imports, Deps: imports}
	}
	command := func(path string, imports ...string) pkg {
		p := at(path, imports...)
		p.Name = "main"
		return p
	}
	for _, tc := range []struct {
		name  string
		rule  func([]pkg) []string
		p     pkg
		fires bool
	}{
		{"edge to edge", inward, at("activator", "~/control"), true},
		{"edge to unranked", inward, at("activator", "~/internal/newthing"), true},
		{"edge to its own family", inward, at("kafkadispatch", "~/kafkadispatch/sink"), false},
		{"edge to the engine", inward, at("queueproxy", "~/internal/forward"), false},
		{"engine to edge", inward, at("internal/forward", "~/queueproxy"), true},
		{"leaf to edge", inward, at("internal/config", "~/internal/manifest"), true},
		{"leaf to pure", inward, at("internal/config", "~/control/kpa"), false},
		{"pure to leaf", inward, at("breaker", "~/internal/config"), true},
		{"pure to its outer family", inward, at("control/kpa", "~/control"), true},
		{"outer family to pure", inward, at("control", "~/control/kpa"), false},
		{"edge to command", inward, at("activator", "~/cmd/rouse/up"), true},
		{"bench to edge", inward, at("bench/dispatch", "~/kafkadispatch"), false},
		{"edge to bench", inward, at("kafkadispatch", "~/bench/load"), true},
		{"command to bench", inward, at("cmd/rouse", "~/bench/proxybench"), false},
		{"command to command", inward, at("cmd/rouse", "~/cmd/activator"), true},
		{"command to its own parts", inward, at("cmd/rouse", "~/cmd/rouse/up"), false},
		{"pure to sockets", pureImports, at("breaker", "net"), true},
		{"pure to addresses", pureImports, at("breaker", "net/netip"), false},
		{"pure to a library", pureImports, at("metrics", "github.com/google/uuid"), true},
		{"pure to the wire format", pureImports, at("metrics", "google.golang.org/protobuf/encoding/protowire"), false},
		{"client-go outside", libraries, at("control", "k8s.io/client-go/kubernetes"), true},
		{"client-go at home", libraries, at("internal/kube", "k8s.io/client-go/kubernetes"), false},
		{"librdkafka outside", libraries, at("cmd/rouse", "github.com/confluentinc/confluent-kafka-go/v2/kafka"), true},
		{"sidecar with the embedded broker", links, at("cmd/queueproxy", "github.com/twmb/franz-go/pkg/kfake"), true},
		{"rouse with the embedded broker", links, at("cmd/rouse", "github.com/twmb/franz-go/pkg/kfake"), false},
		{"control without zones", zones, command("cmd/autoscaler"), true},
		{"control with zones", zones, command("cmd/autoscaler", zoneData), false},
		{"sidecar with zones", zones, command("cmd/queueproxy", zoneData), true},
		{"sidecar without zones", zones, command("cmd/queueproxy"), false},
		{"vague name", names, at("internal/util/clock"), true},
		{"role", names, at("internal/utility"), false},
	} {
		if got := tc.rule([]pkg{tc.p}); (len(got) > 0) != tc.fires {
			t.Errorf("%s: violations %q, want some: %t", tc.name, got, tc.fires)
		}
	}
}
