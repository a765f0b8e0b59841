package sampleapp

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"slices"
	"strings"
	"sync"
)

// maxEvent bounds a request's body: events are small.
const maxEvent = 16 << 20

// event is a CloudEvent with its attributes as text, as they are shown.
type event struct {
	attrs map[string]string
	data  []byte
}

// The attributes that every event has, and those that an event may have, in the order in which they are shown
// (CloudEvents 1.0, sections 3.1.1 and 3.1.2). All others are extensions.
var (
	requiredAttrs = [...]string{"specversion", "type", "source", "id"}
	optionalAttrs = [...]string{"subject", "time", "dataschema", "datacontenttype"}
)

// eventDisplay prints the events that it is sent. It is safe for concurrent use.
type eventDisplay struct {
	mu  sync.Mutex
	out io.Writer // guarded by mu
}

func newEventDisplay(out io.Writer) *eventDisplay { return &eventDisplay{out: out} }

// ServeHTTP takes an event in binary or structured mode, or a batch, prints it and answers 202. What is no event is
// answered with 400 and the reason.
func (d *eventDisplay) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxEvent))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	events, err := decodeEvents(r.Header, body)
	if err != nil {
		http.Error(w, "not a CloudEvent: "+err.Error(), http.StatusBadRequest)
		return
	}
	var text bytes.Buffer
	for _, e := range events {
		e.print(&text)
	}
	d.mu.Lock()
	_, err = d.out.Write(text.Bytes())
	d.mu.Unlock()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.WriteHeader(http.StatusAccepted)
}

// decodeEvents tells the mode by the content type, as section 3 of the HTTP protocol binding says.
func decodeEvents(h http.Header, body []byte) ([]event, error) {
	mediaType, _, _ := mime.ParseMediaType(h.Get("Content-Type")) // what does not parse is binary mode's own affair
	switch mediaType {
	case "application/cloudevents+json":
		e, err := decodeJSON(body)
		return []event{e}, err
	case "application/cloudevents-batch+json":
		var raw []json.RawMessage
		if err := json.Unmarshal(body, &raw); err != nil {
			return nil, err
		}
		events := make([]event, 0, len(raw))
		for i, b := range raw {
			e, err := decodeJSON(b)
			if err != nil {
				return nil, fmt.Errorf("event %d of the batch: %w", i, err)
			}
			events = append(events, e)
		}
		return events, nil
	}
	e := event{attrs: make(map[string]string), data: body}
	for name, values := range h {
		if attr, ok := strings.CutPrefix(strings.ToLower(name), "ce-"); ok && len(values) > 0 {
			e.attrs[attr] = values[0]
		}
	}
	if ct := h.Get("Content-Type"); ct != "" {
		e.attrs["datacontenttype"] = ct
	}
	return []event{e}, e.check()
}

// decodeJSON decodes the JSON event format.
func decodeJSON(b []byte) (event, error) {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(b, &members); err != nil {
		return event{}, err
	}
	e := event{attrs: make(map[string]string)}
	for name, raw := range members {
		var err error
		switch name {
		case "data":
			e.data = jsonData(raw)
		case "data_base64":
			var s string
			if err = json.Unmarshal(raw, &s); err == nil {
				e.data, err = base64.StdEncoding.DecodeString(s)
			}
		default:
			e.attrs[name] = jsonText(raw)
		}
		if err != nil {
			return event{}, fmt.Errorf("%s: %w", name, err)
		}
	}
	return e, e.check()
}

// jsonText returns a string's value, and any other value as it is written.
func jsonText(raw json.RawMessage) string {
	var s string
	if err := json.Unmarshal(raw, &s); err == nil {
		return s
	}
	return string(raw)
}

func jsonData(raw json.RawMessage) []byte { return []byte(jsonText(raw)) }

// check names the required attributes that are missing.
func (e event) check() error {
	var errs []error
	for _, name := range requiredAttrs {
		if e.attrs[name] == "" {
			errs = append(errs, fmt.Errorf("attribute %s is missing", name))
		}
	}
	return errors.Join(errs...)
}

// print writes the event in the layout that the SDKs and Knative's event-display use, so that people find what they
// look for.
func (e event) print(w io.Writer) {
	fmt.Fprint(w, "☁️  cloudevents.Event\nContext Attributes,\n")
	known := make(map[string]bool)
	show := func(names ...string) {
		for _, name := range names {
			known[name] = true
			if v, ok := e.attrs[name]; ok {
				fmt.Fprintf(w, "  %s: %s\n", name, v)
			}
		}
	}
	show(requiredAttrs[:]...)
	show(optionalAttrs[:]...)
	var extensions []string
	for _, name := range slices.Sorted(maps.Keys(e.attrs)) {
		if !known[name] {
			extensions = append(extensions, name)
		}
	}
	if len(extensions) > 0 {
		fmt.Fprint(w, "Extensions,\n")
		show(extensions...)
	}
	if len(e.data) == 0 {
		return
	}
	fmt.Fprint(w, "Data,\n")
	data := e.data
	var pretty bytes.Buffer
	if strings.Contains(e.attrs["datacontenttype"], "json") && json.Indent(&pretty, data, "  ", "  ") == nil {
		data = pretty.Bytes()
	}
	fmt.Fprintf(w, "  %s\n", data)
}
