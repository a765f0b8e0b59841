// Package archtest holds the repository to its design with tests: who may import whom, what the binaries link, what
// pure code may touch, and what tests may not do. Each rule carries its reason and prints it when it fails.
//
// A new package is an edge until the table of ranks in imports_test.go says otherwise. The package has no code of its own.
package archtest
