package main

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// Kubelet writes a ConfigMap into a folder with a time in its name, leads ..data there, and each file's name to ..data.
func TestMountedConfigMapIsReadOnce(t *testing.T) {
	dir := t.TempDir()
	const stamp = "..2026_11_29_17_00_00.1"
	steps := []error{
		os.Mkdir(filepath.Join(dir, stamp), 0o755),
		os.WriteFile(filepath.Join(dir, stamp, "source.yaml"), nil, 0o600),
		os.Symlink(stamp, filepath.Join(dir, "..data")),
		os.Symlink(filepath.Join("..data", "source.yaml"), filepath.Join(dir, "source.yaml")),
		os.Mkdir(filepath.Join(dir, "more"), 0o755),
		os.WriteFile(filepath.Join(dir, "more", "other.yml"), nil, 0o600),
	}
	for i, err := range steps {
		if err != nil {
			t.Fatalf("step %d: %v", i, err)
		}
	}
	want := []string{filepath.Join(dir, "more", "other.yml"), filepath.Join(dir, "source.yaml")}
	if got, err := expand(dir); err != nil || !slices.Equal(got, want) {
		t.Errorf("expand = %q, %v, want %q", got, err, want)
	}
	// The folder itself may be what ..data leads to.
	if got, err := expand(filepath.Join(dir, stamp)); err != nil || len(got) != 1 {
		t.Errorf("expand of the folder itself = %q, %v, want one file", got, err)
	}
}
