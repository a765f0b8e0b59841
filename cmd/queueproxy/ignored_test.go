package main

import (
	"reflect"
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
