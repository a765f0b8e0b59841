package place_test

import (
	"fmt"
	"testing"

	"github.com/rousehq/rouse/internal/place"
)

const text = `kind: Deployment
metadata: &meta
  annotations:
    a: "1"
    b: |
      long
items:
- metadata: *meta
- {kind: X}
`

func TestPlaces(t *testing.T) {
	doc := place.Document([]byte(text), 10)
	for _, tc := range []struct {
		name  string
		got   place.Place
		line  int
		found bool
	}{
		{"the document", doc, 11, true},
		{"a field", doc.At("metadata", "annotations", "a"), 14, true},
		{"a block", doc.At("metadata", "annotations", "b"), 15, true},
		{"missing", doc.At("metadata", "annotations", "c"), 13, false},
		{"missing with its parents", doc.At("metadata", "labels", "c"), 12, false},
		{"an item", doc.At("items").Item(1).At("kind"), 19, true},
		{"behind an alias", doc.At("items").Item(0).At("metadata", "annotations", "a"), 14, true},
		{"no item", doc.At("items").Item(2), 17, false},
		{"no list", doc.At("kind").Item(0), 11, false},
		{"no YAML", place.Document([]byte("a: [\n"), 4).At("a"), 5, false},
		{"nothing", place.Document(nil, 0), 1, false},
	} {
		if tc.got.Line() != tc.line || tc.got.Found() != tc.found {
			t.Errorf("%s: line %d, found: %t; want %d, %t", tc.name, tc.got.Line(), tc.got.Found(), tc.line, tc.found)
		}
	}
}

func ExampleDocument() {
	doc := place.Document([]byte("kind: Service\nspec:\n  ports: many\n"), 0)
	fmt.Println(doc.At("spec", "ports").Line())
	// Output: 3
}

func FuzzDocument(f *testing.F) {
	f.Add([]byte(text), "metadata", 1)
	f.Fuzz(func(_ *testing.T, text []byte, key string, i int) {
		place.Document(text, 0).At(key).Item(max(0, i)).At(key).Line()
	})
}
