package sampleapp

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

const shown = `☁️  cloudevents.Event
Context Attributes,
  specversion: 1.0
  type: t
  source: /s
  id: 1
  datacontenttype: application/json
Extensions,
  key: 7
Data,
  {
    "a": 1
  }
`

func TestEventDisplay(t *testing.T) {
	const structured = `{"specversion":"1.0","type":"t","source":"/s","id":"1","key":7,"datacontenttype":"application/json","data":{"a":1}}`
	text := strings.Replace(shown, "Data,\n  {\n    \"a\": 1\n  }\n", "Data,\n  hi\n", 1)
	binary := http.Header{
		"Ce-Specversion": {"1.0"}, "Ce-Type": {"t"}, "Ce-Source": {"/s"}, "Ce-Id": {"1"}, "Ce-Key": {"7"}, "Content-Type": {"application/json"},
	}
	kind := func(s string) http.Header { return http.Header{"Content-Type": {s}} }
	for _, tc := range []struct {
		name   string
		header http.Header
		body   string
		status int
		want   string // on standard output, or in the answer
	}{
		{"binary", binary, `{"a":1}`, 202, shown},
		{"binary that is no JSON", binary, `hi`, 202, text},
		{"structured", kind("application/cloudevents+json; charset=utf-8"), structured, 202, shown},
		{"base64", kind("application/cloudevents+json"), strings.Replace(structured, `"data":{"a":1}`, `"data_base64":"aGk="`, 1), 202, text},
		{"batch", kind("application/cloudevents-batch+json"), "[" + structured + "," + structured + "]", 202, shown + shown},
		{"empty batch", kind("application/cloudevents-batch+json"), "[]", 202, ""},
		{"no event", kind("application/json"), `{"a":1}`, 400, "attribute specversion is missing"},
		{"id missing", kind("application/cloudevents+json"), `{"specversion":"1.0","type":"t","source":"/s"}`, 400, "attribute id is missing"},
		{"no JSON", kind("application/cloudevents+json"), `{`, 400, "unexpected end"},
		{"bad base64", kind("application/cloudevents+json"), `{"data_base64":"?"}`, 400, "data_base64"},
		{"bad batch", kind("application/cloudevents-batch+json"), `[{}]`, 400, "event 0 of the batch"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var out strings.Builder
			r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(tc.body))
			r.Header = tc.header
			w := httptest.NewRecorder()
			newEventDisplay(&out).ServeHTTP(w, r)
			if w.Code != tc.status {
				t.Fatalf("status = %d, want %d; body %q", w.Code, tc.status, w.Body)
			}
			if tc.status == 202 && out.String() != tc.want {
				t.Errorf("printed %q, want %q", out.String(), tc.want)
			}
			if tc.status != 202 && (out.Len() > 0 || !strings.Contains(w.Body.String(), tc.want)) {
				t.Errorf("printed %q and answered %q, want nothing and %q", out.String(), w.Body, tc.want)
			}
		})
	}
}

func FuzzDecodeEvents(f *testing.F) {
	f.Add("application/cloudevents+json", `{"specversion":"1.0","type":"t","source":"/s","id":"1","data":null}`)
	f.Add("application/cloudevents-batch+json", `[{}]`)
	f.Add("text/plain", "x")
	f.Fuzz(func(t *testing.T, kind, body string) {
		events, err := decodeEvents(http.Header{"Content-Type": {kind}}, []byte(body))
		if err != nil {
			return
		}
		for _, e := range events {
			var out strings.Builder
			e.print(&out)
			if e.check() != nil || !strings.HasPrefix(out.String(), "☁️") {
				t.Errorf("decodeEvents(%q, %q) let %+v through", kind, body, e)
			}
		}
	})
}
