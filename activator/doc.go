// Package activator holds requests while a revision wakes, picks a pod for each, and forwards.
//
// Promises: per revision, parked requests are served strictly first in, first out; a slot that becomes free goes to
// the oldest waiter, and exactly as many are woken as there are slots. A pod without a free slot is never given a
// request. Queues are bounded per revision and over all revisions; at the bound a newcomer is answered 503 with
// Retry-After and the limit's name, while what was dispatched and comes back has its place still. A parked request's body
// has not been read. Wake-ups, failures and locks of one revision never touch another. When control is away the activator
// keeps serving with its last knowledge.
//
// A request goes to a second pod only when certainly no application saw it. A pod that refused one is left alone for a
// while, doubling from 10 ms to 1 s. On request (see [Settings]) pods that keep failing are ejected, sessions keep to
// their pods, pods of the own zone go first, and pods are asked whether they are ready before their source says so.
//
// Several activators keep a pod's limit together by grants ([Activator.Grant]). Picking a pod takes the same time whether
// there are ten or a thousand. An idle revision has no goroutine and costs 2 KB; a parked request costs 7 KB.
//
// It does not decide how many pods there should be, and it starts none: it reports demand ([Demand], [StatSink]) and
// is told where pods are (endpoint updates).
//
// All exported methods are safe for concurrent use. [New] starts nothing; [Activator.Run] reports until its context
// ends and waits for what it started.
package activator
