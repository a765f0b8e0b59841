// Package procfs reads from /proc who runs, who descends from whom, and who listens on which TCP port.
//
// What it returns is a picture of a moment: a process that ends while it is read is left out, and that is no error.
// It does not cache. All functions are safe for concurrent use. Linux only.
package procfs
