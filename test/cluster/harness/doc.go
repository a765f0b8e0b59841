// Package harness is what tests of the cluster are written with. Their binaries run inside the sandbox (`make e2e`, or `go test -exec`
// with cmd/cluster, see the module's README.md), where the API server, pods and ClusterIPs are reached as on any node:
//
//	func TestWakes(t *testing.T) {
//		c := harness.New(t)                       // a namespace of its own, deleted at the end; state is dumped when the test failed
//		c.Apply(deployment)                       // YAML, any kind, {{.Namespace}} and {{image "NAME"}} are filled in
//		c.WaitDeployment("hello", 1)
//		got := c.Get(c.URL("hello", 80) + "/")    // by ClusterIP
//		...
//		c.Eventually(10*time.Second, "no pod is left", func() error { ... })
//	}
//
// Images are binaries in the directory of images, built before the sandbox starts; Image fails a test whose binary is missing. Nothing here
// sleeps: waiting is on conditions, with a deadline. A Cluster belongs to one test; its methods fail the test from the test's own goroutine,
// unless they return an error. Load is safe to run from several goroutines.
package harness
