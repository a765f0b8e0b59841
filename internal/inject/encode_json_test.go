package inject

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const smallJSON = `{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "hello", "annotations": {"rouse.dev/inject": "enabled", "note": "\ud83d\ude00 a\/b \u0085 <&>"}}, "spec": {"replicas": 1, "extra": [1.50, 1e3, 12345678901234567890123, -0, true, null, {}, []], "template": {"spec": {"containers": [{"name": "user", "image": "x", "ports": [{"containerPort": 8080}], "readinessProbe": {"httpGet": {"path": "\/ok", "port": 8080}}}]}}}}`

// TestJSONStaysJSON: what is JSON comes out as JSON, laid out as it was.
func TestJSONStaysJSON(t *testing.T) {
	indented := func(indent string) string {
		var b bytes.Buffer
		if err := json.Indent(&b, []byte(smallJSON), "", indent); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	var tight bytes.Buffer
	if err := json.Compact(&tight, []byte(smallJSON)); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct{ text, says string }{
		"two spaces": {indented("  ") + "\n", "\n  \"kind\": \"Deployment\",\n"}, "tabs": {indented("\t"), "\n\t\t\"name\": \"hello\",\n"},
		"one line": {smallJSON + "\n", `"name": "hello", "annotations"`}, "tight": {tight.String(), `"name":"hello","annotations"`},
		"behind a marker": {"---\n" + indented("    "), "---\n{\n    \"apiVersion\""},
		"a first line":    {`{"apiVersion": "apps/v1",` + "\n" + strings.TrimPrefix(smallJSON, `{"apiVersion": "apps/v1",`), "\n  \"kind\": \"Deployment\",\n"},
	} {
		r := injected(t, "x", []byte(tc.text), options)
		got := string(r.YAML)
		if !strings.Contains(got, tc.says) || !strings.Contains(got, "1.50") || !strings.Contains(got, "12345678901234567890123") || !strings.Contains(got, "<&>") || strings.Count(got, "\n") < strings.Count(tc.text, "\n") {
			t.Errorf("%s: lacks %q, or numbers as they were:\n%s", name, tc.says, got)
		}
		var was, is map[string]any
		if err := json.Unmarshal([]byte(strings.TrimPrefix(tc.text, "---\n")), &was); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal([]byte(strings.TrimPrefix(got, "---\n")), &is); err != nil {
			t.Errorf("%s: %v\n%s", name, err, got)
			continue
		}
		if d := cmp.Diff(was["metadata"], is["metadata"]); d != "" || !strings.Contains(got, `\"httpGet\":{\"path\":\"/ok\",\"port\":8080,`) {
			t.Errorf("%s: the metadata have changed, or the probe was not read (-was +is):\n%s\n%s", name, d, got)
		}
		if twice := injected(t, "x", r.YAML, options); string(twice.YAML) != got {
			t.Errorf("%s: twice is not once (-once +twice):\n%s", name, cmp.Diff(got, string(twice.YAML)))
		}
	}
}

// TestJSONLists: a List, as kubectl get -o json prints it.
func TestJSONLists(t *testing.T) {
	r := injected(t, "x", []byte(`{"apiVersion": "v1", "kind": "List", "items": [`+smallJSON+`, {"kind": "ConfigMap", "apiVersion": "v1"}]}`), options)
	if !json.Valid(r.YAML) || len(r.Injected) != 1 {
		t.Errorf("injected %q, want one, in JSON:\n%s", r.Injected, r.YAML)
	}
}
