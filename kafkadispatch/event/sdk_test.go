package event

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"mime"
	"net/url"
	"strings"
	"testing"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"
	"github.com/cloudevents/sdk-go/v2/types"
	"github.com/google/go-cmp/cmp"
)

// The SDK is the oracle for what is written by hand: whatever a record holds, the SDK reads the same event out of it.

// fuzzed maps a record made of arbitrary parts.
func fuzzed(t testing.TB, offset int64, key, value, header []byte, kind string) *Event {
	t.Helper()
	m, err := NewMapper("n", "s", KeyString, map[string]string{"extra": "ü \""})
	if err != nil {
		t.Fatal(err)
	}
	r := &Record{Topic: "t", Partition: 3, Offset: offset, Time: time.UnixMilli(offset % (1 << 40)), Key: key, Value: value, Headers: []Header{{"H-1", header}}}
	if kind != "" {
		r.Headers = append(r.Headers, Header{"content-type", []byte(kind)})
	}
	e := &Event{}
	m.Map(e, r)
	return e
}

// texts is what the SDK has to have: our attributes, in valid UTF-8.
func texts(e *Event) map[string]string {
	out := map[string]string{}
	e.All(func(name string, value []byte) { out[name] = replaced(value) })
	return out
}

// replaced makes each byte that is no UTF-8 a replacement character of its own, as a range over it does.
func replaced(value []byte) string {
	var b strings.Builder
	for _, r := range string(value) {
		b.WriteRune(r)
	}
	return b.String()
}

func sameAsSDK(t *testing.T, e *Event, got *ce.Event) {
	t.Helper()
	if err := got.Validate(); err != nil {
		t.Fatalf("the SDK calls it invalid: %v", err)
	}
	if diff := cmp.Diff(texts(e), attributes(fromSDK(got))); diff != "" {
		t.Fatalf("the SDK reads another event (-ours +SDK's):\n%s", diff)
	}
}

func FuzzSDKReadsStructured(f *testing.F) {
	f.Add(int64(7), []byte("k"), []byte(`{"a": 1}`), []byte("h"), "application/json")
	f.Add(int64(math.MaxInt64), []byte(nil), []byte("text\x00\"\\ü"), []byte("\x01"), "text/plain")
	f.Add(int64(1<<31), []byte{0xff, 0xfe}, []byte{0, 0xff}, []byte(nil), "application/octet-stream")
	f.Add(int64(0), []byte("k"), []byte("no type"), []byte("h"), "")
	f.Add(int64(0), []byte("k"), []byte(`"a"`), []byte("h"), "application/x+json; charset=utf-8")
	f.Fuzz(func(t *testing.T, offset int64, key, value, header []byte, kind string) {
		if offset < 0 || !mediaType(kind) {
			return
		}
		e := fuzzed(t, offset, key, value, header, kind)
		text := e.AppendJSON(nil)
		var got ce.Event
		if err := json.Unmarshal(text, &got); err != nil {
			t.Fatalf("the SDK does not read %s: %v", text, err)
		}
		sameAsSDK(t, e, &got)
		if strings.HasSuffix(media(kind), "+json") && bytes.HasPrefix(bytes.TrimSpace(e.Data), []byte{'"'}) {
			return // the SDK takes a JSON string of a +json type for text
		}
		if string(got.Data()) != string(e.Data) && !sameJSON(got.Data(), e.Data) {
			t.Fatalf("the data %q became %q in %s", e.Data, got.Data(), text)
		}
	})
}

// mediaType says whether a content type is one; what producers write into it otherwise goes on as it is.
func mediaType(kind string) bool {
	_, _, err := mime.ParseMediaType(kind)
	return kind == "" || err == nil && !strings.ContainsFunc(kind, func(c rune) bool { return c < ' ' || c >= 0x7f }) && strings.TrimSpace(kind) == kind
}

// sameJSON says whether two texts are the same JSON value: what is between its parts is nobody's data.
func sameJSON(a, b []byte) bool {
	var x, y any
	return json.Unmarshal(a, &x) == nil && json.Unmarshal(b, &y) == nil && cmp.Equal(x, y)
}

