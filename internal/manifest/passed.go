package manifest

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// extensions are those of manifests, as kubectl takes them.
var extensions = []string{".yaml", ".yml", ".json"}

// PassedOver says what [Open] does not read in directories although somebody may expect it to: their subfolders, and files
// whose extension is a manifest's but for upper case. Hidden ones, and paths that are given themselves, are no surprise.
func PassedOver(paths ...string) (warnings []string) {
	given := make([]string, len(paths))
	for i, p := range paths {
		given[i] = filepath.Clean(p)
	}
	for _, dir := range given {
		entries, err := os.ReadDir(dir) // what is no directory, Open judges
		if err != nil {
			continue
		}
		for _, e := range entries {
			path, ext := filepath.Join(dir, e.Name()), filepath.Ext(e.Name())
			switch {
			case strings.HasPrefix(e.Name(), ".") || slices.Contains(given, path):
			case e.IsDir():
				warnings = append(warnings, path+" is passed over: of a directory only its own files are read; give it with -f, too")
			case !slices.Contains(extensions, ext) && slices.Contains(extensions, strings.ToLower(ext)):
				warnings = append(warnings, path+" is passed over: of a directory *.yaml, *.yml and *.json are read; rename it, or give it with -f")
			}
		}
	}
	return warnings
}
