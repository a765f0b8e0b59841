package keda

import (
	"encoding/json"
	"fmt"
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
	"pgregory.net/rapid"
)

// schema is externalscaler.proto for protobuf's own implementation, which is the oracle of this package's.
func schema(t testing.TB) protoreflect.FileDescriptor {
	t.Helper()
	type f = descriptorpb.FieldDescriptorProto
	scalar := func(name string, n int32, kind descriptorpb.FieldDescriptorProto_Type) *f {
		return &f{Name: &name, Number: &n, Type: &kind, Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum()}
	}
	nested := func(name string, n int32, of string, repeated bool) *f {
		d := scalar(name, n, descriptorpb.FieldDescriptorProto_TYPE_MESSAGE)
		d.TypeName = proto.String(".externalscaler." + of)
		if repeated {
			d.Label = descriptorpb.FieldDescriptorProto_LABEL_REPEATED.Enum()
		}
		return d
	}
	const str, integer = descriptorpb.FieldDescriptorProto_TYPE_STRING, descriptorpb.FieldDescriptorProto_TYPE_INT64
	const double, boolean = descriptorpb.FieldDescriptorProto_TYPE_DOUBLE, descriptorpb.FieldDescriptorProto_TYPE_BOOL
	message := func(name string, fields ...*f) *descriptorpb.DescriptorProto {
		return &descriptorpb.DescriptorProto{Name: &name, Field: fields}
	}
	ref := message("ScaledObjectRef", scalar("name", 1, str), scalar("namespace", 2, str),
		nested("scalerMetadata", 3, "ScaledObjectRef.ScalerMetadataEntry", true))
	entry := message("ScalerMetadataEntry", scalar("key", 1, str), scalar("value", 2, str))
	entry.Options = &descriptorpb.MessageOptions{MapEntry: proto.Bool(true)}
	ref.NestedType = []*descriptorpb.DescriptorProto{entry}
	file, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
		Name: proto.String("externalscaler.proto"), Package: proto.String("externalscaler"), Syntax: proto.String("proto3"),
		MessageType: []*descriptorpb.DescriptorProto{
			ref,
			message("IsActiveResponse", scalar("result", 1, boolean)),
			message("GetMetricSpecResponse", nested("metricSpecs", 1, "MetricSpec", true)),
			message("MetricSpec", scalar("metricName", 1, str), scalar("targetSize", 2, integer), scalar("targetSizeFloat", 3, double)),
			message("GetMetricsRequest", nested("scaledObjectRef", 1, "ScaledObjectRef", false), scalar("metricName", 2, str)),
			message("GetMetricsResponse", nested("metricValues", 1, "MetricValue", true)),
			message("MetricValue", scalar("metricName", 1, str), scalar("metricValue", 2, integer), scalar("metricValueFloat", 3, double)),
		},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// oracle decodes b as protobuf does.
func oracle(file protoreflect.FileDescriptor, name protoreflect.Name, b []byte) (*dynamicpb.Message, error) {
	m := dynamicpb.NewMessage(file.Messages().ByName(name))
	return m, proto.Unmarshal(b, m)
}

func get(m protoreflect.Message, name protoreflect.Name) protoreflect.Value {
	return m.Get(m.Descriptor().Fields().ByName(name))
}

// refOf reads a ScaledObjectRef of the oracle.
func refOf(m protoreflect.Message) objectRef {
	o := objectRef{name: get(m, "name").String(), namespace: get(m, "namespace").String()}
	get(m, "scalerMetadata").Map().Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
		if o.metadata == nil {
			o.metadata = map[string]string{}
		}
		o.metadata[k.String()] = v.String()
		return true
	})
	return o
}

// numbersOf reads the list of a response of the oracle, in words.
func numbersOf(m protoreflect.Message, list, integer, exact protoreflect.Name) (all []string) {
	l := get(m, list).List()
	for i := range l.Len() {
		one := l.Get(i).Message()
		v := get(one, exact).Float()
		if v == 0 {
			v = float64(get(one, integer).Int())
		}
		all = append(all, fmt.Sprintf("%q %g", get(one, "metricName").String(), v))
	}
	return all
}

var unexported = cmp.AllowUnexported(objectRef{}, metricsRequest{}, spec{}, specs{}, value{}, values{})

