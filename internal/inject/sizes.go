package inject

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
)

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
		if most, ok := quantity(kept.text()); s[limit] == "" && ok && least > most {
			t.fault(t.annotation(sizePrefix+request), "is more than the limit "+kept.text()+" that the sidecar has", "set "+sizePrefix+limit)
		}
	}
	for _, bare := range slices.Sorted(maps.Keys(unread)) {
		t.warn(t.annotation(sizePrefix+bare), "nothing reads it", "remove it, or mend its spelling")
	}
	return s
}

// resources are small, and whatever the annotations say; what these do not say stays as it is in a sidecar that is there. There
// is no limit by default: a limit of CPU holds back the cold start, and what the sidecar may hold depends on its queue.
func (s sizes) resources(kept field) map[string]map[string]string {
	requests, limits := kept.at("requests").strings(), kept.at("limits").strings()
	out := map[string]map[string]string{"requests": {}}
	for _, what := range sized {
		limit := cmp.Or(s[what+"-resource-limit"], limits[what])
		if limit != "" {
			if out["limits"] == nil {
				out["limits"] = make(map[string]string)
			}
			out["limits"][what] = limit
		}
		request := cmp.Or(s[what+"-resource-request"], requests[what], usual[what])
		least, _ := quantity(request)
		if most, ok := quantity(limit); s[what+"-resource-request"] == "" && ok && least > most {
			request = limit // Kubernetes refuses a request beyond the limit
		}
		if request != "" {
			out["requests"][what] = request
		}
	}
	return out
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
