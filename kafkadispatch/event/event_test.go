package event

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// attributes is the event as a map, for comparing.
func attributes(e *Event) map[string]string {
	out := map[string]string{}
	e.All(func(name string, value []byte) { out[name] = string(value) })
	return out
}

// headersOf reads what AppendBinary wrote.
func headersOf(head []byte) func(func(name, value []byte)) {
	return func(f func(name, value []byte)) {
		for _, line := range bytes.Split(head, []byte("\r\n")) {
			if name, value, ok := bytes.Cut(line, []byte(": ")); ok {
				f(name, value)
			}
		}
	}
}

func sample(t testing.TB) *Event {
	t.Helper()
	m, err := NewMapper("n", "s", KeyString, map[string]string{"extra": "1"})
	if err != nil {
		t.Fatal(err)
	}
	e := &Event{}
	m.Map(e, &Record{Topic: "t", Partition: 2, Offset: 7, Time: time.UnixMilli(1500), Key: []byte("schlüssel 1"), Value: []byte(`{"a":1}`),
		Headers: []Header{{Key: "Content-Type", Value: []byte("application/JSON")}, {Key: "Trace", Value: []byte("a\"b%c")}}})
	return e
}

func TestBinaryComesBack(t *testing.T) {
	e := sample(t)
	back, err := ParseHTTP(headersOf(e.AppendBinary(nil)), e.Data)
	if err != nil || len(back) != 1 {
		t.Fatal(back, err)
	}
	if d := cmp.Diff(attributes(e), attributes(back[0])); d != "" || !bytes.Equal(e.Data, back[0].Data) {
		t.Errorf("the event changed:\n%s", d)
	}
}

func TestStructuredComesBack(t *testing.T) {
	for _, data := range []string{`{"a":1}`, "\x00\xff", "", `"text"`} {
		e := sample(t)
		e.Data = []byte(data)
		if !strings.HasPrefix(data, "{") {
			e.Set("datacontenttype", "application/octet-stream")
		}
		text := e.AppendJSON(nil)
		if !json.Valid(text) {
			t.Fatalf("not JSON: %s", text)
		}
		back, err := parseOne(text)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(attributes(e), attributes(back[0])); d != "" || !bytes.Equal(e.Data, back[0].Data) {
			t.Errorf("the event with data %q changed (data %q):\n%s", data, back[0].Data, d)
		}
	}
}

func TestNotEvents(t *testing.T) {
	for _, text := range []string{"", "x", "[]", `{"specversion":"1.0"}`, `{"specversion":"19.0","id":"1","source":"s","type":"t"}`,
		`{"specversion":"1.0","id":"1","source":"s","type":"t","not-ok":"x"}`, `{"specversion":"1.0","id":"1","source":"s","type":{}}`} {
		if got, err := parseOne([]byte(text)); err == nil {
			t.Errorf("parseOne(%s) = %v, want an error", text, got)
		}
	}
}

// A record that claims to be an event but lacks an attribute is mapped like any other.
func TestHalfEventIsMapped(t *testing.T) {
	m, err := NewMapper("n", "s", KeyString, nil)
	if err != nil {
		t.Fatal(err)
	}
	var e Event
	m.Map(&e, &Record{Topic: "t", Value: []byte("v"), Headers: []Header{{Key: "ce_specversion", Value: []byte("1.0")}}})
	if e.Get("type") != "dev.knative.kafka.event" || string(e.Data) != "v" {
		t.Errorf("type %q, data %q", e.Get("type"), e.Data)
	}
	if _, err := NewMapper("n", "s", KeyString, map[string]string{"Not-OK": "x"}); err == nil {
		t.Error("an override with a name that no extension may have was taken")
	}
}

func TestHeaderInjectionIsEscaped(t *testing.T) {
	e := sample(t)
	e.Set("evil", "x\r\nHost: other")
	e.Set("datacontenttype", "text/plain\r\nX: y")
	if n := bytes.Count(e.AppendBinary(nil), []byte("\r\n")); n != len(attributes(e)) {
		t.Errorf("%d lines for %d attributes", n, len(attributes(e)))
	}
}

func TestMapAllocatesNothing(t *testing.T) {
	m, err := NewMapper("n", "s", KeyString, nil)
	if err != nil {
		t.Fatal(err)
	}
	r := &Record{Topic: "t", Partition: 2, Offset: 7, Time: time.Now(), Value: []byte("v"), Headers: []Header{{Key: "h", Value: []byte("w")}}}
	var e Event
	var head []byte
	once := func() {
		e.Reset()
		m.Map(&e, r)
		head = e.AppendBinary(head[:0])
	}
	once()
	if n := testing.AllocsPerRun(100, once); n > 0 {
		t.Errorf("mapping a record allocates %v times", n)
	}
}

func BenchmarkMap(b *testing.B) {
	m, err := NewMapper("n", "s", KeyString, nil)
	if err != nil {
		b.Fatal(err)
	}
	r := &Record{Topic: "t", Partition: 2, Offset: 7, Time: time.Now(), Key: []byte("k1"), Value: make([]byte, 100)}
	var e Event
	var head []byte
	b.ReportAllocs()
	for b.Loop() {
		e.Reset()
		m.Map(&e, r)
		head = e.AppendBinary(head[:0])
	}
}

func FuzzStructured(f *testing.F) {
	f.Add([]byte(`{"specversion":"1.0","id":"1","source":"s","type":"t","n":1,"b":true,"data":{"x":[1]}}`))
	f.Add([]byte(`{"specversion":"1.0","id":"1","source":"s","type":"t","data_base64":"AA=="}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		es, err := parseOne(text)
		if err != nil {
			return
		}
		if _, err := parseOne(es[0].AppendJSON(nil)); err != nil {
			t.Fatalf("an event does not come back: %v\n%s", err, es[0].AppendJSON(nil))
		}
	})
}

func FuzzUnescape(f *testing.F) {
	f.Add("Euro € 😀 %41 \" \r\n")
	f.Fuzz(func(t *testing.T, text string) {
		want := strings.ToValidUTF8(text, "\uFFFD")
		if !strings.Contains(text, "\uFFFD") && want == text {
			if got := string(Unescape(AppendEscaped(nil, []byte(text)))); got != text {
				t.Fatalf("%q came back as %q", text, got)
			}
		}
		for _, c := range AppendEscaped(nil, []byte(text)) {
			if c <= ' ' || c >= 0x7f {
				t.Fatalf("%q was escaped with the byte %#x", text, c)
			}
		}
	})
}
