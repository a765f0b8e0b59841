package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/rousehq/rouse/internal/assign"
	"github.com/rousehq/rouse/internal/kube"
	"github.com/rousehq/rouse/internal/member"
	"github.com/rousehq/rouse/internal/portalloc"
	"github.com/rousehq/rouse/internal/workload"
)

// says fails unless findings are of these levels, in this order, and their texts together contain part.
func says(t *testing.T, name string, got []finding, part string, want ...level) {
	t.Helper()
	levels, text := []level{}, ""
	for _, f := range got {
		levels = append(levels, f.Level)
		text += f.About + ": " + f.Text + "\n"
	}
	if fmt.Sprint(levels) != fmt.Sprint(want) || !strings.Contains(text, part) {
		t.Errorf("%s: %v\n%s\nwant %v and %q", name, levels, text, want, part)
	}
}

func TestJudgeVersion(t *testing.T) {
	for _, tc := range []struct {
		v    kube.Version
		want level
	}{
		{kube.Version{Major: "1", Minor: "36", Git: "v1.36.3"}, good}, {kube.Version{Major: "1", Minor: "29+", Git: "v1.29.1-eks"}, good},
		{kube.Version{Major: "1", Minor: "28+", Git: "v1.28.9"}, warned}, {kube.Version{Major: "1", Minor: "?", Git: "odd"}, good},
	} {
		says(t, tc.v.Git, []finding{judgeVersion(tc.v)}, tc.v.Git, tc.want)
	}
}

func instance(name string, n byte, change ...func(*kube.Instance)) kube.Instance {
	i := kube.Instance{Name: name, Ready: true, Image: "rouse/" + name[:len(name)-2] + ":1", Addrs: []netip.Addr{netip.AddrFrom4([4]byte{10, 88, 0, n})}, Environ: map[string]string{}}
	for _, f := range change {
		f(&i)
	}
	return i
}

func unready(i *kube.Instance) { i.Ready, i.Why = false, "CrashLoopBackOff" }

func environ(name, value string) func(*kube.Instance) {
	return func(i *kube.Instance) { i.Environ[name] = value }
}

func part(kind workload.Kind, name string, wanted int, instances ...kube.Instance) *kube.Component {
	return &kube.Component{Kind: kind, Name: name, Wanted: wanted, Instances: instances}
}

func TestJudgeComponent(t *testing.T) {
	gone := func(i *kube.Instance) { i.Terminating = true }
	for _, tc := range []struct {
		name string
		c    *kube.Component
		want level
		part string
	}{
		{"not there", nil, failed, "control is not there"},
		{"all ready", part("StatefulSet", "control", 2, instance("a-0", 1), instance("a-1", 2)), good, "2 of 2 ready"},
		{"one is not", part("StatefulSet", "control", 2, instance("a-0", 1), instance("a-1", 2, unready)), warned, "1 of 2 ready; a-1 is not: CrashLoopBackOff"},
		{"none is", part("StatefulSet", "control", 1, instance("a-0", 1, unready)), failed, "a-0 is not"},
		{"one ends", part("StatefulSet", "control", 1, instance("a-0", 1), instance("a-1", 2, gone)), good, "1 of 1"},
		{"to zero", part("StatefulSet", "control", 0), failed, "scaled to zero"},
	} {
		says(t, tc.name, []finding{judgeComponent("x", "control", tc.c)}, tc.part, tc.want)
	}
}

