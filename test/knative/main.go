// Command knative compiles Knative Serving's own programs from the versions that this module pins, and puts their manifests beside them, for
// test/cluster/knative. It prints the directory, which is named by a hash of what pins them:
//
//	DIR/images/kn-NAME                  activator, autoscaler, controller, queue, webhook: images of test/cluster's sandbox
//	DIR/config/{serving,networking,caching}   the modules' own config folders
//
// Two of them at once both compile; the first to finish wins. Knative has requirements of its own, far behind ours, so it is no part of any
// other module here.
package main

import (
	"crypto/sha256"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// programs are Knative Serving's commands; their images are called kn-NAME, as ours have the plain names.
var programs = []string{"activator", "autoscaler", "controller", "queue", "webhook"}

func main() {
	module := flag.String("module", ".", "this module's directory")
	flag.Parse()
	dir, err := build(*module)
	if err != nil {
		fmt.Fprintln(os.Stderr, "knative:", err)
		os.Exit(1)
	}
	fmt.Println(dir)
}

// build returns the directory of the cache, filled.
func build(module string) (string, error) {
	key, err := pinned(module)
	if err != nil {
		return "", err
	}
	cache, err := cacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, "knative-"+key)
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", err
	}
	part, err := os.MkdirTemp(cache, "knative-part-")
	if err != nil {
		return "", err
	}
	defer func() { _ = os.RemoveAll(part) }() // renamed away when all went well
	fmt.Fprintf(os.Stderr, "knative: building Knative Serving into %s: minutes the first time\n", dir)
	if err := fill(module, part); err != nil {
		return "", err
	}
	if err := os.Rename(part, dir); err != nil {
		if _, there := os.Stat(dir); there != nil { // else somebody was faster
			return "", err
		}
	}
	return dir, nil
}

// pinned is a hash of the module's requirements and of how they are compiled.
func pinned(module string) (string, error) {
	h := sha256.New()
	for _, name := range []string{"go.mod", "go.sum", "main.go"} {
		b, err := os.ReadFile(filepath.Join(module, name))
		if err != nil {
			return "", err
		}
		fmt.Fprintf(h, "%s %d\n%s", name, len(b), b)
	}
	return hex.EncodeToString(h.Sum(nil))[:16], nil
}

// cacheDir is where test/cluster keeps what it compiles, too.
func cacheDir() (string, error) {
	cache, err := os.UserCacheDir()
	return filepath.Join(cache, "rouse"), err
}

func fill(module, dir string) error {
	if err := os.Chmod(dir, 0o755); err != nil { // other users' processes run what is in it
		return err
	}
	images := filepath.Join(dir, "images")
	for _, name := range programs {
		out := filepath.Join(images, "kn-"+name)
		if _, err := command(module, "build", "-trimpath", "-ldflags", "-s -w", "-o", out, "knative.dev/serving/cmd/"+name); err != nil {
			return err
		}
	}
	for _, name := range []string{"serving", "networking", "caching"} {
		path := "knative.dev/" + name
		if _, err := command(module, "mod", "download", path); err != nil {
			return err
		}
		src, err := command(module, "list", "-m", "-f", "{{.Dir}}", path)
		if err != nil {
			return err
		}
		if err := os.CopyFS(filepath.Join(dir, "config", name), os.DirFS(filepath.Join(src, "config"))); err != nil {
			return err
		}
	}
	return nil
}

// command runs go in the module and returns what it printed.
func command(module string, args ...string) (string, error) {
	cmd := exec.Command("go", args...)
	cmd.Dir, cmd.Stderr = module, os.Stderr
	cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=-mod=readonly")
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("go %s in %s: %w", args[0], module, err)
	}
	return strings.TrimSpace(string(out)), nil
}
