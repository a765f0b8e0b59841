// Package parked measures what a parked request costs the activator: a real process that runs the activator on real
// listeners, clients in processes of their own, one connection and one request each, and no pod. At the end pods come,
// and every request must be answered.
//
// The figure is the growth of the process's resident memory, as the kernel counts it, by the number of requests. It is
// taken in steps, so that a cost which grows with the number would show.
//
// Each process needs a descriptor per connection: `ulimit -n` above the number of requests. Clients are spread over as
// many processes, and listeners over as many loopback addresses, as limits and ephemeral ports demand. Linux only.
package parked
