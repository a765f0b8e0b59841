package main

import (
	"bytes"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// TestIgnoredVariables sets everything that Knative sets and that needs nothing here: each has a reason, none of it is
// read after all, and none changes a setting.
func TestIgnoredVariables(t *testing.T) {
	base := environ("127.0.0.1:8080")
	want, err := load(base)
	if err != nil {
		t.Fatal(err)
	}
	env := base
	for name, reason := range ignored() {
		if reason == "" {
			t.Errorf("%s is ignored without a reason", name)
		}
		env = append(env, name+"=anything")
	}
	for f := range reflect.TypeFor[settings]().Fields() {
		if _, both := ignored()[f.Tag.Get("env")]; both {
			t.Errorf("%s is read into %s, and listed as ignored", f.Tag.Get("env"), f.Name)
		}
	}
	if got, err := load(env); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("load = %+v, %v, want %+v", got, err, want)
	}
}

// TestServicesSetNoPort: a namespace may have Services whose names make the names of settings. What a container sets itself,
// as each does what is required, wins over what kubelet says of Services.
func TestServicesSetNoPort(t *testing.T) {
	bare, links := environ("127.0.0.1:8080"), []string(nil)
	for f := range reflect.TypeFor[settings]().Fields() {
		name, required := strings.CutSuffix(f.Tag.Get("env"), ",required")
		if strings.HasSuffix(name, "_PORT") && !required {
			bare = slices.DeleteFunc(bare, func(e string) bool { return strings.HasPrefix(e, name+"=") })
			links = append(links, name)
		}
	}
	slices.Sort(links)
	want, err := load(bare)
	if err != nil || !slices.Contains(links, "ROUSE_ADMIN_PORT") {
		t.Fatal(links, err)
	}
	linked := bare
	for _, name := range links {
		service := strings.TrimSuffix(name, "_PORT")
		linked = append(linked, name+"=tcp://10.96.0.7:80", name+"_80_TCP=tcp://10.96.0.7:80", name+"_80_TCP_PORT=80", service+"_SERVICE_HOST=10.96.0.7", service+"_SERVICE_PORT=80")
	}
	if got, err := load(linked); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("load = %+v, %v, want %+v", got, err, want)
	}
	var log bytes.Buffer
	sayIgnored(linked, slog.New(slog.NewTextHandler(&log, nil)))
	for _, name := range links {
		if strings.Count(log.String(), "name="+name+"\n") != 1 {
			t.Errorf("it is not said once that %s is not set:\n%s", name, log.String())
		}
	}
}
