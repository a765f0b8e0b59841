package manifest

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Builtins are the sample programs inside rouse itself, by the base name of their image.
func Builtins() []string { return []string{"autoscale", "event-display", "hello"} }

// Images says what a container image runs as a local process.
type Images struct {
	// Exec maps image patterns to programs (--exec IMAGE=PATH). A * in the pattern stands for any text; a pattern
	// without tag or digest matches the image with any.
	Exec map[string]string
	// Dir holds programs by image name (--images DIR): registry/NAME:tag runs DIR/NAME.
	Dir string
}

// ParseExec reads the values of the --exec flag, IMAGE=PATH each.
func ParseExec(values []string) (map[string]string, error) {
	out := make(map[string]string, len(values))
	for _, v := range values {
		image, path, ok := strings.Cut(v, "=")
		if !ok || image == "" || path == "" {
			return nil, fmt.Errorf("--exec %q: must be IMAGE=PATH, such as example.test/hello=./bin/hello", v)
		}
		if first, twice := out[image]; twice && first != path {
			return nil, fmt.Errorf("--exec %s is given twice: %s and %s", image, first, path)
		}
		out[image] = path
	}
	return out, nil
}

// Resolve says what a container runs. Exactly one of the results is set: the command line of a program, or the name
// of a built-in sample (whose arguments are the container's). A container with a command of its own needs no image.
func (im Images) Resolve(c *Container) (argv []string, builtin string, err error) {
	if len(c.Command) > 0 {
		return slices.Concat(c.Command, c.Args), "", nil
	}
	if path, ok := im.match(c.Image); ok {
		return append([]string{path}, c.Args...), "", nil
	}
	base := baseName(c.Image)
	tried := ""
	if im.Dir != "" && base != "" {
		path := filepath.Join(im.Dir, base)
		if tried = unrunnable(path); tried == "" {
			return append([]string{path}, c.Args...), "", nil
		}
	}
	if slices.Contains(Builtins(), base) {
		return nil, base, nil
	}
	return nil, "", im.unknown(c.Image, base, tried)
}

func (im Images) unknown(image, base, tried string) error {
	base = cmp.Or(base, "NAME")
	ways := []string{
		"give the container a command",
		fmt.Sprintf("pass --exec %s=PATH", cmp.Or(image, "IMAGE")),
		fmt.Sprintf("pass --images DIR with the program as DIR/%s", base),
		"use an image named " + strings.Join(Builtins(), ", ") + ", which are built in",
	}
	if tried != "" {
		ways[2] = tried
	}
	return fmt.Errorf("a pod is a local process here, and nothing says what image %q runs: %s", clip(image), strings.Join(ways, "; or "))
}

// unrunnable returns why a file cannot be run, or "".
func unrunnable(path string) string {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return "put a program at " + path + ", which does not exist"
	case !info.Mode().IsRegular():
		return path + " must be a program, is not a regular file"
	case info.Mode().Perm()&0o111 == 0:
		return "make " + path + " executable (chmod +x)"
	}
	return ""
}

// lookUp returns why the program that --exec gives a container cannot be run. It looks where a start will: in PATH for a
// bare name, and for a relative path from the container's own directory.
func (im Images) lookUp(c *Container) error {
	program, ok := im.match(c.Image)
	if !ok || len(c.Command) > 0 {
		return nil
	}
	reason := ""
	if strings.Contains(program, "/") {
		if !filepath.IsAbs(program) {
			program = filepath.Join(c.WorkingDir, program)
		}
		reason = unrunnable(program)
	} else if _, err := exec.LookPath(program); err != nil {
		reason = "write a path, such as ./" + program + ": no program of that name is in PATH"
	}
	if reason == "" {
		return nil
	}
	return fmt.Errorf("--exec gives image %q a program that cannot be run: %s", clip(c.Image), reason)
}

// match returns the program of the closest pattern: the one with the most literal letters.
func (im Images) match(image string) (string, bool) {
	best, path := "", ""
	for pattern, p := range im.Exec {
		if !glob(pattern, image) && !glob(pattern, untagged(image)) {
			continue
		}
		if best == "" || closer(pattern, best) {
			best, path = pattern, p
		}
	}
	return path, best != ""
}

// closer orders patterns by literal letters, then by text so that the choice never depends on map order.
func closer(a, b string) bool {
	la, lb := len(a)-strings.Count(a, "*"), len(b)-strings.Count(b, "*")
	return la > lb || (la == lb && a < b)
}

// glob reports whether s is the pattern, in which * stands for any text, slashes too.
func glob(pattern, s string) bool {
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return pattern == s
	}
	first, last := parts[0], parts[len(parts)-1]
	if len(s) < len(first)+len(last) || !strings.HasPrefix(s, first) || !strings.HasSuffix(s, last) {
		return false
	}
	s = s[len(first) : len(s)-len(last)]
	for _, p := range parts[1 : len(parts)-1] {
		i := strings.Index(s, p)
		if i < 0 {
			return false
		}
		s = s[i+len(p):]
	}
	return true
}

// untagged cuts digest and tag off an image reference; a colon before the last slash is a registry's port.
func untagged(image string) string {
	image, _, _ = strings.Cut(image, "@")
	if i := strings.LastIndexByte(image, ':'); i > strings.LastIndexByte(image, '/') {
		image = image[:i]
	}
	return image
}

// baseName is the last part of the image's name, or "" when it could lead out of a directory.
func baseName(image string) string {
	image = untagged(image)
	base := image[strings.LastIndexByte(image, '/')+1:]
	if base == "." || base == ".." || strings.ContainsAny(base, "\\\x00") {
		return ""
	}
	return base
}

// checkImages reports services whose serving container runs nothing here.
func (l *loader) checkImages() {
	if l.opts.Images == nil {
		return
	}
	for i := range l.set.Services {
		s := &l.set.Services[i]
		c := s.Template.Serving()
		_, _, err := l.opts.Images.Resolve(c)
		if err == nil {
			err = l.opts.Images.lookUp(c)
		}
		if err != nil {
			path := s.containerPath(c) + ".image"
			l.add(Fault{Error, s.pos.file, s.pos.lineOf(path), s.String(), path, err.Error(), ""})
		}
	}
}

// samples is where the built-in programs' images seem to come from.
const samples = "rouse.dev/samples/"

// Samples warns of containers whose image is one of the built-in programs: no registry has it.
func (s *Service) Samples() (found Diagnostics) {
	for i := range s.Template.Containers {
		c := &s.Template.Containers[i]
		if !strings.HasPrefix(c.Image, samples) {
			continue
		}
		path := s.containerPath(c) + ".image"
		found = append(found, Fault{Warning, s.pos.file, s.pos.lineOf(path), s.String(), path,
			clip(c.Image) + " is a program of `rouse up`, which no registry has", "name an image of your own"})
	}
	return found
}

// containerPath returns the field path of one of the service's containers.
func (s *Service) containerPath(c *Container) string {
	for i := range s.Template.Containers {
		if &s.Template.Containers[i] == c {
			return fmt.Sprintf("spec.template.spec.containers[%d]", i)
		}
	}
	return "spec.template.spec.containers"
}
