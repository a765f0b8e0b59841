package manifest

import (
	"maps"
	"regexp"
	"slices"
	"strings"
)

// Bounds and defaults of Knative's config-defaults.
const (
	maxConcurrency       = 1000
	maxTimeoutSeconds    = 600
	defaultTimeout       = 300
	defaultResponseStart = 300 // applied only where it is below timeoutSeconds
)

// dnsLabel is RFC 1123's label, as Kubernetes reads it.
var dnsLabel = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`)

// maxLabel is how long a label may be.
const maxLabel = 63

const labelRule = "must be lower-case letters, digits and '-', at most 63, starting and ending with a letter or digit"

func isLabel(s string) bool { return len(s) <= maxLabel && dnsLabel.MatchString(s) }

// label reads a field that must be a DNS label.
func (c cursor) label() string {
	s, ok := c.text()
	if ok && !isLabel(s) {
		c.errorf("", "is %q, %s", clip(s), labelRule)
	}
	return s
}

// metadata reads name and namespace, reports a second object of the same name, and returns labels and annotations.
func (l *loader) metadata(o *object, labelled bool) (labels, annotations map[string]string, ok bool) {
	m, ok := o.need("metadata", "")
	if !ok {
		return nil, nil, false
	}
	meta, ok := m.object()
	if !ok {
		return nil, nil, false
	}
	name, named := meta.need("name", "give the object a name")
	if named {
		if labelled {
			o.obj.Name = name.label()
		} else {
			o.obj.Name, _ = name.text()
		}
	}
	o.obj.Namespace = l.opts.Namespace
	if ns, ok := meta.take("namespace"); ok {
		o.obj.Namespace = ns.label()
	}
	labels, annotations = meta.textMap("labels"), meta.textMap("annotations")
	meta.skip("creationTimestamp", "deletionTimestamp", "finalizers", "generateName", "generation", "managedFields",
		"ownerReferences", "resourceVersion", "selfLink", "uid")
	meta.done()
	return labels, annotations, named && l.unique(o)
}

func (l *loader) unique(o *object) bool {
	title := o.obj.String()
	first, twice := l.seen[title]
	if twice {
		o.errorf("remove one of them", "is defined twice, first at %s", first)
		return false
	}
	l.seen[title] = o.obj.Where("")
	return true
}

// service decodes a Knative Service.
func (l *loader) service(o *object) {
	svc := Service{}
	var valid bool
	svc.Labels, svc.Annotations, valid = l.metadata(o, true)
	o.skip("status")
	defer o.done()
	s, ok := o.need("spec", "")
	if !ok {
		return
	}
	spec, ok := s.object()
	if !ok {
		return
	}
	if t, ok := spec.need("template", "a service needs spec.template.spec.containers"); ok {
		svc.Template, ok = l.template(t, o.obj.Name)
		valid = valid && ok
	} else {
		valid = false
	}
	svc.Traffic = spec.traffic()
	spec.done()
	l.misplaced(o, svc.Annotations)
	if !valid {
		return
	}
	svc.Object = *o.obj
	l.set.Services = append(l.set.Services, svc)
}

// misplaced reports autoscaling annotations on the service: Knative refuses them there, since only those of the
// template reach the revision.
func (l *loader) misplaced(o *object, annotations map[string]string) {
	for _, key := range slices.Sorted(maps.Keys(annotations)) {
		if strings.HasPrefix(key, "autoscaling.knative.dev/") {
			path := "metadata.annotations[" + key + "]"
			l.add(Fault{Error, o.obj.pos.file, o.obj.pos.lineOf(path), o.obj.title(), path,
				"has no effect on the service itself", "move it to spec.template.metadata.annotations"})
		}
	}
}

// template decodes spec.template and reports whether it can be run.
func (l *loader) template(c cursor, service string) (Template, bool) {
	o, ok := c.object()
	if !ok {
		return Template{}, false
	}
	defer o.done()
	var t Template
	if m, ok := o.take("metadata"); ok {
		if meta, ok := m.object(); ok {
			t.Name = meta.revisionName(service)
			t.Labels, t.Annotations = meta.textMap("labels"), meta.textMap("annotations")
			meta.skip("creationTimestamp", "namespace")
			meta.done()
		}
	}
	s, ok := o.need("spec", "a service needs spec.template.spec.containers")
	if !ok {
		return t, false
	}
	spec, ok := s.object()
	if !ok {
		return t, false
	}
	spec.limits(&t)
	spec.podFields()
	t.Containers = l.containers(spec)
	spec.done()
	return t, len(t.Containers) > 0
}

// revisionName reads a name that the user chose for the revision; Knative wants the service's name before it.
func (o *object) revisionName(service string) string {
	c, ok := o.take("name")
	if !ok {
		return ""
	}
	name := c.label()
	if service != "" && !strings.HasPrefix(name, service+"-") {
		c.errorf("or leave it out: a name is generated", "is %q, must start with %q", clip(name), service+"-")
	}
	return name
}

// limits reads the numbers of a revision.
func (o *object) limits(t *Template) {
	t.ContainerConcurrency = o.integer("containerConcurrency", 0, maxConcurrency, 0, "0 is no limit")
	t.TimeoutSeconds = o.integer("timeoutSeconds", 0, maxTimeoutSeconds, 0, "0 is the default, 300")
	if t.TimeoutSeconds == 0 {
		t.TimeoutSeconds = defaultTimeout
	}
	unset := int64(0)
	if defaultResponseStart < t.TimeoutSeconds {
		unset = defaultResponseStart
	}
	t.ResponseStartTimeoutSeconds = o.bounded("responseStartTimeoutSeconds", unset, t.TimeoutSeconds)
	t.IdleTimeoutSeconds = o.bounded("idleTimeoutSeconds", 0, t.TimeoutSeconds)
}

// bounded reads a timeout that has an effect only below the one for the whole request.
func (o *object) bounded(name string, unset, total int64) int64 {
	n := o.integer(name, 0, maxTimeoutSeconds, unset, "0 is off")
	if c, ok := o.take(name); ok && n > total {
		c.warnf("lower it or raise timeoutSeconds", "is %d, has no effect above timeoutSeconds, which is %d", n, total)
	}
	return n
}

// podFields names what a pod of a cluster has and a local process has not.
func (o *object) podFields() {
	o.skip("enableServiceLinks", "restartPolicy", "dnsPolicy", "schedulerName", "automountServiceAccountToken")
	o.unbuilt("is not used for local processes, which run as the user who started them",
		"serviceAccountName", "serviceAccount", "securityContext", "imagePullSecrets", "runtimeClassName",
		"hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace")
	o.unbuilt("is not used: local processes all run on this machine",
		"affinity", "nodeSelector", "nodeName", "tolerations", "topologySpreadConstraints", "priorityClassName",
		"hostAliases", "dnsConfig", "hostname", "subdomain")
	o.unbuilt("is not mounted for local processes, which see this machine's files", "volumes")
	o.unbuilt("is not run for local processes yet", "initContainers")
	o.unbuilt("is not used for local processes yet", "terminationGracePeriodSeconds")
}
