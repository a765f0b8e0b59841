package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// installCommand is a whole `rouse install` of a document, up to what it is piped to.
var installCommand = regexp.MustCompile("rouse install( [^|`\n]*)[|`\n]")

// TestDocumentedInstalls: every `rouse install` of the documents can be run as it stands.
func TestDocumentedInstalls(t *testing.T) {
	seen := 0
	for name, page := range pages(t) {
		for _, found := range installCommand.FindAllStringSubmatch(page, -1) {
			args := strings.Fields(strings.ReplaceAll(found[1], "…", ""))
			if len(args) == 0 || strings.Contains(found[1], "KEY=VALUE") || strings.HasSuffix(found[1], "--set") {
				continue // that speaks of the command
			}
			seen++
			for i, arg := range args { // what stands for a name of the reader's
				args[i] = strings.ToLower(arg)
			}
			if code, out, errs := command(t, "", append([]string{"install"}, args...)...); code != 0 || out == "" {
				t.Errorf("%s says rouse install%s: that ends with %d: %s", name, found[1], code, errs)
			}
		}
	}
	if seen < 3 {
		t.Errorf("found %d commands, want those of install.md, inject.md and kubernetes.md", seen)
	}
}

// TestUpgradeIsForEveryInstallation: what is typed to upgrade says which installation it is about. A file of deploy/base is
// about the one in rouse-system, and takes the rights of any other away.
func TestUpgradeIsForEveryInstallation(t *testing.T) {
	for name, page := range pages(t) {
		if strings.Contains(page, "apply -f deploy/") {
			t.Errorf("%s has a file of deploy/ applied, which is about one namespace and one Secret", name)
		}
	}
	_, section, _ := strings.Cut(pages(t)["kubernetes.md"], "\n## Upgrading\n")
	section, _, _ = strings.Cut(section, "\n## ")
	if !strings.Contains(section, "rouse install -n NS --only access") {
		t.Error("kubernetes.md, Upgrading: how the rights of one installation are printed is not said")
	}
	for _, span := range regexp.MustCompile("`kubectl [^`]*`").FindAllString(section, -1) {
		own := strings.Contains(span, "autoscaler") || strings.Contains(span, "activator") || strings.Contains(span, "webhook")
		if own && !strings.Contains(span, "-n NS") {
			t.Errorf("kubernetes.md, Upgrading: %s is not for an installation in another namespace", span)
		}
	}
}

// pages are the documents, by their names.
func pages(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, file := range append(files, "../../README.md") {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		all[filepath.Base(file)] = string(text)
	}
	return all
}
