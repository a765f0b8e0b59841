//go:build linux

package proxybench

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

const (
	modulePath   = "github.com/rousehq/rouse"
	knativeQueue = "knative.dev/serving/cmd/queue"
)

// builder makes the binaries that contend, out of the source tree.
type builder struct {
	source string // root of our module
	cache  string
	out    io.Writer
}

// newBuilder finds the source tree from dir upwards; cache "" means the user's cache directory.
func newBuilder(dir, cache string, out io.Writer) (*builder, error) {
	source, err := findSource(dir)
	if err != nil {
		return nil, err
	}
	if cache == "" {
		home, err := os.UserCacheDir()
		if err != nil {
			return nil, fmt.Errorf("--cache: %w", err)
		}
		cache = filepath.Join(home, "rouse", "bench")
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return nil, fmt.Errorf("--cache: %w", err)
	}
	return &builder{source: source, cache: cache, out: out}, nil
}

func findSource(dir string) (string, error) {
	start, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	for at := start; ; at = filepath.Dir(at) {
		b, err := os.ReadFile(filepath.Join(at, "go.mod"))
		if err == nil && bytes.HasPrefix(b, []byte("module "+modulePath+"\n")) {
			return at, nil
		}
		if at == filepath.Dir(at) {
			return "", fmt.Errorf("--source %s: no source tree of %s there or above: the benchmark builds its contenders", start, modulePath)
		}
	}
}

// ours builds one of our own commands. Go's build cache makes it quick when nothing changed.
func (b *builder) ours(ctx context.Context, pkg string) (string, error) {
	path := filepath.Join(b.cache, filepath.Base(pkg))
	return path, b.build(ctx, b.source, path, "./"+pkg, "CGO_ENABLED=0")
}

// program builds `rouse`, which links Kafka's library and needs cgo for it.
func (b *builder) program(ctx context.Context) (string, error) {
	path := filepath.Join(b.cache, "rouse")
	return path, b.build(ctx, b.source, path, "./cmd/rouse", "CGO_ENABLED=1")
}

// knative builds Knative's queue-proxy, once per content of its module: it takes minutes.
func (b *builder) knative(ctx context.Context) (string, error) {
	dir := filepath.Join(b.source, "bench", "peers")
	key := sha256.New()
	fmt.Fprintln(key, runtime.Version(), runtime.GOARCH, knativeQueue)
	for _, name := range []string{"go.mod", "go.sum"} {
		content, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return "", fmt.Errorf("peers module: %w", err)
		}
		key.Write(content)
	}
	path := filepath.Join(b.cache, "knative-queue-"+hex.EncodeToString(key.Sum(nil))[:16])
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	fmt.Fprintln(b.out, "building Knative's queue-proxy (once; this takes minutes)")
	// Built beside and renamed, so that an interrupted build leaves nothing that looks whole.
	fresh := path + ".new"
	if err := b.build(ctx, dir, fresh, knativeQueue, "CGO_ENABLED=0"); err != nil {
		return "", err
	}
	return path, os.Rename(fresh, path)
}

func (b *builder) build(ctx context.Context, dir, out, pkg, cgo string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", out, pkg)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), cgo, "GOWORK=off")
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build %s: %w\n%s", pkg, err, text)
	}
	return nil
}

// installed finds a rival that the distribution provides.
func installed(name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	path := filepath.Join("/usr/sbin", name) // not on everybody's PATH
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("%s is not installed: run `make bench-deps`, or leave it out with --contenders", name)
	}
	return path, nil
}

// fileHash is the start of a file's SHA-256, enough to tell binaries apart.
func fileHash(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil))[:12], nil
}

// printedVersion runs a program's version flag and returns the word that starts with a digit after marker.
func printedVersion(ctx context.Context, path, flag, marker string) (string, error) {
	text, err := exec.CommandContext(ctx, path, flag).CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return "", err
	}
	_, after, ok := strings.Cut(string(text), marker)
	if !ok {
		return "", fmt.Errorf("%s %s: no version in %q", path, flag, text)
	}
	word, _, _ := strings.Cut(strings.TrimSpace(after), "\n")
	word, _, _ = strings.Cut(word, " ")
	return word, nil
}