func TestJudgeVersions(t *testing.T) {
	image := func(image, id string) func(*kube.Instance) {
		return func(i *kube.Instance) { i.Image, i.ImageID = image, id }
	}
	builds := func(versions ...string) map[string][]assign.ActivatorState {
		var all []assign.ActivatorState
		for _, v := range versions {
			all = append(all, assign.ActivatorState{Version: v, Connected: true})
		}
		return map[string][]assign.ActivatorState{"a-0": all}
	}
	for _, tc := range []struct {
		name string
		a, b *kube.Component
		said map[string][]assign.ActivatorState
		want level
		part string
	}{
		{"one tag", part("", "control", 1, instance("a-0", 1)), part("", "activator", 1, instance("b-0", 2)), builds("v1", "v1"), good, "instances: 1"},
		{"two tags", part("", "control", 1, instance("a-0", 1)), part("", "activator", 1, instance("b-0", 2, image("r:5000/activator:2", ""))), nil, warned, "different tags: 1, 2"},
		{"no tags", part("", "control", 1, instance("a-0", 1, image("r:5000/x", ""))), nil, nil, good, "one of all"},
		{"a rollout", part("", "control", 2, instance("a-0", 1, image("x:latest", "sha256:1")), instance("a-1", 1, image("x:latest", "sha256:2"))), nil, nil, warned, "different images: control"},
		{"two builds", part("", "control", 1, instance("a-0", 1)), nil, builds("v1", "v2"), warned, "builds: v1, v2"},
	} {
		says(t, tc.name, []finding{judgeVersions([]*kube.Component{tc.a, tc.b}, tc.said)}, tc.part, tc.want)
	}
}

func TestTag(t *testing.T) {
	for image, want := range map[string]string{"rouse/activator:1.2": "1.2", "localhost:5000/activator": "", "x@sha256:1": "sha256:1", "x": ""} {
		if got := tag(image); got != want {
			t.Errorf("tag(%q) = %q, want %q", image, got, want)
		}
	}
}

func activatorState(n byte, connected bool, ports map[uint16]string) assign.ActivatorState {
	return assign.ActivatorState{Name: fmt.Sprint("activator-", n), Addr: fmt.Sprintf("10.88.0.%d:8080", n), Connected: connected, Ports: ports}
}

func TestJudgeConnections(t *testing.T) {
	two := part("", "activator", 2, instance("activator-1", 1), instance("activator-2", 2), instance("activator-3", 3, unready))
	open := map[uint16]string{20001: ""}
	for _, tc := range []struct {
		name string
		said map[string][]assign.ActivatorState
		part string
		want []level
	}{
		{"nobody could be asked", nil, "", nil},
		{"all", map[string][]assign.ActivatorState{"a-0": {activatorState(1, true, open), activatorState(2, true, open)}}, "2 activators are connected to each of 1", []level{good}},
		{"one is missing", map[string][]assign.ActivatorState{"a-0": {activatorState(1, true, open)}, "a-1": {activatorState(1, true, open), activatorState(2, true, open)}},
			"activator-2: it is not connected to a-0", []level{failed}},
		{"its stream broke", map[string][]assign.ActivatorState{"a-0": {activatorState(1, false, open), activatorState(2, true, open)}}, "activator-1: it is not connected", []level{failed}},
		{"a former process of the same address", map[string][]assign.ActivatorState{"a-0": {activatorState(1, false, nil), activatorState(1, true, open), activatorState(2, true, open)}}, "", []level{good}},
		{"a port is taken", map[string][]assign.ActivatorState{"a-0": {activatorState(1, true, map[uint16]string{20001: "address in use"}), activatorState(2, true, open)}},
			"could not open port 20001 (address in use), says a-0", []level{failed}},
	} {
		says(t, tc.name, judgeConnections(two, tc.said), tc.part, tc.want...)
	}
}

func TestJudgeShares(t *testing.T) {
	control := part("", "autoscaler", 2, instance("a-0", 1), instance("a-1", 2))
	members := func(a, b string) map[string]string { return map[string]string{"a-0": a, "a-1": b} }
	held := func(all ...string) map[int]string {
		m := map[int]string{}
		for i, h := range all {
			m[i] = h
		}
		return m
	}
	fair := map[int]string{}
	for b := range 4 {
		fair[b] = member.Holder(b, []string{"a-0", "a-1"})
	}
	for _, tc := range []struct {
		name        string
		first, last kube.Shares
		part        string
		want        []level
	}{
		{"all well", kube.Shares{Members: members("1", "1")}, kube.Shares{Members: members("2", "3"), Holders: fair}, "4 buckets are held by a-0, a-1", []level{good}},
		{"one is about to get its share", kube.Shares{Members: members("1", "1")}, kube.Shares{Members: members("2", "3"), Holders: held("a-0", "a-0", "a-0", "a-0")}, "change hands", []level{warned}},
		{"one has died", kube.Shares{Members: members("1", "1")}, kube.Shares{Members: members("2", "1"), Holders: held("a-0", "a-1", "a-1", "a-0")}, "buckets 1, 2 are held by a-1, which does not renew", []level{failed, failed}},
		{"one has come", kube.Shares{Members: map[string]string{"a-0": "1"}}, kube.Shares{Members: members("2", "1"), Holders: fair}, "", []level{good}},
		{"nobody took anything", kube.Shares{Members: members("1", "1")}, kube.Shares{Members: members("2", "2")}, "buckets 0, 1, 2, 3 are held by nobody", []level{failed}},
	} {
		says(t, tc.name, judgeShares(tc.first, tc.last, control, 4), tc.part, tc.want...)
	}
}

