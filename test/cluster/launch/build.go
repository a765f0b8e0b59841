package launch

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// version is what the components say they are; go.mod says the same.
const version = "v1.36.3"

// links are the names under which kubebox is called.
var links = []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy", "kubectl", "node-agent"}

// Build compiles the components from the module in dir unless the cache has them, and returns their directory. Several callers at once build
// once. What the compiler prints goes to out.
func Build(ctx context.Context, dir string, out io.Writer) (string, error) {
	key, err := sourceKey(dir)
	if err != nil {
		return "", fmt.Errorf("cluster: build: %w", err)
	}
	cache, err := cacheDir()
	if err != nil {
		return "", fmt.Errorf("cluster: build: %w", err)
	}
	bin := filepath.Join(cache, "cluster-"+key)
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return "", fmt.Errorf("cluster: build: %w", err)
	}
	unlock, err := lock(filepath.Join(bin, ".lock"))
	if err != nil {
		return "", fmt.Errorf("cluster: build: %w", err)
	}
	defer unlock()
	ready := filepath.Join(bin, ".ready")
	if _, err := os.Stat(ready); err == nil {
		return bin, nil
	}
	fmt.Fprintf(out, "cluster: building Kubernetes %s into %s: minutes the first time\n", version, bin)
	if err := compile(ctx, dir, bin, out); err != nil {
		return "", fmt.Errorf("cluster: build: %w", err)
	}
	return bin, os.WriteFile(ready, nil, 0o644)
}

func cacheDir() (string, error) {
	if dir := os.Getenv("XDG_CACHE_HOME"); dir != "" {
		return filepath.Join(dir, "rouse"), nil
	}
	home, err := os.UserHomeDir()
	return filepath.Join(home, ".cache", "rouse"), err
}

// lock waits for whoever builds the same.
func lock(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		f.Close()
		return nil, err
	}
	return func() { f.Close() }, nil
}

// sourceKey is a hash of everything that the components are made of: versions, sums and our own sources.
func sourceKey(dir string) (string, error) {
	files := []string{"go.mod", "go.sum"}
	for _, tree := range []string{"kubebox", "agent", "cmd/container"} {
		err := filepath.WalkDir(filepath.Join(dir, tree), func(path string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() && strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, "_test.go") {
				rel, _ := filepath.Rel(dir, path) // path is below dir
				files = append(files, rel)
			}
			return err
		})
		if err != nil {
			return "", err
		}
	}
	slices.Sort(files)
	h := sha256.New()
	for _, name := range files {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return "", err
		}
		fmt.Fprintf(h, "%s %d\n%s", name, len(b), b)
	}
	return hex.EncodeToString(h.Sum(nil))[:16], nil
}

func compile(ctx context.Context, dir, bin string, out io.Writer) error {
	const pkg = "k8s.io/component-base/version"
	flags := fmt.Sprintf("-s -w -X %[1]s.gitVersion=%[2]s -X %[1]s.gitMajor=1 -X %[1]s.gitMinor=36", pkg, version)
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", flags, "-o", bin+"/", "./kubebox", "./cmd/container")
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, out, out
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off", "GOFLAGS=-mod=readonly")
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("go build in %s: %w", dir, err)
	}
	for _, name := range links {
		if err := os.Symlink("kubebox", filepath.Join(bin, name)); err != nil && !os.IsExist(err) {
			return err
		}
	}
	return nil
}
