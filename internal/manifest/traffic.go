package manifest

// traffic reads spec.traffic; without it everything goes to the latest revision.
func (o *object) traffic() []TrafficTarget {
	toLatest := []TrafficTarget{{LatestRevision: true, Percent: 100}}
	c, ok := o.take("traffic")
	if !ok {
		return toLatest
	}
	var out []TrafficTarget
	tags := map[string]bool{}
	sum := int64(0)
	c.each(func(_ int, item cursor) {
		t, ok := item.object()
		if !ok {
			return
		}
		target := t.trafficTarget()
		if target.Tag != "" && tags[target.Tag] {
			item.errorf("a tag is a host name of its own", "tag %q is used twice", clip(target.Tag))
		}
		tags[target.Tag] = true
		sum += target.Percent
		out = append(out, target)
	})
	if len(out) == 0 {
		return toLatest
	}
	if sum != 100 {
		c.errorf("set percent of each row", "the percentages sum to %d, must be 100", sum)
	}
	return out
}

func (o *object) trafficTarget() TrafficTarget {
	defer o.done()
	var t TrafficTarget
	if c, ok := o.take("tag"); ok {
		t.Tag = c.hostLabel()
	}
	if c, ok := o.take("revisionName"); ok {
		t.RevisionName = c.hostLabel()
	}
	t.LatestRevision = t.RevisionName == ""
	if c, ok := o.take("latestRevision"); ok {
		latest, ok := c.boolean()
		switch {
		case !ok:
		case latest && t.RevisionName != "":
			c.errorf("keep one of them", "latestRevision and revisionName exclude each other")
		case !latest && t.RevisionName == "":
			c.errorf("name a revision", "is false, but there is no revisionName")
		}
	}
	t.Percent = o.integer("percent", 0, 100, 0, "per cent of the requests")
	if c, ok := o.take("configurationName"); ok {
		c.errorf("leave it out", "is not allowed in a Service, which is its own configuration")
	}
	if c, ok := o.take("url"); ok {
		c.errorf("leave it out", "is written by the server into the status")
	}
	return t
}