func TestAgreed(t *testing.T) {
	for _, tc := range []struct {
		name string
		c    *kube.Component
		want string
		ok   bool
	}{
		{"none says it", part("", "a", 2, instance("a-0", 1), instance("a-1", 1)), "16", true},
		{"both say it", part("", "a", 2, instance("a-0", 1, environ("B", "8")), instance("a-1", 1, environ("B", "8"))), "8", true},
		{"one differs", part("", "a", 2, instance("a-0", 1, environ("B", "8")), instance("a-1", 1)), "16", false},
		{"nobody there", part("", "a", 2), "16", true},
	} {
		if got, ok := agreed(tc.c, "B", "16"); got != tc.want || ok != tc.ok {
			t.Errorf("%s: %q %t, want %q %t", tc.name, got, ok, tc.want, tc.ok)
		}
	}
}

func TestJudgePorts(t *testing.T) {
	full := map[string]string{}
	for i := range 10 {
		full[fmt.Sprint(20000+i)] = fmt.Sprintf("default/s%d/http", i)
	}
	for _, tc := range []struct {
		name   string
		data   map[string]string
		within string
		part   string
		want   []level
	}{
		{"none given yet", nil, "20000-29999", "0 of 10000 in 20000-29999", []level{good}},
		{"the node ports", nil, "30000-30999", "ROUSE_ACTIVATOR_PORTS: \"30000-30999\" overlaps 30000-32767 (Kubernetes' node ports)", []level{failed}},
		{"no range", nil, "many", "ROUSE_ACTIVATOR_PORTS", []level{failed}},
		{"used up", full, "20000-20009", "10 of 10", []level{failed}},
		{"nearly", full, "20000-20010", "10 of 11", []level{warned}},
		{"of an older range", full, "21000-21009", "0 of 10", []level{good}},
		{"an entry that is no good", map[string]string{"20001": "nonsense"}, "20000-29999", "port 20001", []level{failed}},
	} {
		says(t, tc.name, judgePorts(tc.data, tc.within), tc.part, tc.want...)
	}
	within := portalloc.Range{First: 30000, Last: 30010}
	says(t, "node ports", judgeNodePorts(within, []kube.NodePort{{Service: "a/b", Port: 30001}, {Service: "a/c", Port: 31000}}), "a/b: its node port 30001", failed)
}

func TestJudgeSettings(t *testing.T) {
	for _, tc := range []struct {
		name  string
		data  map[string]string
		found bool
		part  string
		want  []level
	}{
		{"not there", nil, false, "defaults are in force", []level{good}},
		{"good", map[string]string{"stable-window": "30s"}, true, "good", []level{good}},
		{"bad and unread", map[string]string{"stable-window": "1s", "stabel-window": "30s"}, true, "nothing reads stabel-window", []level{failed, warned}},
	} {
		base, got := judgeSettings("config-autoscaler", tc.data, tc.found)
		says(t, tc.name, got, tc.part, tc.want...)
		if want := map[bool]time.Duration{true: 30 * time.Second, false: 60 * time.Second}[tc.name == "good"]; base.StableWindow.V != want {
			t.Errorf("%s: stable window %s, want %s", tc.name, base.StableWindow.V, want)
		}
	}
}

