package main

import (
	"cmp"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/rousehq/rouse/internal/assign"
	"github.com/rousehq/rouse/internal/kube"
)

// Names of what is installed; a test holds them against package deploy.
const (
	controlName       = "autoscaler"
	activatorName     = "activator"
	webhookName       = "rouse-webhook"
	webhookConfigName = "rouse-inject"
	controlAccount    = "rouse-control"
	webhookAccount    = "rouse-webhook"
)

// What is printed is always the same: whoever installs again gets what is missing, and loses what it does not ask for again.
const (
	install   = "rouse install | kubectl apply -f -"
	reinstall = "rouse install, with the flags of the first time, | kubectl apply -f -"
)

// oldest is the first minor version of Kubernetes 1 with native sidecars on by default.
const oldest = 29

func judgeVersion(v kube.Version) finding {
	f := finding{Level: good, Check: "API server", Text: v.Git}
	minor, err := strconv.Atoi(strings.TrimRight(v.Minor, "+"))
	if v.Major == "1" && err == nil && minor < oldest {
		f.Level, f.Text = warned, fmt.Sprintf("%s is older than 1.%d: queue-proxies that are native sidecars don't run there", v.Git, oldest)
		f.Remedy = "upgrade, or use workloads without the queue-proxy"
	}
	return f
}

// judgeComponent says whether all instances of a part of Rouse are ready; nil is one that is not there.
func judgeComponent(check, name string, c *kube.Component) finding {
	f := finding{Check: check}
	if c == nil {
		f.Level, f.Text, f.Remedy = failed, name+" is not there", reinstall
		return f
	}
	ready, bad := 0, []string{}
	for _, i := range c.Instances {
		switch {
		case i.Terminating:
		case i.Ready:
			ready++
		default:
			bad = append(bad, fmt.Sprintf("%s is not: %s", i.Name, i.Why))
		}
	}
	f.Level, f.Text = good, fmt.Sprintf("%d of %d ready", ready, c.Wanted)
	if ready < c.Wanted {
		f.Level, f.Remedy = warned, fmt.Sprintf("kubectl describe %s %s and its pods", strings.ToLower(string(c.Kind)), c.Name)
	}
	if ready == 0 {
		f.Level = failed
		if c.Wanted == 0 {
			f.Text, f.Remedy = "it is scaled to zero", fmt.Sprintf("kubectl scale %s %s --replicas 2", strings.ToLower(string(c.Kind)), c.Name)
		}
	}
	if len(bad) > 0 {
		f.Text += "; " + strings.Join(bad, "; ")
	}
	return f
}

// judgeVersions compares the builds of all instances: by their images, and by what activators say of themselves.
func judgeVersions(components []*kube.Component, said map[string][]assign.ActivatorState) finding {
	tags, builds := map[string]string{}, map[string]bool{}
	var mixed []string
	for _, c := range components {
		if c == nil {
			continue
		}
		images := map[string]bool{}
		for _, i := range c.Instances {
			images[cmp.Or(i.ImageID, i.Image)] = true
			if t := tag(i.Image); t != "" {
				tags[t] = c.Name
			}
		}
		if len(images) > 1 {
			mixed = append(mixed, c.Name)
		}
	}
	for _, states := range said {
		for _, s := range states {
			if s.Connected && s.Version != "" {
				builds[s.Version] = true
			}
		}
	}
	f := finding{Level: warned, Check: "versions", Remedy: "finish the rollout, or install again with one image tag"}
	switch {
	case len(mixed) > 0:
		f.Text = "instances run different images: " + strings.Join(mixed, ", ")
	case len(tags) > 1:
		f.Text = "images have different tags: " + strings.Join(slices.Sorted(maps.Keys(tags)), ", ")
	case len(builds) > 1:
		f.Text = "activators are of different builds: " + strings.Join(slices.Sorted(maps.Keys(builds)), ", ")
	default:
		f = finding{Level: good, Check: "versions", Text: "one of all instances"}
		if len(tags) == 1 {
			f.Text += ": " + slices.Collect(maps.Keys(tags))[0]
		}
	}
	return f
}

// tag is what tells versions of an image apart, empty when it says none.
func tag(image string) string {
	if _, digest, ok := strings.Cut(image, "@"); ok {
		return digest
	}
	base := image[strings.LastIndexByte(image, '/')+1:]
	_, t, _ := strings.Cut(base, ":")
	return t
}

// judgeConnections says which activators lack a stream to an instance of control, and which could not open a port. said is
// what each instance that could be asked tells.
func judgeConnections(activators *kube.Component, said map[string][]assign.ActivatorState) []finding {
	var bad []finding
	const check = "activators' streams"
	live := 0
	for _, a := range activators.Instances {
		if !a.Ready || a.Terminating {
			continue
		}
		live++
		for _, instance := range slices.Sorted(maps.Keys(said)) {
			s, known := stateOf(said[instance], a.Addrs)
			switch {
			case !known || !s.Connected:
				bad = append(bad, finding{failed, check, a.Name, "it is not connected to " + instance,
					"compare its ROUSE_CONTROL_URLS and token with control's, and see its log"})
			case len(closed(s)) > 0:
				bad = append(bad, finding{failed, check, a.Name, "it could not open " + strings.Join(closed(s), ", ") + ", says " + instance,
					"end what listens there, or change ROUSE_ACTIVATOR_PORTS"})
			}
		}
	}
	if len(bad) > 0 || len(said) == 0 {
		return bad
	}
	return []finding{{Level: good, Check: check, Text: fmt.Sprintf("%d activators are connected to each of %d instances of control", live, len(said))}}
}

// stateOf finds an activator by its addresses: the last one that says it is there.
func stateOf(states []assign.ActivatorState, addrs []netip.Addr) (found assign.ActivatorState, ok bool) {
	for _, s := range states {
		host, _, err := net.SplitHostPort(s.Addr)
		if err != nil {
			continue
		}
		if a, err := netip.ParseAddr(host); err == nil && slices.Contains(addrs, a.Unmap()) && (!ok || s.Connected) {
			found, ok = s, true
		}
	}
	return found, ok
}

// closed lists the ports that an activator could not open, with the reason.
func closed(s assign.ActivatorState) (out []string) {
	for _, port := range slices.Sorted(maps.Keys(s.Ports)) {
		if why := s.Ports[port]; why != "" {
			out = append(out, fmt.Sprintf("port %d (%s)", port, why))
		}
	}
	return out
}
