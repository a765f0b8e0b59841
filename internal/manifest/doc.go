// Package manifest turns the YAML that people already have into validated plain structs: Knative Services and the
// ConfigMaps beside them, in any number of files and documents.
//
// It promises: every fault of every file is reported at once, each with file, line, field path, the value found,
// what is allowed and the remedy; names, defaults and ranges are Knative's; a kind or field that is recognised but
// not built gives a warning and never stops what can run; a document that is not understood is never silently
// dropped. Nothing is read but the sources given, aliases cannot blow a small file up, and no input makes it panic.
//
// It does not interpret autoscaling settings (package config does, and its faults get their place here), starts
// nothing and knows no cluster. All functions are safe for concurrent use; a [Set] is immutable by convention once returned.
package manifest