func FuzzSDKTakesBinary(f *testing.F) {
	f.Add(int64(7), []byte("k 1%\"ü"), []byte("v"), []byte("a\r\nb: c"), "text/plain")
	f.Add(int64(7), []byte{0xff}, []byte("v"), []byte{0xc3}, "")
	f.Fuzz(func(t *testing.T, offset int64, key, value, header []byte, kind string) {
		if offset < 0 || !mediaType(kind) {
			return
		}
		e := fuzzed(t, offset, key, value, header, kind)
		var got ce.Event
		for _, line := range strings.Split(strings.TrimSuffix(string(e.AppendBinary(nil)), "\r\n"), "\r\n") {
			name, value, ok := strings.Cut(line, ": ")
			if !ok {
				t.Fatalf("%q is no header line", line)
			}
			plain, err := url.PathUnescape(value) // the decoder of the standard library is the oracle for the escapes
			switch {
			case name == "content-type":
				got.SetDataContentType(value)
				continue
			case err != nil:
				t.Fatalf("%q: %v", line, err)
			case name == "ce-specversion":
				got.SetSpecVersion(plain)
				continue
			}
			setSDK(&got, strings.TrimPrefix(name, "ce-"), plain)
		}
		sameAsSDK(t, e, &got)
	})
}

func TestParseHTTP(t *testing.T) {
	one := `{"specversion":"1.0","id":"1","source":"/s","type":"t","n":5,"b":true,"data":{"x":[1]}}`
	for _, c := range []struct {
		name, kind, body string
		head             map[string]string
		want             []string // ids
		data             string
	}{
		{"structured", Structured + "; charset=UTF-8", one, nil, []string{"1"}, `{"x":[1]}`},
		{"batched", Batched, "[" + one + "," + strings.Replace(one, `"id":"1"`, `"id":"2"`, 1) + "]", nil, []string{"1", "2"}, `{"x":[1]}`},
		{"empty batch", Batched, "[]", nil, nil, ""},
		{"binary", "text/plain", "v", map[string]string{"Ce-Specversion": "1.0", "ce-id": "a%20b", "CE-Source": "/s", "ce-type": "t"}, []string{"a b"}, "v"},
		{"binary 0.3", "", "", map[string]string{"ce-specversion": "0.3", "ce-id": "1", "ce-source": "/s", "ce-type": "t"}, []string{"1"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := ParseHTTP(headersFrom(c.head, c.kind), []byte(c.body))
			if err != nil {
				t.Fatal(err)
			}
			var ids []string
			for _, e := range got {
				ids = append(ids, e.Get("id"))
				if string(e.Data) != c.data {
					t.Errorf("data %q, want %q", e.Data, c.data)
				}
			}
			if diff := cmp.Diff(c.want, ids); diff != "" {
				t.Errorf("ids (-want +got):\n%s", diff)
			}
		})
	}
}

func headersFrom(head map[string]string, kind string) func(func(name, value []byte)) {
	return func(f func(name, value []byte)) {
		if kind != "" {
			f([]byte("Content-Type"), []byte(kind))
		}
		for k, v := range head {
			f([]byte(k), []byte(v))
		}
	}
}

// What a sink answers may be anything: nothing of it panics, and what is taken has what an event must have.
func FuzzParseHTTP(f *testing.F) {
	f.Add(Structured, []byte(`{"specversion":"1.0","id":"1","source":"/s","type":"t","data_base64":"AA=="}`), "1.0", "1", "/s")
	f.Add(Batched, []byte(`[{"specversion":"0.3","id":"1","source":"/s","type":"t","datacontentencoding":"base64","data":"AA=="}]`), "", "", "")
	f.Add("text/plain", []byte("v"), "1.0", "a%20b", "::")
	f.Fuzz(func(t *testing.T, kind string, body []byte, version, id, source string) {
		es, err := ParseHTTP(headersFrom(map[string]string{"ce-specversion": version, "ce-id": id, "ce-source": source, "ce-type": "t"}, kind), body)
		if err != nil {
			return
		}
		for _, e := range es {
			if e.Get("id") == "" || e.Get("source") == "" || e.Get("type") == "" || !knownVersion(e.Get("specversion")) {
				t.Fatalf("taken for an event: %v", attributes(e))
			}
		}
	})
}

