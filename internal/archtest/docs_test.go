package archtest

import (
	"fmt"
	"go/ast"
	"slices"
	"strings"
	"testing"
)

// undocumented names the exported declarations of a file that say nothing. A group of constants or variables may
// share one comment; fields and methods that implement a named interface of the standard library need none.
func undocumented(s source) (violations []string) {
	if s.test || s.file.Name.Name == "main" || ast.IsGenerated(s.file) {
		return nil
	}
	missing := func(n ast.Node, name string) {
		violations = append(violations, fmt.Sprintf("%v: %s has no comment: say in a sentence what it promises, who closes it, what unblocks it",
			s.fset.Position(n.Pos()), name))
	}
	for _, d := range s.file.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if d.Name.IsExported() && d.Doc == nil && exportedReceiver(d) && !wellKnown(d) {
				missing(d, d.Name.Name)
			}
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				if name := undocumentedSpec(d, spec); name != "" {
					missing(spec, name)
				}
			}
		}
	}
	return violations
}

// undocumentedSpec returns the name of an exported type, constant or variable without a comment anywhere near.
func undocumentedSpec(d *ast.GenDecl, spec ast.Spec) string {
	switch spec := spec.(type) {
	case *ast.TypeSpec:
		if spec.Name.IsExported() && d.Doc == nil && spec.Doc == nil && spec.Comment == nil {
			return spec.Name.Name
		}
	case *ast.ValueSpec:
		i := slices.IndexFunc(spec.Names, (*ast.Ident).IsExported)
		if i >= 0 && d.Doc == nil && spec.Doc == nil && spec.Comment == nil {
			return spec.Names[i].Name
		}
	}
	return ""
}

// exportedReceiver reports whether a function is reachable from outside.
func exportedReceiver(d *ast.FuncDecl) bool {
	if d.Recv == nil || len(d.Recv.List) == 0 {
		return true
	}
	t := d.Recv.List[0].Type
	for {
		switch x := t.(type) {
		case *ast.StarExpr:
			t = x.X
		case *ast.IndexExpr:
			t = x.X
		case *ast.IndexListExpr:
			t = x.X
		case *ast.Ident:
			return x.IsExported()
		default:
			return false
		}
	}
}

// wellKnown are methods whose meaning an interface of the standard library fixes.
func wellKnown(d *ast.FuncDecl) bool {
	return d.Recv != nil && slices.Contains([]string{"Error", "String", "Unwrap", "Len", "Less", "Swap", "Write", "Read", "Close",
		"ServeHTTP", "RoundTrip", "MarshalJSON", "UnmarshalJSON", "MarshalText", "UnmarshalText", "Describe", "Collect", "Timeout", "Temporary"}, d.Name.Name)
}

func TestExportedNamesAreDocumented(t *testing.T) {
	for _, s := range sources(t, load(t)) {
		report(t, undocumented(s))
	}
}

func TestUndocumentedCatches(t *testing.T) {
	for body, fires := range map[string]bool{
		"func F() {}":                                 true,
		"// F does.\nfunc F() {}":                     false,
		"func f() {}":                                 false,
		"type T struct{}":                             true,
		"// T is.\ntype T struct{}":                   false,
		"// T is.\ntype T struct{}\nfunc (*T) M() {}": true,
		"type t struct{}\nfunc (t) M() {}":            false,
		"// T is.\ntype T struct{}\nfunc (T) String() string { return \"\" }": false,
		"const C = 1":                         true,
		"const C = 1 // C is one":             false,
		"// Sizes.\nconst (\nA = 1\nB = 2\n)": false,
		"var V, w = 1, 2":                     true,
	} {
		s, err := parse("metrics/a.go", []byte("package metrics\n"+body))
		if err != nil {
			t.Fatal(err)
		}
		if got := undocumented(s); (len(got) > 0) != fires {
			t.Errorf("undocumented(%q) = %q, want some: %t", strings.TrimSpace(body), got, fires)
		}
	}
}
