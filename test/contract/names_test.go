package contract

import (
	"go/ast"
	"go/parser"
	"go/token"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// foreign are constants of Knative's other modules that stand for variables' names.
var foreign = map[string]string{"system.NamespaceEnvKey": "SYSTEM_NAMESPACE", "metrics.DomainEnv": "METRICS_DOMAIN"}

func parse(t *testing.T, file string) *ast.File {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// read returns the variables that a struct of the queue-proxy is filled from, by the rules of envconfig: the tag, or
// the field's words.
func read(t *testing.T, file string, structs ...string) (names []string) {
	t.Helper()
	ast.Inspect(parse(t, file), func(n ast.Node) bool {
		spec, ok := n.(*ast.TypeSpec)
		if !ok || !slices.Contains(structs, spec.Name.Name) {
			return true
		}
		for _, f := range spec.Type.(*ast.StructType).Fields.List {
			if f.Tag == nil || len(f.Names) == 0 {
				continue // embedded: a struct of its own
			}
			tag := tagOf(t, f)
			name := tag.Get("envconfig")
			if name == "" {
				name = splitWords(f.Names[0].Name)
			}
			names = append(names, name)
		}
		return true
	})
	return names
}

func tagOf(t *testing.T, f *ast.Field) reflect.StructTag {
	t.Helper()
	s, err := strconv.Unquote(f.Tag.Value)
	if err != nil {
		t.Fatal(err)
	}
	return reflect.StructTag(s)
}

var (
	word    = regexp.MustCompile(`[^A-Z]+|[A-Z]+[^A-Z]+|[A-Z]+`)
	acronym = regexp.MustCompile(`^([A-Z]+)([A-Z][^A-Z]+)$`)
)

// splitWords is what envconfig makes of a field's name: ServingPodIP is SERVING_POD_IP, QueueServingTLSPort is
// QUEUE_SERVING_TLS_PORT.
func splitWords(field string) string {
	var words []string
	for _, w := range word.FindAllString(field, -1) {
		if m := acronym.FindStringSubmatch(w); m != nil {
			words = append(words, m[1], m[2])
		} else {
			words = append(words, w)
		}
	}
	return strings.ToUpper(strings.Join(words, "_"))
}

// set returns the variables that the controller sets in a container: every Name of a corev1.EnvVar.
func set(t *testing.T, file string) (names []string) {
	t.Helper()
	ast.Inspect(parse(t, file), func(n ast.Node) bool {
		lit, ok := n.(*ast.CompositeLit)
		if !ok {
			return true
		}
		switch typ := lit.Type.(type) {
		case *ast.SelectorExpr:
			if typ.Sel.Name == "EnvVar" {
				names = append(names, nameOf(t, lit))
			}
		case *ast.ArrayType:
			if sel, ok := typ.Elt.(*ast.SelectorExpr); ok && sel.Sel.Name == "EnvVar" {
				for _, e := range lit.Elts {
					names = append(names, nameOf(t, e.(*ast.CompositeLit)))
				}
			}
		}
		return true
	})
	return names
}

func nameOf(t *testing.T, envVar *ast.CompositeLit) string {
	t.Helper()
	for _, e := range envVar.Elts {
		kv, ok := e.(*ast.KeyValueExpr)
		if !ok || kv.Key.(*ast.Ident).Name != "Name" {
			continue
		}
		switch v := kv.Value.(type) {
		case *ast.BasicLit:
			s, err := strconv.Unquote(v.Value)
			if err != nil {
				t.Fatal(err)
			}
			return s
		case *ast.SelectorExpr:
			constant := v.X.(*ast.Ident).Name + "." + v.Sel.Name
			if foreign[constant] == "" {
				t.Errorf("the controller sets a variable named by %s: add it to foreign", constant)
			}
			return foreign[constant]
		}
	}
	t.Error("the controller sets a variable without a name that can be read")
	return ""
}

func TestSplitWords(t *testing.T) {
	for field, want := range map[string]string{
		"ServingPodIP": "SERVING_POD_IP", "QueueServingTLSPort": "QUEUE_SERVING_TLS_PORT", "UserPort": "USER_PORT",
		"EnableHTTPFullDuplex": "ENABLE_HTTP_FULL_DUPLEX", "TracingConfigDebug": "TRACING_CONFIG_DEBUG",
	} {
		if got := splitWords(field); got != want {
			t.Errorf("splitWords(%s) = %s, want %s", field, got, want)
		}
	}
}
