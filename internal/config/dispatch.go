package config

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Dispatching is how an activator chooses among a revision's pods, beyond their limits. The zero value is the default:
// nothing of it.
type Dispatching struct {
	Affinity Affinity
	Zone     ZonePreference
	Outlier  Outlier
	Probe    PodProbe
}

// The names of a session.
const (
	AffinityCookie    = "cookie"     // a cookie of the application's
	AffinityHeader    = "header"     // a request header
	AffinitySetCookie = "set-cookie" // a cookie that the activator sets
)

// Affinity names what keeps requests together; By is empty for nothing.
type Affinity struct {
	By, Name   string
	Attributes string // of a cookie that is set, such as "; Path=/; Max-Age=600"
}

// ZonePreference prefers pods of the activator's own zone; Spill 0 is no bound.
type ZonePreference struct {
	On    bool
	Spill float64
}

// Outlier says when a pod that keeps failing is left alone; Failures is 0 for never.
type Outlier struct {
	Failures    int
	First, Most time.Duration
	Share       float64
}

// The ways to ask a pod whether it is ready.
const (
	ProbeQueue = "queue"
	ProbeHTTP  = "http"
	ProbeTCP   = "tcp"
)

// PodProbe is how an activator asks pods that start; By is empty for not at all.
type PodProbe struct{ By, Path string }

// off is the default of all of them.
const off = "off"

// What the annotations look like.
const (
	affinityForm = `"off", "cookie=NAME", "header=NAME" or "set-cookie=NAME" with attributes Path, Domain, Max-Age, SameSite ` +
		`after semicolons, such as "set-cookie=pin; Path=/; Max-Age=3600"`
	zoneForm    = `"off", "same-zone", or "same-zone, spill=R" with R in [1, 100]`
	outlierForm = `"off", "on", or a list of failures=N in [1, 1000], first=DURATION in [100ms, 1h], most=DURATION from first to 24h, ` +
		`share=P% in [1%, 100%], such as "failures=5, first=10s, most=5m, share=50%"`
	probeForm = `"off", "queue", "tcp" or "http=/PATH"`
)

// ParseAffinity reads rouse.dev/session-affinity.
func ParseAffinity(text string) (a Affinity, err error) {
	first, attributes, _ := strings.Cut(text, ";")
	by, name, _ := strings.Cut(strings.TrimSpace(first), "=")
	switch {
	case text == off:
		return Affinity{}, nil
	case by != AffinityCookie && by != AffinityHeader && by != AffinitySetCookie, !isFieldName(name),
		attributes != "" && by != AffinitySetCookie:
		return a, fmt.Errorf("must be %s", affinityForm)
	}
	a = Affinity{By: by, Name: name}
	for part := range strings.SplitSeq(attributes, ";") {
		part = strings.TrimSpace(part)
		if part == "" {
			continue
		}
		if !isCookieAttribute(part) {
			return Affinity{}, fmt.Errorf("%q: must be %s", part, affinityForm)
		}
		a.Attributes += "; " + part
	}
	return a, nil
}

func isFieldName(s string) bool {
	for i := range len(s) {
		c := s[i]
		if c <= ' ' || c >= 0x7f || strings.IndexByte(`()<>@,;:\"/[]?={}`, c) >= 0 {
			return false
		}
	}
	return s != ""
}

// isCookieAttribute accepts what a browser understands and keeps the line whole (RFC 6265, section 4.1.1).
func isCookieAttribute(part string) bool {
	key, value, _ := strings.Cut(part, "=")
	for i := range len(value) {
		if value[i] < ' ' || value[i] >= 0x7f || value[i] == ',' {
			return false
		}
	}
	switch http.CanonicalHeaderKey(key) {
	case "Path":
		return strings.HasPrefix(value, "/")
	case "Domain":
		return value != ""
	case "Max-Age":
		n, err := strconv.Atoi(value)
		return err == nil && n > 0
	case "Samesite":
		return strings.EqualFold(value, "lax") || strings.EqualFold(value, "strict") || strings.EqualFold(value, "none")
	}
	return false
}

