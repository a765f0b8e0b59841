package event

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	ce "github.com/cloudevents/sdk-go/v2/event"
	"github.com/cloudevents/sdk-go/v2/types"
)

// What comes in from outside and is rare, answers of sinks for one, is read and checked by CloudEvents' own SDK; what
// is written for each record is written by hand. docs/adr/0003-cloudevents.md has the figures.

// maxEvents bounds the events of one batched message.
const maxEvents = 1000

// ParseHTTP reads the events of an HTTP message in binary, structured or batched mode and validates them. headers calls
// its function for each header line. A message that is no CloudEvent, or not a valid one, is ErrNotEvent. The events
// may keep body.
func ParseHTTP(headers func(func(name, value []byte)), body []byte) ([]*Event, error) {
	bin := ce.Event{}
	var attrs [][2]string
	kind, version := "", ""
	headers(func(name, value []byte) {
		lower := strings.ToLower(string(name))
		switch {
		case lower == "content-type":
			kind = string(value)
		case lower == "ce-specversion":
			version = string(value)
		case strings.HasPrefix(lower, "ce-"):
			// The SDK takes values as they are; the HTTP binding (3.1.3.2) has them percent-encoded.
			attrs = append(attrs, [2]string{lower[3:], string(Unescape(value))})
		}
	})
	switch media(kind) {
	case Structured:
		return parseOne(body)
	case Batched:
		return parseBatch(body)
	}
	if version == "" {
		return nil, fmt.Errorf("%w: no ce-specversion, and content type %q is none of CloudEvents", ErrNotEvent, kind)
	}
	if bin.SetSpecVersion(version); bin.Context == nil {
		return nil, fmt.Errorf("%w: ce-specversion %q is not known", ErrNotEvent, version)
	}
	if kind != "" {
		bin.SetDataContentType(kind)
	}
	for _, a := range attrs {
		setSDK(&bin, a[0], a[1])
	}
	if len(body) > 0 {
		bin.DataEncoded = body
	}
	return fromAll([]ce.Event{bin})
}

func media(contentType string) string {
	kind, _, _ := strings.Cut(contentType, ";")
	return strings.ToLower(strings.TrimSpace(kind))
}

func parseOne(body []byte) ([]*Event, error) {
	var e ce.Event
	if err := json.Unmarshal(body, &e); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotEvent, err)
	}
	return fromAll([]ce.Event{e})
}

func parseBatch(body []byte) ([]*Event, error) {
	var es []ce.Event
	if err := json.Unmarshal(body, &es); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotEvent, err)
	}
	if len(es) > maxEvents {
		return nil, fmt.Errorf("%w: a batch of %d events, at most %d are taken", ErrNotEvent, len(es), maxEvents)
	}
	return fromAll(es)
}

// setSDK sets an attribute by its name in the binary mode. The SDK remembers faults for Validate.
func setSDK(e *ce.Event, name, value string) {
	switch name {
	case "id":
		e.SetID(value)
	case "source":
		e.SetSource(value)
	case "type":
		e.SetType(value)
	case "subject":
		e.SetSubject(value)
	case "dataschema", "schemaurl":
		e.SetDataSchema(value)
	case "time":
		at, err := types.ParseTime(value)
		if err != nil {
			e.FieldErrors = map[string]error{"time": err}
			return
		}
		e.SetTime(at)
	default:
		e.SetExtension(name, value)
	}
}

// fromAll validates events and makes ours of them.
func fromAll(es []ce.Event) ([]*Event, error) {
	out := make([]*Event, 0, len(es))
	for i := range es {
		if err := es[i].Validate(); err != nil {
			return nil, fmt.Errorf("%w: %s", ErrNotEvent, strings.TrimSpace(err.Error()))
		}
		out = append(out, fromSDK(&es[i]))
	}
	return out, nil
}

// fromSDK copies an event of the SDK's. Extensions come in the order of their names.
func fromSDK(in *ce.Event) *Event {
	e := &Event{Data: in.DataEncoded}
	e.Set("specversion", in.SpecVersion())
	e.Set("id", in.ID())
	e.Set("source", in.Source())
	e.Set("type", in.Type())
	for _, a := range [...][2]string{
		{"datacontenttype", in.DataContentType()}, {"subject", in.Subject()}, {"dataschema", in.DataSchema()},
	} {
		if a[1] != "" {
			e.Set(a[0], a[1])
		}
	}
	if at := in.Time(); !at.IsZero() {
		e.Set("time", types.FormatTime(at))
	}
	e.extend(in.Extensions())
	return e
}

func (e *Event) extend(values map[string]any) {
	for _, name := range slices.Sorted(maps.Keys(values)) {
		switch v := values[name].(type) {
		case int32:
			e.SetInt(name, int64(v))
		case bool:
			e.set(name, Boolean, len(e.buf), strconv.AppendBool(e.buf, v))
		default:
			if text, err := types.Format(v); err == nil { // Validate has seen the types
				e.Set(name, text)
			}
		}
	}
}
