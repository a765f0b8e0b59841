package launch

import (
	"os"
	"path/filepath"
	"testing"
)

func TestSourceKeyFollowsWhatIsBuilt(t *testing.T) {
	dir := t.TempDir()
	put := func(name, text string) {
		t.Helper()
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	key := func() string {
		t.Helper()
		k, err := sourceKey(dir)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	for _, name := range []string{"go.mod", "go.sum", "kubebox/main.go", "agent/a.go", "cmd/container/main.go"} {
		put(name, "1")
	}
	first := key()
	put("agent/a_test.go", "tests are not built")
	put("e2e/x.go", "nor is this")
	if got := key(); got != first {
		t.Errorf("key = %s after a change of what is not built, want %s", got, first)
	}
	for _, name := range []string{"go.sum", "agent/cri/b.go", "cmd/container/main.go"} {
		before := key()
		put(name, "2")
		if key() == before {
			t.Errorf("key stays after a change of %s", name)
		}
	}
}
