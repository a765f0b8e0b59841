package control

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/rousehq/rouse/control/kpa"
	"github.com/rousehq/rouse/internal/config"
	"github.com/rousehq/rouse/internal/endpoint"
	"github.com/rousehq/rouse/internal/identity"
)

// Explanation says what the loop saw of one revision, what it made of it, and why. Times that never were are omitted.
type Explanation struct {
	Namespace string    `json:"namespace"`
	Service   string    `json:"service"`
	Revision  string    `json:"revision"`
	UID       string    `json:"uid,omitempty"`
	Decided   time.Time `json:"decided,omitzero"`
	Owner     bool      `json:"owner"` // this instance applies its decisions

	Pods struct {
		Ready       int `json:"ready"`
		Starting    int `json:"starting"`
		Terminating int `json:"terminating"`
		Requested   int `json:"requested"`
	} `json:"pods"`

	Observed []Observed `json:"observed"`
	Winner   string     `json:"winner,omitempty"` // the metric that asked for most

	RateLow  int       `json:"rateLow"`  // least that max-scale-down-rate allowed
	RateHigh int       `json:"rateHigh"` // most that max-scale-up-rate allowed
	Limit    string    `json:"limit"`    // the rule that had the last word, in words; empty when the load had it
	Since    time.Time `json:"since,omitzero"`

	Raw          int       `json:"raw"`     // what the load asks for after rates, panic and delay; -1 before data
	Want         int       `json:"want"`    // raw within bounds and on its way to zero
	Desired      int       `json:"desired"` // what the target should be set to; -1 for leave it alone
	LastChange   time.Time `json:"lastChange,omitzero"`
	Panic        bool      `json:"panic"`
	PanicSince   time.Time `json:"panicSince,omitzero"`
	MaxPanicPods int       `json:"maxPanicPods"`
	Excess       int       `json:"excessBurstCapacity"`
	Mode         string    `json:"mode"`
	Activators   int       `json:"activators"`
	Activity     string    `json:"activity"`
	ActiveSince  time.Time `json:"activitySince,omitzero"`
	InFlight     float64   `json:"inFlight"`
	Rate         float64   `json:"requestsPerSecond"` // by the last reports
	Waiting      float64   `json:"waiting"`           // requests without a slot, in activators and queue-proxies
	Reason       string    `json:"reason"`
	Settings     []Setting `json:"settings"`
}

// Observed is one metric of an Explanation.
type Observed struct {
	Metric     string  `json:"metric"`
	Target     float64 `json:"target"` // per pod
	Stable     float64 `json:"stable"`
	Panic      float64 `json:"panic"`
	StablePods int     `json:"stablePods"` // raw wish of the stable window
	PanicPods  int     `json:"panicPods"`
}

// Setting is one value in force and where it came from.
type Setting struct {
	Name   string `json:"name"`
	Value  string `json:"value"` // with its unit
	Origin string `json:"origin"`
	Live   bool   `json:"live"` // a change takes effect without a new revision
}

// Explain explains the last decision about a revision. It fails with ErrUnknownRevision.
func (l *Loop) Explain(key identity.Key) (Explanation, error) {
	r := l.find(key)
	if r == nil {
		return Explanation{}, fmt.Errorf("%w: %s", ErrUnknownRevision, key)
	}
	return l.explain(r), nil
}

func (l *Loop) explain(r *revision) Explanation {
	owner := l.deps.Ownership == nil || l.deps.Ownership.Owns(r.id)
	now, off := l.now(), l.off()
	r.mu.Lock()
	defer r.mu.Unlock()
	d := &r.last
	e := Explanation{
		Namespace: r.id.Namespace, Service: r.cfg.Service, Revision: r.id.Name, UID: r.id.UID,
		Decided: onTheWall(r.decided, off), Owner: owner,
		RateLow: d.Reasons.RateLow, RateHigh: d.Reasons.RateHigh, Limit: limitText(d.Reasons), Since: onTheWall(d.Reasons.Since, off),
		Raw: d.Raw, Want: d.Want, Desired: d.Desired, LastChange: onTheWall(r.changed, off),
		Panic: d.Panic, PanicSince: onTheWall(r.state.PanicSince, off), MaxPanicPods: d.MaxPanicPods, Excess: d.ExcessBurstCapacity,
		Mode: d.Mode.String(), Activators: d.Activators, Activity: d.Activity.String(), ActiveSince: onTheWall(r.state.ActivitySince, off),
		InFlight: r.inFlight(now, l.cfg.ReportTTL), Reason: reason(*d),
	}
	e.Rate, e.Waiting = r.latest(now, l.cfg.ReportTTL)
	e.Pods.Ready = r.pods.Count(endpoint.Ready)
	e.Pods.Starting = r.pods.Count(endpoint.Starting)
	e.Pods.Terminating = r.pods.Count(endpoint.Draining)
	e.Pods.Requested = r.replicas
	for _, w := range d.Reasons.Wants[:d.Reasons.Count] {
		e.Observed = append(e.Observed, Observed{w.Metric.String(), w.Target, w.Stable, w.Panic, w.StablePods, w.PanicPods})
	}
	if d.Reasons.Count > 0 {
		e.Winner = d.Reasons.Winner.String()
	}
	for _, v := range r.cfg.Values() {
		e.Settings = append(e.Settings, Setting{v.Name, r.cfg.Show(v), v.Origin.String(), config.Live(v.Name)})
	}
	return e
}

