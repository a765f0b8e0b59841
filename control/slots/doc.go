// Package slots divides the limit of each pod of a revision among several activators, as leases.
//
// A [Ledger] is one revision's account. It is told which pods are ready, which activators are there, what they have
// parked and in flight, and what they acknowledge; [Ledger.Step] returns the grants that follow. It is pure: the time is
// a value, nothing is sent, and whoever calls it may lose, delay or repeat messages.
//
// # The account
//
// For each activator and pod the ledger keeps a bound: the most that the activator can have in flight there, whatever
// became of messages. The bound is the larger of what it last acknowledged and what was sent since. A grant is numbered; an
// activator follows only higher numbers than it has seen, and acknowledges with the larger of what was granted and what
// it still has in flight. A slot is given to somebody only when the sum of the bounds leaves one free. So the sum of the
// bounds of a pod never grows beyond its limit: a slot moves by being revoked, falling free, being acknowledged, and
// being granted, in this order.
//
// An activator that is disconnected keeps its bounds for [Config.TTL], then they are taken as given back: whoever is
// cut off for longer and still alive is held by the pod's own breaker alone. A new ledger does not know who holds what in
// pods that were there before it; it leaves them alone for a TTL, in which the holders come and claim what they have. Who
// says that it follows no limit, because there was none, goes on so for this time: it would have nothing otherwise.
//
// # Who gets how much
//
//   - With at least as many pods as activators each gets whole pods, else the slots of each pod are split. Activators
//     that join are given a share of what the others have; what nobody holds goes to those in need, then to those with
//     the least.
//   - An activator that needs more than it has takes from those that have free slots, the idlest first. Free means so
//     for [Config.Turn]: a pause between two requests moves nothing.
//   - When none are free, it takes from those that have at least two more than it has.
//   - One that has nothing at all takes a slot from whoever has had his for longest, at least a Turn: with fewer slots
//     than activators in need, slots go round.
//   - One that has nothing and needs nothing gets a spare slot of another after [Config.Settle], so that it can serve its
//     next request without asking.
//   - One that is leaving keeps what it uses.
//   - Slots in a pod that an activator can send nothing to, because the pod starts or the activator leaves it alone, are
//     none to it: it takes others as if it had none there, and gives those to whoever can use them. What it needs beyond
//     the others it has in starting pods ahead, so that they are where requests wait when such a pod answers.
//
// # Order
//
// Requests of one activator are served strictly first in, first out; that is the activator's own queue. Across activators
// no order is kept: the ledger promises that none waits while another has slots free for longer than a Turn, and that
// shares are even within a slot where all are in need, but a request may be overtaken by one that came later to another
// activator, by about one Turn per activator in need.
//
// A Ledger is for one goroutine at a time.
package slots
