package inject

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
	"pgregory.net/rapid"
	kube "sigs.k8s.io/yaml"
)

// argument returns the first argument of a Deployment's container, as the decoder here or kubectl's reads it.
func argument(t interface{ Fatalf(string, ...any) }, decode func([]byte, any) error, text []byte) string {
	var d struct {
		Spec struct {
			Template struct {
				Spec struct {
					Containers []struct {
						Args []string `json:"args" yaml:"args"`
					} `json:"containers" yaml:"containers"`
				} `json:"spec" yaml:"spec"`
			} `json:"template" yaml:"template"`
		} `json:"spec" yaml:"spec"`
	}
	if err := decode(text, &d); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return d.Spec.Template.Spec.Containers[0].Args[0]
}

// script is a Deployment whose container has one argument, written as a block with the given header and lines.
func script(header string, lines []string, indent int) string {
	var b strings.Builder
	b.WriteString(`apiVersion: apps/v1
kind: Deployment
metadata: {name: hello, annotations: {rouse.dev/inject: enabled}}
spec:
  template:
    spec:
      containers:
      - name: user
        args:
        - ` + header + "\n")
	for _, l := range lines {
		if l != "" {
			b.WriteString(strings.Repeat(" ", 10+indent) + l)
		}
		b.WriteByte('\n')
	}
	b.WriteString("        image: x\n        ports: [{containerPort: 8080}]\n")
	return b.String()
}

// TestFolds: the start script of a container is what it was.
func TestFolds(t *testing.T) {
	text := script(">", []string{"exec java \\", "  -Xmx1g \\", "  -jar app.jar", "", "# end"}, 0)
	once := injected(t, "x", []byte(text), options).YAML
	if want, got := argument(t, yaml.Unmarshal, []byte(text)), argument(t, yaml.Unmarshal, once); got != want || !strings.Contains(string(once), "name: queue-proxy") {
		t.Errorf("the argument has become (-was +is):\n%s\n%s", cmp.Diff(want, got), once)
	}
}

// TestTextsStay: injection changes no text, in whatever style it is written.
func TestTextsStay(t *testing.T) {
	line := rapid.OneOf(rapid.Just(""), rapid.SampledFrom([]string{" x", "   deep", "\ttab", "trailing ", "# no comment", "- item", "key: value", "é😀\u00a0", "'", `"\n"`, "--- x", "%", "a\u2028b", "  "}),
		rapid.StringMatching(`[ \ta-z#:"'\\-]{0,12}`))
	rapid.Check(t, func(t *rapid.T) {
		indent := rapid.IntRange(0, 4).Draw(t, "indent")
		header := rapid.SampledFrom([]string{"|", ">"}).Draw(t, "style") + rapid.SampledFrom([]string{"", "-", "+"}).Draw(t, "end")
		lines := rapid.SliceOfN(line, 0, 8).Draw(t, "lines")
		text := script(header, lines, indent)
		if rapid.Bool().Draw(t, "flow") {
			value := rapid.OneOf(rapid.String(), rapid.Map(rapid.SliceOf(line), func(l []string) string { return strings.Join(l, "\n") })).Draw(t, "value")
			text = strings.Replace(small, "{name: user,", fmt.Sprintf("{args: [%s], name: user,", quoted(t, value)), 1)
		}
		r, err := Manifest("x", []byte(text), options)
		if err != nil {
			if yaml.Unmarshal([]byte(text), new(any)) == nil {
				t.Fatalf("%v\n%s", err, text)
			}
			return // the lines made no block
		}
		if len(r.Injected) != 1 {
			return
		}
		for name, decode := range map[string]func([]byte, any) error{"here": yaml.Unmarshal, "kubectl": readByKubectl} {
			if decode([]byte(text), new(any)) != nil {
				continue
			}
			if want, got := argument(t, decode, []byte(text)), argument(t, decode, r.YAML); got != want {
				t.Fatalf("%s: %q has become %q:\n%s\n%s", name, want, got, text, r.YAML)
			}
		}
	})
}

// TestUnlike: a text that reads otherwise than the tree is found out.
func TestUnlike(t *testing.T) {
	var root yaml.Node
	if err := yaml.Unmarshal([]byte("a: 1\nb: {c: [x, y]}\n"), &root); err != nil {
		t.Fatal(err)
	}
	for text, line := range map[string]int{
		"b: {c: [x, y]}\na: 1\n": 1, "a: 1\nb: {c: ['x', \"y\"]}\n": 0, "a: '1'\nb: {c: [x, y]}\n": 1, "a: 1\nb: {c: [x, z]}\n": 2, "a: 1\nb: {c: [x]}\n": 2, "a: [": 1, "": 1,
	} {
		switch off := unlike(&root, []byte(text)); {
		case off == nil && line > 0, off != nil && off.Line != line && off.Kind != yaml.DocumentNode:
			t.Errorf("unlike(%q) = %+v, want line %d", text, off, line)
		}
	}
}

func readByKubectl(text []byte, into any) error { return kube.Unmarshal(text, into) }

func quoted(t *rapid.T, value string) []byte {
	n := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: value, Style: yaml.DoubleQuotedStyle}
	text, err := yaml.Marshal(n)
	if err != nil {
		t.Fatal(err)
	}
	return []byte(strings.TrimSuffix(string(text), "\n"))
}