// ParseZonePreference reads rouse.dev/zone-preference.
func ParseZonePreference(text string) (z ZonePreference, err error) {
	if text == off {
		return z, nil
	}
	name, rest, spills := strings.Cut(text, ",")
	if strings.TrimSpace(name) != "same-zone" {
		return z, fmt.Errorf("must be %s", zoneForm)
	}
	z.On = true
	if !spills {
		return z, nil
	}
	value, ok := strings.CutPrefix(strings.TrimSpace(rest), "spill=")
	if z.Spill, err = strconv.ParseFloat(value, 64); !ok || err != nil || !(z.Spill >= 1 && z.Spill <= 100) {
		return ZonePreference{}, fmt.Errorf("must be %s", zoneForm)
	}
	return z, nil
}

// ParseOutlier reads rouse.dev/outlier-ejection.
func ParseOutlier(text string) (Outlier, error) {
	o := Outlier{Failures: 5, First: 10 * time.Second, Most: 5 * time.Minute, Share: 0.5}
	switch text {
	case off:
		return Outlier{}, nil
	case "on":
		return o, nil
	}
	for part := range strings.SplitSeq(text, ",") {
		if key, value, _ := strings.Cut(strings.TrimSpace(part), "="); !o.set(key, value) {
			return Outlier{}, fmt.Errorf("%q: must be %s", part, outlierForm)
		}
	}
	if o.Most < o.First {
		return Outlier{}, fmt.Errorf("most is below first: must be %s", outlierForm)
	}
	return o, nil
}

func (o *Outlier) set(key, value string) (ok bool) {
	var err error
	switch key {
	case "failures":
		o.Failures, err = strconv.Atoi(value)
		return err == nil && o.Failures >= 1 && o.Failures <= 1000
	case "first":
		o.First, err = time.ParseDuration(value)
		return err == nil && o.First >= 100*time.Millisecond && o.First <= time.Hour
	case "most":
		o.Most, err = time.ParseDuration(value)
		return err == nil && o.Most <= 24*time.Hour
	case "share":
		number, percent := strings.CutSuffix(value, "%")
		o.Share, err = strconv.ParseFloat(number, 64)
		o.Share /= 100
		return err == nil && percent && o.Share >= 0.01 && o.Share <= 1
	}
	return false
}

// ParsePodProbe reads rouse.dev/pod-probe.
func ParsePodProbe(text string) (PodProbe, error) {
	by, path, _ := strings.Cut(text, "=")
	switch {
	case text == off:
		return PodProbe{}, nil
	case text == ProbeQueue || text == ProbeTCP:
		return PodProbe{By: text}, nil
	case by == ProbeHTTP && strings.HasPrefix(path, "/") && !strings.ContainsAny(path, " \t\r\n#"):
		return PodProbe{By: by, Path: path}, nil
	}
	return PodProbe{}, fmt.Errorf("must be %s", probeForm)
}

// parsed is the rule for text that a parser of ours reads.
func parsed[T any](form string, parse func(string) (T, error)) rule[string] {
	return rule[string]{form, func(s string) (string, bool) {
		_, err := parse(s)
		return s, err == nil
	}}
}

func (o *Overrides) readDispatching(r *reader) {
	read(r, annotated("session-affinity"), parsed(affinityForm, ParseAffinity), &o.SessionAffinity)
	read(r, annotated("zone-preference"), parsed(zoneForm, ParseZonePreference), &o.ZonePreference)
	read(r, annotated("outlier-ejection"), parsed(outlierForm, ParseOutlier), &o.OutlierEjection)
	read(r, annotated("pod-probe"), parsed(probeForm, ParsePodProbe), &o.PodProbe)
}

// Dispatching returns the parsed values of what was validated when they were read.
func (rev *Revision) Dispatching() (d Dispatching) {
	d.Affinity, _ = ParseAffinity(rev.SessionAffinity.V)
	d.Zone, _ = ParseZonePreference(rev.ZonePreference.V)
	d.Outlier, _ = ParseOutlier(rev.OutlierEjection.V)
	d.Probe, _ = ParsePodProbe(rev.PodProbe.V)
	return d
}
