package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/rousehq/rouse/internal/assign"
	"github.com/rousehq/rouse/internal/kube"
	"github.com/rousehq/rouse/internal/portalloc"
)

// Defaults of control's and the webhook's environment.
const (
	defaultBuckets  = "16"
	defaultPorts    = "20000-29999"
	defaultBook     = "rouse-ports"
	defaultSettings = "config-autoscaler"
	defaultToken    = "rouse-token"
	webhookCerts    = "rouse-webhook-certs"
)

// askers is how many questions are under way at once.
const askers = 8

// installed checks what is installed, part by part.
func (k *checker) installed(ctx context.Context) {
	k.add(judgeComponent("control", "StatefulSet "+controlName, k.control), judgeComponent("activators", "Deployment "+activatorName, k.activators))
	if k.webhook != nil {
		k.add(judgeComponent("webhook", "Deployment "+webhookName, k.webhook))
	}
	k.rights(ctx)
	if k.control != nil {
		said := k.connections(ctx)
		k.shares(ctx)
		k.portBook(ctx)
		k.settings(ctx)
		k.add(judgeVersions([]*kube.Component{k.control, k.activators, k.webhook}, said))
	}
	k.trust(ctx)
}

// rights asks of every rule of the installation's roles whether it is in force.
func (k *checker) rights(ctx context.Context) {
	secret := ""
	if k.control != nil {
		if name, _ := agreed(k.control, "ROUSE_TOKEN_SECRET", defaultToken); name != defaultToken {
			secret = name
		}
	}
	objects, err := installation(k.reach.system, secret)
	if err != nil {
		k.add(unasked("rights", err, kube.Right{}))
		return
	}
	for _, account := range []string{controlAccount, webhookAccount} {
		if account == webhookAccount && k.webhook == nil {
			continue
		}
		wanted := slices.DeleteFunc(grants(objects), func(g grant) bool { return g.account != account })
		granted, err := k.review(ctx, wanted)
		if err != nil {
			k.add(unasked("rights of "+account, err, kube.Right{Verb: "create", Group: "authorization.k8s.io", Resource: "subjectaccessreviews"}))
			continue
		}
		k.add(judgeGrants(account, wanted, granted)...)
	}
}

