package main

import (
	"os"
	"reflect"
	"strings"
	"testing"
)

// TestDocumented: docs/inject.md names every variable, with its default.
func TestDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/inject.md")
	if err != nil {
		t.Fatal(err)
	}
	of := reflect.TypeFor[settings]()
	for i := range of.NumField() {
		tag := of.Field(i).Tag
		name, _, _ := strings.Cut(tag.Get("env"), ",")
		if row := rowOf(string(page), "`"+name+"`"); row == "" || !strings.Contains(row, tag.Get("envDefault")) {
			t.Errorf("%s, default %q, is not in docs/inject.md: %q", name, tag.Get("envDefault"), row)
		}
	}
}

func rowOf(page, name string) string {
	for line := range strings.Lines(page) {
		if strings.HasPrefix(line, "|") && strings.Contains(line, name) {
			return line
		}
	}
	return ""
}
