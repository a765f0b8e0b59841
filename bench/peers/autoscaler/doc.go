// Command autoscaler runs the core of Knative's autoscaler (MultiScaler, MetricCollector, windows, decision; release
// v0.42) on synthetic revisions and prints what that took, as JSON, for "rouse bench control".
//
// With -scrape=memory every pod's report is at hand: what is left is Knative's own bookkeeping, its least. With
// -scrape=http Knative's scraper fetches each report from a child process that answers for all pods on port 9090, each
// pod at a loopback address of its own. Both are kinder than a cluster: every revision has a namespace to itself, so
// that listing its pods costs little, nothing is logged or exported, and changes are not reconciled.
//
// It is a module of its own, so that none of Knative's dependencies reach ours.
package main
