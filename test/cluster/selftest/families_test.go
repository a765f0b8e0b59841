package selftest

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rousehq/rouse/test/cluster/harness"
)

// families is a Service of web for each policy that is not the default.
const families = `
---
apiVersion: v1
kind: Service
metadata: {name: both}
spec: {ipFamilyPolicy: RequireDualStack, selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: six}
spec: {ipFamilies: [IPv6], selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: peers}
spec: {clusterIP: None, ipFamilyPolicy: RequireDualStack, selector: {app: web}, ports: [{port: 8080}]}
---
`

// fetch asks for a URL from inside a pod, by name or address, in one family.
const fetch = `exec 3<>/dev/tcp/%s/%d; printf 'GET /from-pod HTTP/1.0\r\n\r\n' >&3; cat <&3`

func TestBothFamilies(t *testing.T) {
	t.Parallel()
	c := harness.New(t)
	c.Apply(fmt.Sprintf(web, 1) + families + tester)
	c.WaitDeployment("web", 1)
	own := c.Pods("app=web")[0]
	first := is6(apiServer(c)) // IPv6 comes first
	if len(own.Status.PodIPs) != 2 || is6(own.Status.PodIPs[1].IP) == first || is6(own.Status.PodIPs[0].IP) != first {
		t.Fatalf("the pod has the addresses %v, want one of each family, IPv6 first: %t", own.Status.PodIPs, first)
	}
	if urls := c.URLs("web", 80); len(urls) != 1 || strings.Contains(urls[0], "[") != first {
		t.Errorf("a Service that asks for nothing has the addresses %v, want one, of IPv6: %t", urls, first)
	}
	c.WaitPod("tester", "runs", 30*time.Second, harness.Ready)
	bridgeKeepsItsAddress(t)
	for service, n := range map[string]int{"both": 2, "six": 1} {
		urls := c.URLs(service, 80)
		if six := slices.ContainsFunc(urls, func(u string) bool { return strings.Contains(u, "[") }); len(urls) != n || !six {
			t.Errorf("Service %s has the addresses %v", service, urls)
		}
		for _, url := range urls {
			c.Eventually(10*time.Second, url+" answers", func() error { return c.Reach(url) })
			host := strings.Trim(strings.TrimSuffix(strings.TrimPrefix(url, "http://"), ":80"), "[]")
			for _, from := range []string{"tester", own.Name} { // the last one meets itself
				if out, err := c.Kubectl("exec", from, "--", "bash", "-c", fmt.Sprintf(fetch, host, 80)); err != nil || !strings.Contains(out, "200 OK") {
					t.Errorf("%s from pod %s: %v\n%s", url, from, err, out)
				}
			}
		}
	}
	for name, want := range map[string]string{"six": c.URL("six", 80), "peers": own.Status.PodIPs[0].IP + " " + own.Status.PodIPs[1].IP} {
		out, err := c.Kubectl("exec", "tester", "--", "getent", "ahostsv6", name)
		address, _, _ := strings.Cut(out, " ")
		if err != nil || address == "" || !strings.Contains(want, address) {
			t.Errorf("%s resolves to %q (%v), want %s", name, out, err, want)
		}
	}
}

// bridgeKeepsItsAddress: a bridge without a hardware address of its own has the lowest of its ports', until a lower one comes.
func bridgeKeepsItsAddress(t *testing.T) {
	t.Helper()
	links, err := netlink.LinkList()
	if err != nil {
		t.Fatal(err)
	}
	ports := 0
	for _, port := range links {
		i := slices.IndexFunc(links, func(l netlink.Link) bool { return l.Type() == "bridge" && l.Attrs().Index == port.Attrs().MasterIndex })
		if i < 0 {
			continue
		}
		ports++
		if got := links[i].Attrs().HardwareAddr; bytes.Equal(got, port.Attrs().HardwareAddr) {
			t.Errorf("the bridge has %s, the address of its port %s", got, port.Attrs().Name)
		}
	}
	if ports < 2 {
		t.Errorf("%d pods are on the bridge, want the two of this test at least", ports)
	}
}

// apiServer is the address of the Service kubernetes, of the family that comes first in the cluster.
func apiServer(c *harness.Cluster) string {
	s, err := c.Client.CoreV1().Services("default").Get(c.Context, "kubernetes", metav1.GetOptions{})
	if err != nil {
		return err.Error()
	}
	return s.Spec.ClusterIP
}

func is6(text string) bool {
	a, err := netip.ParseAddr(text)
	return err == nil && a.Is6()
}
