package manifest

import (
	"slices"
	"strings"
	"testing"
)

func TestSeparated(t *testing.T) {
	for _, tc := range []struct{ name, text, want string }{ // want is empty when nothing changes
		{"one a line", `{"a": 1}` + "\n" + `{"b": 2}` + "\n", `--- {"a": 1}` + "\n" + `--- {"b": 2}` + "\n"},
		{"on one line", `{"a":1} {"b":2}{"c":3}`, `--- {"a":1}` + "\n" + `--- {"b":2}` + "\n" + `--- {"c":3}`},
		{"over lines", "\n{\n \"a\": \"}{\"\n}\n  {\n}\n", "\n--- {\n \"a\": \"}{\"\n}\n--- {\n}\n"},
		{"comments", "# one\n{} # two\n{}\n# three", "# one\n--- {} # two\n--- {}\n# three"},
		{"the second is YAML", "{}\n{a: b}\n", "--- {}\n--- {a: b}\n"},
		{"the third ends early", `{}{}{"a":`, "--- {}\n--- {}\n--- {\"a\":"},
		{"one", `{"a": 1}` + "\n", ""},
		{"one, and a document of YAML", "{}\n---\na: b\n", ""},
		{"YAML", "a: b\n---\nc: d\n", ""},
		{"YAML in braces", "{a: b}\n", ""},
		{"a list", `[{}, {}]`, ""},
		{"nothing", "", ""},
	} {
		got, stream := separated([]byte(tc.text))
		if want := tc.want; stream != (want != "") || string(got) != want && string(got) != tc.text || stream && string(got) != want {
			t.Errorf("%s: separated(%q) = %q, %t; want %q", tc.name, tc.text, got, stream, want)
		}
	}
}

// TestLoadStream: `rouse up` reads every object of a stream, and names the line where one is.
func TestLoadStream(t *testing.T) {
	service := func(name, image string) string {
		return `{"apiVersion": "serving.knative.dev/v1", "kind": "Service", "metadata": {"name": "` + name + `"},` + "\n" +
			` "spec": {"template": {"spec": {"containers": [{"` + image + `": "x"}]}}}}`
	}
	sources, err := Open(strings.NewReader(service("one", "image")+"\n"+service("two", "image")+"\n"+service("three", "imag")), "-")
	if err != nil {
		t.Fatal(err)
	}
	set, diags := Load(sources, Options{})
	var names []string
	for i := range set.Services {
		names = append(names, set.Services[i].Name)
	}
	if !slices.Contains(names, "one") || !slices.Contains(names, "two") || !strings.Contains(diags.String(), "stdin:6: ") {
		t.Errorf("services %q, and\n%s\nwant one, two and a fault of line 6", names, diags)
	}
}

// FuzzSeparated: what is separated once has nothing left to separate, and every byte but blanks is kept.
func FuzzSeparated(f *testing.F) {
	f.Add([]byte(`{"a": "}{"} {} # {}` + "\n{"))
	f.Fuzz(func(t *testing.T, text []byte) {
		got, stream := separated(text)
		if _, again := separated(got); again || !stream && string(got) != string(text) {
			t.Errorf("separated(%q) = %q, which is a stream again: %t", text, got, again)
		}
		bare := func(b []byte) string {
			return strings.Join(strings.Fields(strings.ReplaceAll(string(b), "--- {", "{")), "")
		}
		if stream && bare(got) != bare(text) {
			t.Errorf("separated(%q) = %q", text, got)
		}
	})
}

// TestJSONEscapes: what every encoder of JSON may write is read, alone and in a stream.
func TestJSONEscapes(t *testing.T) {
	const object = `{"apiVersion": "serving.knative.dev\/v1", "kind": "Service", "metadata": {"name": "NAME"}, "spec": {"template": {"spec": {"containers": [
		{"image": "a\/b", "env": [{"name": "A", "value": "\ud83d\ude00"}]}]}}}}`
	for _, names := range []string{"a", "a b", "a b c"} {
		var text string
		for name := range strings.FieldsSeq(names) {
			text += strings.Replace(object, "NAME", name, 1) + "\n"
		}
		sources, err := Open(strings.NewReader(text), "-")
		if err != nil {
			t.Fatal(err)
		}
		set, diags := Load(sources, Options{})
		if diags.Err() != nil || len(set.Services) != len(strings.Fields(names)) {
			t.Fatalf("%s: %v, %d services", names, diags, len(set.Services))
		}
		if c := set.Services[0].Template.Containers[0]; c.Image != "a/b" || c.Env[0].Value != "😀" {
			t.Errorf("%s: read %+v", names, c)
		}
	}
}
