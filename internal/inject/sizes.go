package inject

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Sizes are what sidecars ask for where no annotation says otherwise, as quantities of Kubernetes. Where one is empty a sidecar
// that is there keeps its own, and a new one asks for 10m of CPU and 16Mi of memory, or the limit where that is less, and has no
// limit.
type Sizes struct {
	CPURequest, CPULimit       string
	MemoryRequest, MemoryLimit string
}

// Size is one of [Sizes].
type Size struct {
	Name string // as in flags: cpu-request
	Text *string
}

// Each lists them, a limit behind its request.
func (s *Sizes) Each() []Size {
	return []Size{{"cpu-request", &s.CPURequest}, {"cpu-limit", &s.CPULimit}, {"memory-request", &s.MemoryRequest}, {"memory-limit", &s.MemoryLimit}}
}

// Validate names every size that Kubernetes would refuse in each pod; called is what its user calls a size.
func (s Sizes) Validate(called func(name string) string) error {
	var errs []error
	all := s.Each()
	for _, one := range all {
		if _, ok := quantity(*one.Text); !ok && *one.Text != "" {
			errs = append(errs, fmt.Errorf("%s = %q: must be a quantity such as 100m, 0.5 or 64Mi", called(one.Name), *one.Text))
		}
	}
	for i := 0; i < len(all); i += 2 {
		least, _ := quantity(*all[i].Text)
		if most, ok := quantity(*all[i+1].Text); ok && least > most {
			errs = append(errs, fmt.Errorf("%s = %q: must be at least %s = %q", called(all[i+1].Name), *all[i+1].Text, called(all[i].Name), *all[i].Text))
		}
	}
	return errors.Join(errs...)
}

// of returns the request and the limit of a resource, empty where nothing is said.
func (s Sizes) of(what string) (request, limit string) {
	switch what {
	case "cpu":
		return s.CPURequest, s.CPULimit
	case "memory":
		return s.MemoryRequest, s.MemoryLimit
	}
	return "", ""
}

// sizes are the annotations about the sidecar's resources, by their bare names such as cpu-resource-request.
type sizes map[string]string

// sized are the resources that have a size.
var sized = [...]string{"cpu", "memory", "ephemeral-storage"}

// usual are the requests of a sidecar whose size nobody has set.
var usual = map[string]string{"cpu": "10m", "memory": "16Mi"}

// sizes reads them. A quantity that Kubernetes refuses would keep every pod from being made.
func (t *template) sizes() sizes {
	s := sizes{}
	for _, key := range slices.Sorted(maps.Keys(t.annotations)) {
		bare, ok := strings.CutPrefix(key, sizePrefix)
		if !ok {
			continue
		}
		text := t.annotations[key]
		if _, ok := quantity(text); !ok && text != "" {
			t.fault(t.annotation(key), fmt.Sprintf("%q is no quantity", text), "write it like 100m, 0.5 or 64Mi")
		}
		s[bare] = text
	}
	unread := maps.Clone(s)
	for _, what := range sized {
		request, limit := what+"-resource-request", what+"-resource-limit"
		delete(unread, request)
		delete(unread, limit)
		least, _ := quantity(s[request])
		if most, ok := quantity(s[limit]); ok && least > most {
			t.fault(t.annotation(sizePrefix+limit), "is less than the request", "raise it, or lower "+sizePrefix+request)
		}
		kept := t.sidecar.at("resources").at("limits").at(what)
		_, installed := t.options.Sizes.of(what)
		if most, ok := quantity(kept.text()); s[limit] == "" && installed == "" && ok && least > most {
			t.fault(t.annotation(sizePrefix+request), "is more than the limit "+kept.text()+" that the sidecar has", "set "+sizePrefix+limit)
		}
	}
	for _, bare := range slices.Sorted(maps.Keys(unread)) {
		t.warn(t.annotation(sizePrefix+bare), "nothing reads it", "remove it, or mend its spelling")
	}
	return s
}

// resources are what the annotations say, then the installation's sizes; what neither says stays as it is in a sidecar that is
// there, and is small in a new one. There is no limit by default: a limit of CPU holds back the cold start, and what the sidecar
// may hold depends on its queue. Kubernetes refuses a request beyond the limit: what is not said of this pod gives way.
func (s sizes) resources(installed Sizes, kept field) map[string]map[string]string {
	requests, limits := kept.at("requests").strings(), kept.at("limits").strings()
	out := map[string]map[string]string{"requests": {}}
	for _, what := range sized {
		request, limit := s[what+"-resource-request"], s[what+"-resource-limit"]
		least, most := installed.of(what)
		if limit == "" {
			limit = cmp.Or(larger(most, request), limits[what])
		}
		if request == "" {
			request = smaller(cmp.Or(least, requests[what], usual[what]), limit)
		}
		if request != "" {
			out["requests"][what] = request
		}
		if limit != "" {
			if out["limits"] == nil {
				out["limits"] = make(map[string]string)
			}
			out["limits"][what] = limit
		}
	}
	return out
}

// larger is a limit, or the request where that is more; none stays none.
func larger(limit, request string) string {
	most, limited := quantity(limit)
	if least, ok := quantity(request); ok && limited && least > most {
		return request
	}
	return limit
}

// smaller is a request, or the limit where that is less.
func smaller(request, limit string) string {
	least, _ := quantity(request)
	if most, limited := quantity(limit); limited && least > most {
		return limit
	}
	return request
}

// quantity reads a quantity of Kubernetes that is not negative
// (https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/).
func quantity(text string) (float64, bool) {
	digits := strings.TrimLeft(text, "0123456789.")
	n, err := strconv.ParseFloat(text[:len(text)-len(digits)], 64)
	if err != nil {
		return 0, false
	}
	if factor, ok := factors[digits]; ok {
		return n * factor, true
	}
	if digits[0] != 'e' && digits[0] != 'E' {
		return 0, false
	}
	exponent, err := strconv.Atoi(digits[1:])
	return n * math.Pow10(exponent), err == nil
}

// factors are Kubernetes' suffixes.
var factors = map[string]float64{
	"": 1, "n": 1e-9, "u": 1e-6, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18,
	"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40, "Pi": 1 << 50, "Ei": 1 << 60,
}
