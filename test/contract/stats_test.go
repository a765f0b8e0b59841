package contract

import (
	"go/ast"
	"go/token"
	"path/filepath"
	"strings"
	"testing"
)

// numbers returns the field numbers of a message, by name, out of the struct that protoc generated.
func numbers(t *testing.T, file, message string) map[string]string {
	t.Helper()
	got := make(map[string]string)
	ast.Inspect(parse(t, file), func(n ast.Node) bool {
		spec, ok := n.(*ast.TypeSpec)
		if !ok || spec.Name.Name != message {
			return true
		}
		for _, f := range spec.Type.(*ast.StructType).Fields.List {
			if f.Tag == nil {
				continue
			}
			// wire type, number, cardinality, name=…
			parts := strings.Split(tagOf(t, f).Get("protobuf"), ",")
			if len(parts) > 3 {
				got[strings.TrimPrefix(parts[3], "name=")] = parts[1]
			}
		}
		return true
	})
	return got
}

// constants returns the numbers of our codec.
func constants(t *testing.T) map[string]string {
	t.Helper()
	got := make(map[string]string)
	ast.Inspect(parse(t, "../../metrics/wire.go"), func(n ast.Node) bool {
		if v, ok := n.(*ast.ValueSpec); ok && len(v.Values) == 1 {
			if lit, ok := v.Values[0].(*ast.BasicLit); ok && lit.Kind == token.INT {
				got[v.Names[0].Name] = lit.Value
			}
		}
		return true
	})
	return got
}

// TestStatsHaveKnativesNumbers compares our codec with the messages that Knative's autoscaler decodes.
func TestStatsHaveKnativesNumbers(t *testing.T) {
	file := filepath.Join(sources(t), "pkg/autoscaler/metrics/stat.pb.go")
	ours := constants(t)
	for message, fields := range map[string]map[string]string{
		"Stat": {
			"pod_name": "fieldPodName", "average_concurrent_requests": "fieldConcurrency",
			"average_proxied_concurrent_requests": "fieldProxied", "request_count": "fieldRequestCount",
			"proxied_request_count": "fieldProxiedCount", "process_uptime": "fieldUptime", "timestamp": "fieldTimestamp",
		},
		"WireStatMessage":  {"namespace": "fieldMessageNamespace", "name": "fieldMessageName", "stat": "fieldMessageStat"},
		"WireStatMessages": {"messages": "fieldMessages"},
	} {
		theirs := numbers(t, file, message)
		if len(theirs) != len(fields) {
			t.Errorf("%s has the fields %v, we know %d", message, theirs, len(fields))
		}
		for name, constant := range fields {
			if theirs[name] == "" || theirs[name] != ours[constant] {
				t.Errorf("%s.%s is number %q, and %q in our codec", message, name, theirs[name], ours[constant])
			}
		}
	}
}