// review asks for all of them, a few at a time.
func (k *checker) review(ctx context.Context, wanted []grant) ([]bool, error) {
	granted, errs := make([]bool, len(wanted)), make([]error, len(wanted))
	var wg sync.WaitGroup
	slots := make(chan struct{}, askers)
	for i, g := range wanted {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			granted[i], errs[i] = k.c.Granted(ctx, k.reach.system, g.account, g.right)
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	return granted, nil
}

// judgeGrants names each right that is missing, and the role that should give it.
func judgeGrants(account string, wanted []grant, granted []bool) (out []finding) {
	check := "rights of " + account
	for i, g := range wanted {
		if !granted[i] {
			out = append(out, finding{failed, check, "", fmt.Sprintf("it may not %s, which %s should allow", g.right, g.role), reinstall})
		}
	}
	if len(out) == 0 {
		out = append(out, finding{Level: good, Check: check, Text: fmt.Sprintf("all %d are granted", len(wanted))})
	}
	return out
}

// connections asks every instance of control which activators it knows.
func (k *checker) connections(ctx context.Context) map[string][]assign.ActivatorState {
	said, err := roster(ctx, k.c, k.reach.system, ready(k.control))
	if err != nil {
		k.add(unasked("activators' streams", err, pageRight(k.reach.system)))
	}
	if k.activators != nil {
		k.add(judgeConnections(k.activators, said)...)
	}
	k.in.activators = known(said)
	return said
}

// known is what all instances together know of activators; nil when none could be asked.
func known(said map[string][]assign.ActivatorState) (all []assign.ActivatorState) {
	for _, instance := range slices.Sorted(maps.Keys(said)) {
		all = append(all, said[instance]...)
	}
	return all
}

// Members renew every 1.5 s; one that has not after a Term is gone.
const (
	leaseLook = 500 * time.Millisecond
	leaseWait = kube.Term + time.Second
)

// shares reads the Leases until every member has renewed, or has not for a term.
func (k *checker) shares(ctx context.Context) {
	leases := kube.Right{Verb: "list", Group: "coordination.k8s.io", Resource: "leases", Namespace: k.reach.system}
	text, agree := agreed(k.control, "ROUSE_BUCKETS", defaultBuckets)
	buckets, err := strconv.Atoi(text)
	if err != nil || !agree {
		k.add(finding{failed, "shares", "", "instances of control have different ROUSE_BUCKETS, or one that is no number", "give all of them the same"})
		return
	}
	first, err := k.c.Shares(ctx, k.reach.system)
	if err != nil {
		k.add(unasked("shares", err, leases))
		return
	}
	last := first
	for end := time.Now().Add(leaseWait); time.Now().Before(end) && ctx.Err() == nil && !renewed(first, last); {
		pause(ctx, leaseLook)
		if last, err = k.c.Shares(ctx, k.reach.system); err != nil {
			k.add(unasked("shares", err, leases))
			return
		}
	}
	k.add(judgeShares(first, last, k.control, buckets)...)
}

// renewed says whether every member of the first reading has renewed.
func renewed(first, last kube.Shares) bool {
	for name, stamp := range first.Members {
		if now, there := last.Members[name]; there && now == stamp {
			return false
		}
	}
	return len(last.Members) > 0
}

// portBook looks at the book of ports.
func (k *checker) portBook(ctx context.Context) {
	within, agree := agreed(k.control, "ROUSE_ACTIVATOR_PORTS", defaultPorts)
	if !agree {
		k.add(finding{failed, checkPorts, "", "instances of control have different ROUSE_ACTIVATOR_PORTS", "give all of them the same"})
	}
	data, err := k.readBook(ctx)
	if err != nil {
		k.add(unasked(checkPorts, err, kube.Right{Verb: "get", Resource: "configmaps", Namespace: k.reach.system}))
		return
	}
	k.add(judgePorts(data, within)...)
	if k.in.within, err = portalloc.ParseRange(within); err == nil {
		trial, _ := portalloc.Decode(data)
		_, k.in.exhausted = trial.Assign("a/new/one", "", k.in.within, time.Now())
	}
}

func (k *checker) readBook(ctx context.Context) (map[string]string, error) {
	name, _ := agreed(k.control, "ROUSE_PORTS_CONFIGMAP", defaultBook)
	data, _, err := k.c.ConfigMap(ctx, k.reach.system, name)
	if err == nil {
		k.in.book, _ = portalloc.Decode(data)
	}
	return data, err
}

func (k *checker) settings(ctx context.Context) {
	name, _ := agreed(k.control, "CONFIG_AUTOSCALER_NAME", defaultSettings)
	data, found, err := k.c.ConfigMap(ctx, k.reach.system, name)
	if err != nil {
		k.add(unasked("settings", err, kube.Right{Verb: "get", Resource: "configmaps", Name: name, Namespace: k.reach.system}))
		return
	}
	var said []finding
	k.base, said = judgeSettings(name, data, found)
	k.add(said...)
}

// trust looks at the webhook's configuration, which may be there without the webhook and the other way round.
func (k *checker) trust(ctx context.Context) {
	bundles, found, err := k.c.Trusted(ctx, webhookConfigName)
	switch {
	case err != nil:
		k.add(unasked("webhook's authorities", err, kube.Right{Verb: "get", Group: "admissionregistration.k8s.io", Resource: "mutatingwebhookconfigurations"}))
	case found && k.webhook == nil:
		k.add(finding{warned, "webhook", "", "MutatingWebhookConfiguration " + webhookConfigName + " is there, and Deployment " + webhookName + " is not in " + k.reach.system,
			"rouse install --webhook, with the other flags of the first time, | kubectl apply -f -; or delete the configuration"})
	case found:
		k.add(judgeTrust(bundles, k.now))
	case k.webhook != nil:
		k.add(finding{failed, "webhook", "", "MutatingWebhookConfiguration " + webhookConfigName + " is not there: no pod is injected", "rouse install --webhook, with the other flags of the first time, | kubectl apply -f -"})
	default:
		k.add(finding{Level: noted, Check: "webhook", Text: "not installed: queue-proxies come by `rouse inject` alone"})
	}
}

// refresh reads again what changes while workloads are judged.
func (k *checker) refresh(ctx context.Context) {
	if said, err := roster(ctx, k.c, k.reach.system, ready(k.control)); err == nil {
		k.in.activators = known(said)
	}
	if _, err := k.readBook(ctx); err != nil {
		k.in.book = nil
	}
}

// uninstalled checks whether Rouse could be installed: the API server serves every kind, and the caller may make it.
func (k *checker) uninstalled(ctx context.Context) {
	const check = "installation"
	if at, err := k.c.Bound(ctx, controlAccount); err == nil && len(at) > 0 { // to install it here would take its rights away there
		k.add(finding{failed, check, "", fmt.Sprintf("Rouse is not in namespace %s: its rights are for namespace %s", k.reach.system, at[0]),
			"--system-namespace " + at[0]})
		k.elsewhere = true
		return
	}
	objects, err := installation(k.reach.system, "")
	if err != nil {
		k.add(unasked(check, err, kube.Right{}))
		return
	}
	var missing []finding
	asked := map[kube.Right]bool{}
	for _, o := range objects {
		resource, err := k.c.Resource(ctx, o.APIVersion, o.Kind)
		if err != nil {
			k.add(unasked(check, err, kube.Right{}))
			return
		}
		if resource == "" {
			missing = append(missing, finding{failed, check, "", fmt.Sprintf("the API server does not serve %s %s", o.APIVersion, o.Kind), "upgrade Kubernetes"})
			continue
		}
		group, _, namespaced := strings.Cut(o.APIVersion, "/")
		if !namespaced {
			group = ""
		}
		r := kube.Right{Verb: "create", Group: group, Resource: resource, Namespace: o.Metadata.Namespace}
		if asked[r] {
			continue
		}
		asked[r] = true
		may, err := k.c.Permitted(ctx, r)
		if err != nil {
			k.add(unasked(check, err, kube.Right{}))
			return
		}
		if !may {
			missing = append(missing, finding{failed, check, "", "you may not " + r.String(), "have somebody install it who may"})
		}
	}
	if len(missing) > 0 {
		k.add(missing...)
		return
	}
	k.add(finding{Level: good, Check: check, Text: fmt.Sprintf("you may make all %d kinds of object that it needs", len(asked))},
		finding{warned, check, "", "Rouse is not installed in namespace " + k.reach.system, install + ", or --system-namespace"})
}
