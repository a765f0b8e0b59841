// Package controlbench measures what the control loop costs: share of a core, lateness of decisions and bytes per
// revision, for thousands of revisions whose pods report once per second, and the same work done by Knative's own
// autoscaler in the same run.
//
// The measured process holds the loop and the receiving side of the stats stream. The producers are a child process that
// connects over the loopback interface, so that their CPU is not counted. CPU is the process's user and system time,
// from getrusage. What is behind the loop (pods, scale targets) costs nothing: targets accept at once.
//
// Knative's part is a program in a module of its own (bench/peers/autoscaler), which is built and run after ours: its
// MultiScaler, collector, windows and decision. Either side runs twice: as it collects (our streams, its HTTP scrapes),
// and with reports that are at hand in the process, where only bookkeeping and decisions are left. Knative's scrapes of
// all pods would not fit a small machine, so it scrapes for fewer revisions, and CPU is compared per revision.
//
// Concurrency: one run at a time per process; [BenchMain] returns when everything that it started has ended.
package controlbench