func TestParseHTTPRefuses(t *testing.T) {
	valid := map[string]string{"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/s", "ce-type": "t"}
	with := func(name, value string) map[string]string {
		out := map[string]string{name: value}
		for k, v := range valid {
			if k != name {
				out[k] = v
			}
		}
		return out
	}
	for _, c := range []struct {
		name, kind, body string
		head             map[string]string
	}{
		{"no event", "text/html", "<html>", nil},
		{"no id", "", "", with("ce-id", "")},
		{"time that is none", "", "", with("ce-time", "yesterday")},
		{"extension with a dash", "", "", with("ce-not-ok", "1")},
		{"unknown version", "", "", with("ce-specversion", "19.0")},
		{"structured, not JSON", Structured, "x", nil},
		{"structured, no type", Structured, `{"specversion":"1.0","id":"1","source":"/s"}`, nil},
		{"batch of nothing that is one", Batched, `[{}]`, nil},
		{"batch too long", Batched, "[" + strings.Repeat(`{"specversion":"1.0","id":"1","source":"/s","type":"t"},`, maxEvents) +
			`{"specversion":"1.0","id":"1","source":"/s","type":"t"}]`, nil},
	} {
		if got, err := ParseHTTP(headersFrom(c.head, c.kind), []byte(c.body)); err == nil {
			t.Errorf("%s: ParseHTTP = %v, want an error", c.name, got)
		}
	}
}

func BenchmarkWriteStructured(b *testing.B) {
	e := fuzzed(b, 7, []byte("k"), []byte(`{"a": 1}`), []byte("h"), "application/json")
	b.Run("own", func(b *testing.B) {
		var buf []byte
		b.ReportAllocs()
		for b.Loop() {
			buf = e.AppendJSON(buf[:0])
		}
	})
	b.Run("sdk", func(b *testing.B) {
		sdk := toSDK(e)
		b.ReportAllocs()
		for b.Loop() {
			if _, err := json.Marshal(sdk); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkMapSDK stands beside BenchmarkMap: the same record, built with the SDK and written by hand.
func BenchmarkMapSDK(b *testing.B) {
	at := time.Now()
	b.ReportAllocs()
	for b.Loop() {
		e := ce.New()
		e.SetID(fmt.Sprintf("partition:%d/offset:%d", 2, 7))
		e.SetType("dev.knative.kafka.event")
		e.SetSource("/apis/v1/namespaces/n/kafkasources/s#t")
		e.SetSubject(fmt.Sprintf("partition:%d#%d", 2, 7))
		e.SetTime(at)
		e.SetExtension("key", "k1")
		e.SetExtension("partitionkey", "k1")
		e.SetExtension("knativekafkapartition", 2)
		e.SetExtension("knativekafkaoffset", 7)
		if err := e.Validate(); err != nil {
			b.Fatal(err)
		}
		_ = fromSDK(&e).AppendBinary(nil)
	}
}

func BenchmarkReadStructured(b *testing.B) {
	text := fuzzed(b, 7, []byte("k"), []byte(`{"a": 1}`), []byte("h"), "application/json").AppendJSON(nil)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := parseOne(text); err != nil {
			b.Fatal(err)
		}
	}
}

func toSDK(e *Event) *ce.Event {
	out := ce.New()
	e.All(func(name string, value []byte) {
		switch name {
		case "specversion":
		case "datacontenttype":
			out.SetDataContentType(string(value))
		case "time":
			at, _ := types.ParseTime(string(value))
			out.SetTime(at)
		default:
			setSDK(&out, name, string(value))
		}
	})
	out.DataEncoded = e.Data
	return &out
}
