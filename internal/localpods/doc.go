// Package localpods runs the pods of `rouse up` as processes of this machine.
//
// A pod is a user process and, unless its revision has none, a queue-proxy in front of it: a handler inside this
// process or the real binary beside the application. A [Runner] starts and stops pods as it is told by
// [Runner.Apply], and publishes them to an [endpoint.Book]: starting, ready, draining, gone.
//
// What it promises:
//   - The process gets a PORT that was free a moment ago, outside of the kernel's ephemeral range. A port that
//     someone else took in between costs that attempt, never the pod: the next attempt has another port.
//   - A pod is ready only when a listener of its own process tree answers the probe. A program that listens elsewhere
//     is reported by name and port.
//   - A pod that exits is replaced with exponential back-off. A revision that keeps crashing, or makes no progress
//     until its deadline, is failing: [Runner.Health] says why, so that those who wait for it can be told.
//   - A pod that is stopped first leaves the book, then its queue-proxy finishes what it has, then its process group
//     gets SIGTERM, and at the end of the grace SIGKILL.
//   - When [Runner.Run] returns, no process that it started is left: not the children of user processes either, even
//     when they moved to another process group or session. When this process is killed, the kernel kills the user
//     processes and sidecars that it started; their own children are then on their own.
//
// What it does not do: isolate. Processes share the machine's file system, network and memory with this one.
//
// A Runner is safe for concurrent use. It works on Linux, where /proc tells who listens.
package localpods
