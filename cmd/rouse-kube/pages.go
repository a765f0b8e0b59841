package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"sync"

	"github.com/rousehq/rouse/control"
	"github.com/rousehq/rouse/internal/assign"
	"github.com/rousehq/rouse/internal/kube"
	"github.com/rousehq/rouse/internal/workload"
)

// defaultAdmin is control's admin port unless its environment says another.
const defaultAdmin = 9090

// adminPort is where an instance serves its pages.
func adminPort(i kube.Instance) int {
	_, port, err := net.SplitHostPort(i.Environ["ROUSE_ADMIN_LISTEN"])
	if n, bad := strconv.Atoi(port); err == nil && bad == nil && n > 0 {
		return n
	}
	return defaultAdmin
}

// pageRight is what reading pages needs.
func pageRight(system string) kube.Right {
	return kube.Right{Verb: "get", Resource: "pods", Subresource: "proxy", Namespace: system}
}

// ready lists the instances of control that can be asked.
func ready(c *kube.Component) (out []kube.Instance) {
	for _, i := range c.Instances {
		if i.Ready && !i.Terminating {
			out = append(out, i)
		}
	}
	return out
}

// pages reads one page of every instance of control, all at once, and hands each to take, one at a time.
func pages(ctx context.Context, c apiServer, system string, from []kube.Instance, path string, query url.Values, take func(instance string, body []byte) error) error {
	var wg sync.WaitGroup
	var mu sync.Mutex
	errs := make([]error, len(from))
	for n, i := range from {
		wg.Go(func() {
			body, err := c.Page(ctx, system, i.Name, adminPort(i), path, query)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				err = take(i.Name, body)
			}
			errs[n] = err
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// roster asks every instance of control which activators it knows. An instance of another version has no such page: it is
// left out.
func roster(ctx context.Context, c apiServer, system string, from []kube.Instance) (map[string][]assign.ActivatorState, error) {
	said := make(map[string][]assign.ActivatorState)
	err := pages(ctx, c, system, from, "/activators", nil, func(instance string, body []byte) error {
		states := []assign.ActivatorState{}
		if err := json.Unmarshal(body, &states); err != nil {
			return fmt.Errorf("what %s says of activators: %w", instance, err)
		}
		said[instance] = states
		return nil
	})
	if kube.Absent(err) {
		err = nil
	}
	return said, err
}

// explained is what the instance that decides about a workload says of it.
type explained struct {
	control.Explanation
	DecidedBy string `json:"decidedBy"`
}

// explanations asks control about the workloads of a namespace, of all with "", of one with a name: each is told by the
// instance that decides about it. They are in the order of their names.
func explanations(ctx context.Context, c apiServer, system, namespace, name string) ([]explained, error) {
	component, err := c.Component(ctx, system, workload.StatefulSet, controlName)
	if err != nil {
		return nil, err
	}
	if component == nil {
		return nil, fmt.Errorf("there is no StatefulSet %s in namespace %s: is Rouse installed there? See --system-namespace", controlName, system)
	}
	from := ready(component)
	if len(from) == 0 {
		return nil, fmt.Errorf("no instance of control is ready in namespace %s: see `rouse check`", system)
	}
	query := url.Values{"owned": {"true"}}
	if namespace != "" {
		query.Set("namespace", namespace)
	}
	var all []explained
	err = pages(ctx, c, system, from, "/explain", query, func(instance string, body []byte) error {
		var es []control.Explanation
		if err := json.Unmarshal(body, &es); err != nil {
			return fmt.Errorf("what %s explains: %w", instance, err)
		}
		for _, e := range es {
			if e.Owner && (namespace == "" || e.Namespace == namespace) && (name == "" || name == e.Revision || name == e.Service) {
				all = append(all, explained{e, instance})
			}
		}
		return nil
	})
	if err != nil {
		if r := remedy(err, pageRight(system)); r != "" {
			err = fmt.Errorf("%s: %w", r, err)
		}
		return nil, errors.New(oneLine(err))
	}
	slices.SortFunc(all, func(a, b explained) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Revision, b.Revision))
	})
	return all, nil
}