// ExplainService explains every revision of a service, given as "name" or "namespace/name"; the name of a revision
// is as good. They are in the order of their names. It fails with ErrUnknownRevision when there is none.
func (l *Loop) ExplainService(service string) ([]Explanation, error) {
	namespace, name, qualified := strings.Cut(service, "/")
	if !qualified {
		namespace, name = "", service
	}
	var es []Explanation
	for _, r := range l.all() {
		if (namespace == "" || namespace == r.id.Namespace) && (name == r.id.Name || name == r.service()) {
			es = append(es, l.explain(r))
		}
	}
	if len(es) == 0 {
		return nil, fmt.Errorf("%w: %s", ErrUnknownRevision, service)
	}
	slices.SortFunc(es, func(a, b Explanation) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Revision, b.Revision))
	})
	return es, nil
}

func (r *revision) service() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.cfg.Service
}

// ExplainHandler answers GET /explain?service=NAME with a JSON array, or with text for people when the client accepts
// text/plain or asks with format=text. Without a service it explains all revisions; namespace=NAME leaves out those of
// other namespaces, and owned=true those that another instance decides about.
func (l *Loop) ExplainHandler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		q := req.URL.Query()
		var es []Explanation
		var err error
		if service := q.Get("service"); service != "" {
			es, err = l.ExplainService(service)
		} else {
			es = l.explainAll()
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusNotFound)
			return
		}
		namespace, owned := q.Get("namespace"), q.Get("owned") == "true"
		es = slices.DeleteFunc(es, func(e Explanation) bool {
			return namespace != "" && e.Namespace != namespace || owned && !e.Owner
		})
		if q.Get("format") == "text" || strings.HasPrefix(req.Header.Get("Accept"), "text/plain") {
			w.Header().Set("Content-Type", "text/plain; charset=utf-8")
			for _, e := range es {
				e.WriteText(w)
			}
			return
		}
		w.Header().Set("Content-Type", "application/json")
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		_ = enc.Encode(es) // the client has left: nobody to tell
	})
}

func (l *Loop) explainAll() []Explanation {
	es := []Explanation{}
	for _, r := range l.all() {
		es = append(es, l.explain(r))
	}
	slices.SortFunc(es, func(a, b Explanation) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Revision, b.Revision))
	})
	return es
}

// WriteText writes the explanation for people.
func (e *Explanation) WriteText(w io.Writer) {
	fmt.Fprintf(w, "%s/%s (revision %s)\n", e.Namespace, e.Service, e.Revision)
	fmt.Fprintf(w, "  pods       %d ready, %d starting, %d terminating, %d requested\n", e.Pods.Ready, e.Pods.Starting, e.Pods.Terminating, e.Pods.Requested)
	for _, o := range e.Observed {
		fmt.Fprintf(w, "  %-10s stable %s, panic %s; at %s per pod they ask for %d and %d\n",
			o.Metric, o.amount(o.Stable), o.amount(o.Panic), o.amount(o.Target), o.StablePods, o.PanicPods)
	}
	if e.Raw < 0 || e.Decided.IsZero() {
		fmt.Fprintln(w, "  decision   no data yet")
	} else {
		fmt.Fprintf(w, "  decision   %d after rates and panic, %d wanted, rates allow %d to %d\n", e.Raw, e.Want, e.RateLow, e.RateHigh)
	}
	limit := cmp.Or(e.Limit, "none, the load decided")
	fmt.Fprintf(w, "  limit      %s%s\n", limit, since(e.Since))
	if e.Panic {
		fmt.Fprintf(w, "  panic      at most so far %d pods%s\n", e.MaxPanicPods, since(e.PanicSince))
	}
	fmt.Fprintf(w, "  traffic    mode %s, %d activators wanted, excess burst capacity %d, %s%s\n", e.Mode, e.Activators, e.Excess, e.Activity, since(e.ActiveSince))
	for _, s := range e.Settings {
		if !strings.HasPrefix(s.Origin, "default") {
			fmt.Fprintf(w, "  set        %s = %s by %s\n", s.Name, s.Value, s.Origin)
		}
	}
}

// amount writes a measure of the metric in the unit of its target.
func (o *Observed) amount(x float64) string {
	switch o.Metric {
	case kpa.CPU.String():
		return fmt.Sprintf("%.4g%% of a core", x*100)
	case kpa.Memory.String():
		return fmt.Sprintf("%.4g MiB", x/(1<<20))
	default:
		return fmt.Sprintf("%.4g", x)
	}
}

func since(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return ", since " + t.UTC().Format(time.RFC3339)
}
