package manifest

import (
	"regexp"
	"strings"
)

// Bounds and defaults of Knative's config-defaults.
const (
	maxConcurrency       = 1000
	maxTimeoutSeconds    = 600
	defaultTimeout       = 300
	defaultResponseStart = 300 // applied only where it is below timeoutSeconds
)

// Labels as Kubernetes reads RFC 1123 (namespaces, containers) and RFC 1035 (whatever becomes a host name).
var (
	label1123 = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`)
	label1035 = regexp.MustCompile(`^[a-z]([-a-z0-9]*[a-z0-9])?$`)
)

// maxLabel is how long a label may be.
const maxLabel = 63

// label reads a field that must be a DNS label.
func (c cursor) label() string {
	return c.matching(label1123, "starting and ending with a letter or digit")
}

// hostLabel reads a field that becomes part of a host name.
func (c cursor) hostLabel() string {
	return c.matching(label1035, "starting with a letter and ending with a letter or digit")
}

func (c cursor) matching(rule *regexp.Regexp, ends string) string {
	s, ok := c.text()
	if ok && (len(s) > maxLabel || !rule.MatchString(s)) {
		c.errorf("", "is %q, must be at most %d lower-case letters, digits and '-', %s", clip(s), maxLabel, ends)
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
			o.obj.Name = name.hostLabel()
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
	svc.RolloutDuration = l.rolloutDuration(o, svc.Annotations)
	svc.ClusterLocal = l.clusterLocal(o, svc.Labels)
	if !valid {
		return
	}
	svc.Object = *o.obj
	l.set.Services = append(l.set.Services, svc)
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
	name := c.hostLabel()
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

// bounded reads a timeout that cannot be longer than that of the whole request.
func (o *object) bounded(name string, unset, total int64) int64 {
	return o.integer(name, 0, total, unset, "0 is off, timeoutSeconds is the most")
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