func TestJudgeTrust(t *testing.T) {
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	until := func(left time.Duration) []byte { return authority(t, now.Add(left)) }
	const day = 24 * time.Hour
	for _, tc := range []struct {
		name    string
		bundles [][]byte
		part    string
		want    level
	}{
		{"no webhook", nil, "names no webhook", failed},
		{"empty", [][]byte{nil}, "caBundle is empty", failed},
		{"nonsense", [][]byte{pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")})}, "can't be read", failed},
		{"fresh", [][]byte{until(300 * day)}, "they end on 2030-10-28", good},
		{"renewed beside the old one", [][]byte{append(until(-day), until(300*day)...)}, "", good},
		{"overdue", [][]byte{until(50 * day)}, "should have been renewed", warned},
		{"ended", [][]byte{until(-day)}, "they ended on 2029-12-31", failed},
		{"one of two webhooks", [][]byte{until(300 * day), until(-day)}, "they ended", failed},
	} {
		says(t, tc.name, []finding{judgeTrust(tc.bundles, now)}, tc.part, tc.want)
	}
}

func authority(t *testing.T, end time.Time) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: end.AddDate(-1, 0, 0), NotAfter: end}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// TestGrants: what is asked of the API server is what the installation's roles say, no more and no less.
func TestGrants(t *testing.T) {
	objects, err := installation("here", "")
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, o := range objects {
		names[o.Kind+" "+o.Metadata.Name] = true
	}
	for _, want := range []string{"StatefulSet " + controlName, "Deployment " + activatorName, "Deployment " + webhookName,
		"MutatingWebhookConfiguration " + webhookConfigName, "ServiceAccount " + controlAccount, "ServiceAccount " + webhookAccount} {
		if !names[want] {
			t.Errorf("the installation has no %s", want)
		}
	}
	found := map[string]string{}
	for _, g := range grants(objects) {
		found[g.account+" "+g.right.String()] = g.role
	}
	for want, role := range map[string]string{
		"rouse-control patch deployments.apps/scale":                                                     "ClusterRole rouse-control",
		"rouse-control update leases.coordination.k8s.io in here":                                        "Role rouse-control",
		"rouse-control delete endpointslices.discovery.k8s.io":                                           "ClusterRole rouse-control",
		`rouse-webhook get secrets "rouse-webhook-certs" in here`:                                        "Role rouse-webhook",
		`rouse-webhook update mutatingwebhookconfigurations.admissionregistration.k8s.io "rouse-inject"`: "ClusterRole rouse-webhook",
	} {
		if found[want] != role {
			t.Errorf("%s comes from %q, want %s", want, found[want], role)
		}
	}
	wanted := []grant{{"a", "Role r", kube.Right{Verb: "get", Resource: "pods"}}, {"a", "Role r", kube.Right{Verb: "list", Resource: "pods"}}}
	says(t, "all", judgeGrants("a", wanted, []bool{true, true}), "all 2", good)
	says(t, "one is missing", judgeGrants("a", wanted, []bool{true, false}), "it may not list pods, which Role r should allow", failed)
}

func TestVerdict(t *testing.T) {
	for _, tc := range []struct {
		levels []level
		want   int
	}{
		{nil, 0}, {[]level{good, noted, warned}, 0}, {[]level{unknown, good}, exitUnasked}, {[]level{unknown, failed, good}, exitFound},
	} {
		var all []finding
		for _, l := range tc.levels {
			all = append(all, finding{Level: l})
		}
		if got := verdict(all); got != tc.want {
			t.Errorf("verdict of %v = %d, want %d", tc.levels, got, tc.want)
		}
	}
}

// TestLasting: a fault that only the second look has is one that is under way.
func TestLasting(t *testing.T) {
	first := []finding{{Level: failed, Check: "endpoints", About: "a"}, {Level: good, Check: "endpoints", About: "b"}}
	second := []finding{{Level: failed, Check: "endpoints", About: "a"}, {Level: failed, Check: "endpoints", About: "b"}, {Level: warned, Check: "w"}}
	says(t, "second look", lasting(first, second), "", failed, noted, warned)
}
