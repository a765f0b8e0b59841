package jsontext

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"
	"sigs.k8s.io/yaml"
)

func TestForYAML(t *testing.T) {
	for in, want := range map[string]string{
		`{"a": "\ud83d\ude00 \/ \u00e9 \\/ \\ud83d"}`: `{"a": "😀 / \u00e9 \\/ \\ud83d"}`,
		`{"a": "\ud83d"}`:             `{"a": "` + "\ufffd" + `"}`,
		`{"a": "\ude00\ud83d\n"}`:     `{"a": "` + "\ufffd\ufffd" + `\n"}`,
		"{\"a\": \"\u0085\u2028\"}":   `{"a": "\u0085\u2028"}`,
		"{\"a\": \"\\ud83d\\udfff\"}": `{"a": "` + "\U0001f7ff" + `"}`,
		"--- {\"a\": \"\\/\"}\n---\na: \"\\/\"\n...\n{\"b\": \"\\/\"}\n": "--- {\"a\": \"/\"}\n---\na: \"\\/\"\n...\n{\"b\": \"/\"}\n",
		"a: '\\/'\n": "a: '\\/'\n",
		`{a: "\/"}`:  `{a: "\/"}`,
		"":           "",
	} {
		if got := string(ForYAML([]byte(in))); got != want {
			t.Errorf("ForYAML(%q) = %q, want %q", in, got, want)
		}
	}
}

// TestForYAMLReadsTheSame: to JSON's decoder before and after, and to kubectl's of YAML after.
func TestForYAMLReadsTheSame(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{"\u0085", "\x7f", "\ufeff", "\u2028x", "😀", "a/b", "\x00"})).Draw(t, "text")
		encoded, err := json.Marshal(map[string]any{"a": text, "b": []any{1, 1.5, true, nil, text}})
		if err != nil {
			t.Fatal(err)
		}
		source := []byte(strings.ReplaceAll(strings.ReplaceAll(string(encoded), "/", `\/`), "😀", `\ud83d\ude00`))
		var want, plain, read map[string]any
		rewritten := ForYAML(source)
		if err := json.Unmarshal(source, &want); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(rewritten, &plain); err != nil || !reflect.DeepEqual(plain, want) {
			t.Fatalf("as JSON %q has become %q (%v)", source, rewritten, err)
		}
		if err := yaml.Unmarshal(rewritten, &read); err != nil || !reflect.DeepEqual(read, want) {
			t.Fatalf("as YAML %q reads %v, want %v (%v)", rewritten, read, want, err)
		}
	})
}

func TestStream(t *testing.T) {
	for in, want := range map[string]string{
		"--- {\"a\": 1}\n---\n{\"b\": 2}": "{\"a\": 1}\n{\"b\": 2}\n", "{}\n": "{}\n", "{}\n---\na: 1\n": "", "a: 1": "", "": "", "---\n# c\n{}": "",
	} {
		if got, ok := Stream([]byte(in)); string(got) != want || ok != (want != "") {
			t.Errorf("Stream(%q) = %q, %t, want %q", in, got, ok, want)
		}
	}
}

// FuzzForYAML: no input makes it panic, and what is JSON stays JSON.
func FuzzForYAML(f *testing.F) {
	f.Add([]byte(`{"a": "\ud83d\ude00\/\ud83d"}`))
	f.Add([]byte("--- {\"a\": \"\\u00\"}\n...\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		out := ForYAML(text)
		if json.Valid(text) && !json.Valid(out) {
			t.Errorf("%q has become %q", text, out)
		}
		Stream(text)
	})
}
