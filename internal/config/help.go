package config

import (
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
)

// Help reports whether the arguments of a program that is configured by its environment ask for help, and writes it if
// so: what the program is, and the variables of settings, a pointer to the struct that [FromEnviron] fills.
func Help(args []string, what string, settings any, out io.Writer) bool {
	if !slices.ContainsFunc(args, func(a string) bool { return a == "-h" || a == "-help" || a == "--help" }) {
		return false
	}
	fmt.Fprintf(out, "%s\n\nIt is configured by its environment:\n\n", what)
	WriteVariables(out, settings)
	return true
}

// WriteVariables writes a line per variable of settings: its name, its type and what holds without it.
func WriteVariables(out io.Writer, settings any) {
	writeVariables(out, reflect.TypeOf(settings).Elem())
}

func writeVariables(out io.Writer, t reflect.Type) {
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("env"), ",")
		switch without := f.Tag.Get("envDefault"); {
		case name == "" && f.Type.Kind() == reflect.Struct:
			writeVariables(out, f.Type)
		case name == "":
		case strings.Contains(options, "required"):
			fmt.Fprintf(out, "  %-42s %s, required\n", name, f.Type)
		case without != "":
			fmt.Fprintf(out, "  %-42s %s (default %s)\n", name, f.Type, without)
		default:
			fmt.Fprintf(out, "  %-42s %s\n", name, f.Type)
		}
	}
}
