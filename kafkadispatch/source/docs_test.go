package source

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/rousehq/rouse/kafkadispatch"
	"github.com/rousehq/rouse/kafkadispatch/sink"
)

// annotationsInCode are the values of the constants Annotation….
func annotationsInCode(t *testing.T) (out []string) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "source.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(file, func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok && strings.HasPrefix(spec.Names[0].Name, "Annotation") {
			value, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, value)
		}
		return true
	})
	return out
}

// annotationsInPage are default and bounds of the rows in docs/kafka.md, by name.
func annotationsInPage(t *testing.T) map[string][2]string {
	t.Helper()
	page, err := os.ReadFile("../../docs/kafka.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(page), "\n## Annotations\n")
	section, _, _ = strings.Cut(section, "\n## ")
	rows := make(map[string][2]string)
	for line := range strings.Lines(section) {
		if cells := strings.Split(line, "|"); strings.HasPrefix(line, "| `") {
			rows[strings.Trim(cells[1], " `")] = [2]string{strings.TrimSpace(cells[2]), strings.TrimSpace(cells[3])}
		}
	}
	return rows
}

// refusal is what an annotation must be, in the words of the error that refuses nonsense.
func refusal(t *testing.T, name string) string {
	t.Helper()
	c, err := configOf(t, manifest(name+`: "?"`, least))
	if err == nil && c.Reply.HTTP != nil {
		_, err = sink.New(*c.Reply.HTTP)
	}
	if err == nil {
		return "any text"
	}
	_, must, _ := strings.Cut(err.Error(), ": must be ")
	return must
}

// TestAnnotationsAreDocumented holds docs/kafka.md to the annotations, their defaults and what is allowed.
func TestAnnotationsAreDocumented(t *testing.T) {
	c, rows := kafkadispatch.DefaultConfig(), annotationsInPage(t)
	defaults := map[string]string{
		AnnotationOrder: c.Order.Mode.String(), AnnotationMode: string(c.Mode), AnnotationExhausted: string(c.Exhausted),
		AnnotationBatch: fmt.Sprint(c.Batch.Records), AnnotationLinger: fmt.Sprintf("PT%gS", c.Batch.Linger.Seconds()),
		AnnotationInFlight: fmt.Sprint(c.Order.MaxInFlight), AnnotationHTTP2: fmt.Sprint(c.Sink.HTTP2),
		AnnotationPartitions: fmt.Sprint((&KafkaSource{}).Partitions()), AnnotationProtocol: map[bool]string{false: "classic", true: "consumer"}[c.Kafka.NextGen],
	}
	for _, name := range annotationsInCode(t) {
		row, ok := rows[name]
		delete(rows, name)
		want := [2]string{"none", refusal(t, name)}
		if d, ok := defaults[name]; ok {
			want[0] = d
		}
		if !ok || row != want {
			t.Errorf("docs/kafka.md says of %s %q, want %q", name, row, want)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(rows)) {
		t.Errorf("docs/kafka.md has a row of %s, which nothing reads", name)
	}
}

// TestExample: examples/kafka.yaml makes a configuration.
func TestExample(t *testing.T) {
	text, err := os.ReadFile("../../examples/kafka.yaml")
	if err != nil {
		t.Fatal(err)
	}
	doc, _, _ := strings.Cut(string(text), "\n---\n")
	c, err := configOf(t, doc)
	if err != nil || c.DeadLetter.Topic != "orders-dead" {
		t.Errorf("Config = %+v, %v; want one with a dead letter topic", c, err)
	}
}
