// Package render turns Knative Services into what a cluster without Knative runs: an annotated Deployment with the
// queue-proxy, a Service without a selector, whose endpoints control owns, and on request an HTTPRoute and a NetworkPolicy.
//
// What it promises: equal input gives equal bytes. Every fault is reported at once, with file, document and remedy, and
// then nothing is rendered. Documents of other kinds come out as they went in, to the byte, except that opted-in workloads get
// their sidecar, too; config-autoscaler moves to the namespace where control reads it. What is rendered from JSON is JSON.
//
// How traffic is rendered: a service whose traffic all goes to its latest revision is one Deployment of its name, which
// changes its pods in place. One that names revisions has a Deployment and a Service per revision, of the revision's name;
// the file's template is one of them, the others must be there from earlier. What divides traffic between them is an
// HTTPRoute of the Gateway API.
//
// What it does not: judge autoscaling settings (package config does) or pod specs (the API server does).
//
// Concurrency: values only.
package render
