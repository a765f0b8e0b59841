// Package early opens the queue-proxy's serving port before the rest of the program is initialised.
//
// A pod's first readiness question comes 2 to 10 ms after its container was started. A connection that is refused then is
// asked again within the second, once, and after that only when the probe's period is over, which is 10 s by default. The
// initialisation of everything that the queue-proxy links takes longer than that on a busy node. A port that listens
// keeps the connection until it is served, a few milliseconds later.
//
// The linker initialises packages in the order of their needs and, among those that are ready, of their paths. So this
// package needs syscall alone: with net it would come after most of the others. It is the one exception to the rule that
// nothing happens before main, and what fails here happens again in main, where the error can be told.
package early