func FuzzDecode(f *testing.F) {
	request := metricsRequest{objectRef{"hello", "default", map[string]string{"service": "x", "": "y"}}, "concurrency"}
	f.Add(request.encode(nil))
	f.Add(request.object.encode(nil))
	f.Add((&values{[]value{{"rps", 1.5}, {"cpu", -3}}}).encode(nil))
	f.Add((&activity{true}).encode(nil))
	f.Add([]byte{0x0a, 0x01})
	f.Add([]byte{0x1a, 0x02, 0x0a, 0x00, 0x0b, 0x0c})
	file := schema(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		var q metricsRequest
		m, want := oracle(file, "GetMetricsRequest", b)
		if err := q.decode(b); (err == nil) != (want == nil) {
			t.Fatalf("decode(%x) as a request = %v, protobuf says %v", b, err, want)
		} else if err == nil {
			object := refOf(get(m, "scaledObjectRef").Message())
			if diff := cmp.Diff(metricsRequest{object, get(m, "metricName").String()}, q, unexported); diff != "" {
				t.Fatalf("decode(%x) (-protobuf +got):\n%s", b, diff)
			}
		}
		var a activity
		m, want = oracle(file, "IsActiveResponse", b)
		if err := a.decode(b); (err == nil) != (want == nil) || err == nil && a.active != get(m, "result").Bool() {
			t.Fatalf("decode(%x) as an activity = %+v, %v; protobuf says %v, %v", b, a, err, m, want)
		}
		var v values
		m, want = oracle(file, "GetMetricsResponse", b)
		if err := v.decode(b); (err == nil) != (want == nil) {
			t.Fatalf("decode(%x) as values = %v, protobuf says %v", b, err, want)
		} else if err == nil {
			var got []string
			for _, one := range v.all {
				got = append(got, fmt.Sprintf("%q %g", one.name, one.value))
			}
			if diff := cmp.Diff(numbersOf(m, "metricValues", "metricValue", "metricValueFloat"), got); diff != "" {
				t.Fatalf("decode(%x) (-protobuf +got):\n%s", b, diff)
			}
		}
	})
}

// TestEncodeIsProtobuf holds what is written to what protobuf reads, and to this package's own decoders.
func TestEncodeIsProtobuf(t *testing.T) {
	file := schema(t)
	rapid.Check(t, func(t *rapid.T) {
		q := metricsRequest{
			objectRef{rapid.String().Draw(t, "name"), rapid.String().Draw(t, "namespace"), nil}, rapid.String().Draw(t, "metric"),
		}
		if pairs := rapid.MapOf(rapid.String(), rapid.String()).Draw(t, "metadata"); len(pairs) > 0 {
			q.object.metadata = pairs
		}
		m, err := oracle(file, "GetMetricsRequest", q.encode(nil))
		if err != nil {
			t.Fatal(err)
		}
		var again metricsRequest
		if err := again.decode(q.encode(nil)); err != nil {
			t.Fatal(err)
		}
		read := metricsRequest{refOf(get(m, "scaledObjectRef").Message()), get(m, "metricName").String()}
		if diff := cmp.Diff(q, read, unexported) + cmp.Diff(q, again, unexported); diff != "" {
			t.Fatalf("request (-written +read):\n%s", diff)
		}

		var s specs
		var v values
		for range rapid.IntRange(0, 5).Draw(t, "metrics") {
			name, x := rapid.String().Draw(t, "name"), rapid.Float64Range(0, math.MaxFloat64).Draw(t, "number")
			s.all, v.all = append(s.all, spec{name, x}), append(v.all, value{name, x})
		}
		checkNumbers(t, file, &s, &v)
	})
}

func checkNumbers(t *rapid.T, file protoreflect.FileDescriptor, s *specs, v *values) {
	ms, err := oracle(file, "GetMetricSpecResponse", s.encode(nil))
	if err != nil {
		t.Fatal(err)
	}
	mv, err := oracle(file, "GetMetricsResponse", v.encode(nil))
	if err != nil {
		t.Fatal(err)
	}
	for i := range s.all {
		target, val := get(ms, "metricSpecs").List().Get(i).Message(), get(mv, "metricValues").List().Get(i).Message()
		if got := get(target, "targetSizeFloat").Float(); got != s.all[i].target {
			t.Fatalf("target %g was read as %g", s.all[i].target, got)
		}
		if got := get(target, "targetSize").Int(); got < 1 || float64(got) < s.all[i].target && got != math.MaxInt64 {
			t.Fatalf("target %g is %d as an integer", s.all[i].target, got)
		}
		if got := get(val, "metricValueFloat").Float(); got != v.all[i].value {
			t.Fatalf("value %g was read as %g", v.all[i].value, got)
		}
	}
	if n := get(mv, "metricValues").List().Len(); n != len(v.all) {
		t.Fatalf("%d values were read, want %d", n, len(v.all))
	}
}

// TestGoldenBytes fixes the wire for a human eye, without any decoder.
func TestGoldenBytes(t *testing.T) {
	for name, c := range map[string]struct {
		m    message
		want string
	}{
		"inactive": {&activity{}, ``},
		"active":   {&activity{true}, `"\b\u0001"`},
		"object":   {&objectRef{"a", "b", map[string]string{"c": "d"}}, `"\n\u0001a\u0012\u0001b\u001a\u0006\n\u0001c\u0012\u0001d"`},
		"no value": {&values{[]value{{"rps", 0}}}, `"\n\u0005\n\u0003rps"`},
	} {
		got := ""
		if b := c.m.encode(nil); len(b) > 0 {
			j, err := json.Marshal(string(b))
			if err != nil {
				t.Fatal(err)
			}
			got = string(j)
		}
		if got != c.want {
			t.Errorf("%s: encode = %s, want %s", name, got, c.want)
		}
	}
}

func TestCodecRefusesStrangers(t *testing.T) {
	if _, err := (codec{}).Marshal("text"); err == nil {
		t.Error("Marshal took a string")
	}
	if err := (codec{}).Unmarshal(nil, new(int)); err == nil {
		t.Error("Unmarshal took an int")
	}
}
