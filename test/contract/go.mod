module github.com/rousehq/rouse/test/contract

go 1.26.0

// Read as text, not imported: `go mod tidy` would drop it.
require knative.dev/serving v0.42.2
