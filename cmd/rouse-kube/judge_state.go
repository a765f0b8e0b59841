package main

import (
	"cmp"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rousehq/rouse/internal/config"
	"github.com/rousehq/rouse/internal/kube"
	"github.com/rousehq/rouse/internal/member"
	"github.com/rousehq/rouse/internal/portalloc"
	"github.com/rousehq/rouse/internal/workload"
)

// judgeShares compares two readings of the Leases, between which every live member must have renewed.
func judgeShares(first, last kube.Shares, control *kube.Component, buckets int) []finding {
	const check = "shares"
	var live []string
	var out []finding
	for _, name := range slices.Sorted(maps.Keys(last.Members)) {
		if stamp, before := first.Members[name]; !before || stamp != last.Members[name] {
			live = append(live, name)
		}
	}
	for _, i := range control.Instances {
		if i.Ready && !i.Terminating && !slices.Contains(live, i.Name) {
			out = append(out, finding{failed, check, i.Name, "it is ready, but does not renew its Lease rouse-member-" + i.Name,
				"see its log; control needs to update leases in its namespace"})
		}
	}
	orphans := map[string][]string{}
	for b := range buckets {
		if holder := last.Holders[b]; !slices.Contains(live, holder) {
			orphans[holder] = append(orphans[holder], strconv.Itoa(b))
		}
	}
	for _, holder := range slices.Sorted(maps.Keys(orphans)) {
		who := "by " + holder + ", which does not renew its Lease"
		if holder == "" {
			who = "by nobody"
		}
		out = append(out, finding{failed, check, "", fmt.Sprintf("buckets %s are held %s: their workloads are not scaled",
			strings.Join(orphans[holder], ", "), who), "see the log of control"})
	}
	if len(out) > 0 {
		return out
	}
	moving := 0
	for b := range buckets {
		if member.Holder(b, live) != last.Holders[b] {
			moving++
		}
	}
	text := fmt.Sprintf("%d buckets are held by %s", buckets, strings.Join(live, ", "))
	if moving > 0 {
		return []finding{{warned, check, "", fmt.Sprintf("%s; %d are about to change hands", text, moving), "run it again"}}
	}
	return []finding{{Level: good, Check: check, Text: text}}
}

// agreed returns what a variable of all instances is, fallback where none says it, and whether they agree.
func agreed(c *kube.Component, name, fallback string) (value string, ok bool) {
	values := map[string]bool{}
	for _, i := range c.Instances {
		values[cmp.Or(i.Environ[name], fallback)] = true
	}
	if len(values) == 0 {
		return fallback, true
	}
	return slices.Sorted(maps.Keys(values))[0], len(values) == 1
}

const checkPorts = "activators' ports"

// judgeNodePorts finds Services whose node ports lie among the activators' ports: nodes that forward a port take it away
// from activators, in a cluster whose node ports are not Kubernetes' own.
func judgeNodePorts(within portalloc.Range, nodePorts []kube.NodePort) (out []finding) {
	for _, p := range nodePorts {
		if p.Port >= within.First && p.Port <= within.Last {
			out = append(out, finding{failed, checkPorts, "Service " + p.Service, fmt.Sprintf("its node port %d lies within ROUSE_ACTIVATOR_PORTS (%s)", p.Port, within),
				"move ROUSE_ACTIVATOR_PORTS outside of --service-node-port-range"})
		}
	}
	return out
}

// judgePorts looks at the book of ports: data is nil when it was not made yet.
func judgePorts(data map[string]string, within string) []finding {
	const check = checkPorts
	r, err := portalloc.ParseRange(within)
	if err != nil {
		return []finding{{failed, check, "", "ROUSE_ACTIVATOR_PORTS: " + err.Error(), ""}}
	}
	book, errs := portalloc.Decode(data)
	var out []finding
	for _, err := range errs {
		out = append(out, finding{failed, check, "", "the book of ports has an entry that control can't use: " + err.Error(),
			"remove it from the ConfigMap; a Service gets another port"})
	}
	size, taken := int(r.Last)-int(r.First)+1, 0
	for port := range book.Leases() {
		if port >= r.First && port <= r.Last {
			taken++
		}
	}
	text := fmt.Sprintf("%d of %d in %s are given or in quarantine", taken, size, r)
	switch {
	case taken >= size:
		out = append(out, finding{failed, check, "", text, "widen ROUSE_ACTIVATOR_PORTS"})
	case taken*10 >= size*9:
		out = append(out, finding{warned, check, "", text, "widen ROUSE_ACTIVATOR_PORTS"})
	case len(out) == 0:
		out = append(out, finding{Level: good, Check: check, Text: text})
	}
	return out
}

// judgeSettings reads config-autoscaler as control does, and returns what workloads are to be judged by: the defaults
// when it is no good.
func judgeSettings(about string, data map[string]string, found bool) (config.Autoscaler, []finding) {
	const check = "settings"
	base, faults := config.ParseAutoscaler(data, nil)
	var out []finding
	for _, f := range faults {
		out = append(out, finding{failed, check, about, f.Error(), "control keeps the last good settings until it is mended"})
	}
	if len(faults) > 0 {
		base = config.DefaultAutoscaler()
	}
	if unread := config.UnknownKeys(data); len(unread) > 0 {
		out = append(out, finding{warned, check, about, fmt.Sprintf("%s: nothing reads %s", workload.UnknownSettings, strings.Join(unread, ", ")),
			"remove it, or mend its spelling"})
	}
	if len(out) == 0 {
		text := "good"
		if !found {
			text = "not there: the defaults are in force"
		}
		out = append(out, finding{Level: good, Check: check, About: about, Text: text})
	}
	return base, out
}

// The webhook makes a new authority when a third of the old one's year is left.
const renewalOverdue = 100 * 24 * time.Hour

// judgeTrust looks at the authorities by which the API server trusts the webhook.
func judgeTrust(bundles [][]byte, now time.Time) finding {
	f := finding{Level: failed, Check: "webhook's authorities", Remedy: "see the log of the webhook: it puts them there itself"}
	if len(bundles) == 0 {
		f.Text = "the configuration names no webhook"
		f.Remedy = reinstall
		return f
	}
	var last time.Time
	for _, b := range bundles {
		end, err := newest(b)
		switch {
		case err != nil:
			f.Text = err.Error()
			return f
		case last.IsZero() || end.Before(last):
			last = end
		}
	}
	left := last.Sub(now)
	f.Text = "they end on " + last.UTC().Format(time.DateOnly)
	switch {
	case left <= 0:
		f.Text = "they ended on " + last.UTC().Format(time.DateOnly) + ": no pod is injected"
	case left < renewalOverdue:
		f.Level, f.Text = warned, f.Text+", and should have been renewed"
	default:
		f.Level, f.Remedy = good, ""
	}
	return f
}

// newest returns when the last authority of a bundle ends.
func newest(bundle []byte) (end time.Time, err error) {
	for rest := bundle; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return end, fmt.Errorf("caBundle has a certificate that can't be read: %w", err)
		}
		if c.NotAfter.After(end) {
			end = c.NotAfter
		}
	}
	if end.IsZero() {
		return end, errors.New("caBundle is empty: the API server trusts no webhook yet, and no pod is injected")
	}
	return end, nil
}
