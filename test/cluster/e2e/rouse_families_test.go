package e2e

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rousehq/rouse/test/cluster/harness"
)

// TestRouseIPv6Alone: a Service that has an IPv6 address alone leads to activators' and to pods' IPv6 addresses, and wakes.
func TestRouseIPv6Alone(t *testing.T) {
	c := install(t)
	c.Apply(hello(0, "ipFamilies: [IPv6], ", `target-burst-capacity: "0"`))
	waitAddresses(c, "activators", "activator", discoveryv1.AddressTypeIPv6)
	urls := c.URLs("hello", 80)
	if len(urls) != 1 || !strings.Contains(urls[0], "[") {
		t.Fatalf("the Service has the addresses %v, want one of IPv6", urls)
	}
	awaitProxy(c, urls[0])
	for range long(1, 5) {
		wakes(t, c, urls[0])
		waitAddresses(c, "pods", "hello", discoveryv1.AddressTypeIPv6)
		waitZero(c)
		waitAddresses(c, "activators", "activator", discoveryv1.AddressTypeIPv6)
	}
}

// TestRouseBothFamilies: a dual-stack Service wakes by either address, and loses nothing at either when it is moved between activators and pods.
func TestRouseBothFamilies(t *testing.T) {
	c := install(t)
	both := []discoveryv1.AddressType{discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6}
	c.Apply(hello(0, "ipFamilyPolicy: RequireDualStack, ", `target-burst-capacity: "-1"`))
	waitAddresses(c, "activators", "activator", both...)
	urls := c.URLs("hello", 80)
	if len(urls) != 2 {
		t.Fatalf("the Service has the addresses %v, want two", urls)
	}
	for _, url := range urls {
		awaitProxy(c, url)
		wakes(t, c, url)
		waitZero(c)
	}
	wakes(t, c, urls[1]) // kube-proxy knows both: neither client has to be patient
	underLoad(t, c, urls[0], func() {
		underLoad(t, c, urls[1], func() {
			for range long(2, 10) {
				annotate(t, c, "target-burst-capacity", "0")
				waitAddresses(c, "pods", "hello", both...)
				lasting(c, 2*time.Second)
				annotate(t, c, "target-burst-capacity", "-1")
				waitAddresses(c, "activators", "activator", both...)
				lasting(c, 2*time.Second)
			}
		})
	})
	waitZero(c)
	wakes(t, c, urls[0])
}

// TestRouseBecomesDualStack: a Service gets its second address while it is asked by its first one.
func TestRouseBecomesDualStack(t *testing.T) {
	c := install(t)
	c.Apply(hello(0, ""))
	first := discoveryv1.AddressTypeIPv4
	if onIPv6(c) {
		first = discoveryv1.AddressTypeIPv6
	}
	waitAddresses(c, "activators", "activator", first)
	awaitProxy(c, c.URL("hello", 80))
	underLoad(t, c, c.URL("hello", 80), func() {
		_, service, _ := strings.Cut(hello(0, "ipFamilyPolicy: PreferDualStack, "), "\n---\n")
		c.Apply(service)
		waitAddresses(c, "activators", "activator", discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6)
		urls := c.URLs("hello", 80)
		if len(urls) != 2 {
			t.Fatalf("the Service has the addresses %v, want two", urls)
		}
		awaitProxy(c, urls[1])
		wakes(t, c, urls[1])
	})
}

// TestRouseAdoptsBothFamilies: a dual-stack Service with a selector comes and goes while it is asked by both addresses.
func TestRouseAdoptsBothFamilies(t *testing.T) {
	c := install(t)
	both := []discoveryv1.AddressType{discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6}
	c.Apply(hello(2, "ipFamilyPolicy: RequireDualStack, selector: {app: hello},", `min-scale: "2"`, `target-burst-capacity: "-1"`))
	c.WaitDeployment("hello", 2)
	urls := c.URLs("hello", 80)
	for _, url := range urls {
		c.Eventually(30*time.Second, url+" answers", func() error { return c.Reach(url) })
	}
	underLoad(t, c, urls[0], func() {
		underLoad(t, c, urls[1], func() {
			for range long(2, 5) {
				rouseDo(t, c, "adopt", "hello")
				waitAddresses(c, "activators", "activator", both...)
				lasting(c, time.Second)
				rouseDo(t, c, "release", "hello")
				waitAddresses(c, "", "hello", both...)
				lasting(c, time.Second)
			}
		})
	})
}

func wakes(t *testing.T, c *harness.Cluster, url string) {
	t.Helper()
	began := time.Now()
	if r := c.Get(url + "/"); r.Status != 200 {
		t.Fatalf("GET %s: %d %q", url, r.Status, r.Body)
	}
	t.Logf("%s answered after %v", url, time.Since(began))
}

func waitZero(c *harness.Cluster) {
	c.Eventually(time.Minute, "nothing is asked for any more", func() error {
		if n := *c.Deployment("hello").Spec.Replicas; n != 0 {
			return fmt.Errorf("%d replicas", n)
		}
		return nil
	})
	c.WaitGone("app=hello", time.Minute)
}

// waitAddresses waits until the Service hello leads to one backend alone, to all pods of an application that are there to stay, in exactly these
// families.
func waitAddresses(c *harness.Cluster, backend, app string, families ...discoveryv1.AddressType) {
	c.Eventually(90*time.Second, fmt.Sprintf("the Service leads to %s by %v", backend, families), func() error {
		got, err := endpointsBehind(c, backend)
		if err != nil {
			return err
		}
		var want []string
		for _, p := range c.Pods("app=" + app) {
			for _, ip := range p.Status.PodIPs {
				if p.DeletionTimestamp == nil && slices.Contains(families, familyOf(ip.IP)) {
					want = append(want, string(familyOf(ip.IP))+" "+ip.IP)
				}
			}
		}
		slices.Sort(want)
		if len(want) == 0 || !slices.Equal(got, want) {
			return fmt.Errorf("it leads to %v, want %v", got, want)
		}
		return nil
	})
}

// endpointsBehind lists the endpoints of hello with their slices' families. Another backend is an error.
func endpointsBehind(c *harness.Cluster, backend string) (all []string, err error) {
	list, err := c.Client.DiscoveryV1().EndpointSlices(c.Namespace).List(c.Context, metav1.ListOptions{LabelSelector: discoveryv1.LabelServiceName + "=hello"})
	if err != nil {
		return nil, err
	}
	for _, s := range list.Items {
		for _, e := range s.Endpoints {
			if got := s.Labels["rouse.dev/backend"]; got != backend {
				return nil, fmt.Errorf("%s is behind it, of backend %q", e.Addresses[0], got)
			}
			all = append(all, string(s.AddressType)+" "+e.Addresses[0])
		}
	}
	slices.Sort(all)
	return all, nil
}

func familyOf(text string) discoveryv1.AddressType {
	if a, err := netip.ParseAddr(text); err == nil && a.Is6() {
		return discoveryv1.AddressTypeIPv6
	}
	return discoveryv1.AddressTypeIPv4
}
