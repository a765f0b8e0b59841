package keda

import (
	"errors"
	"fmt"
	"time"

	"sigs.k8s.io/yaml"
)

// ScaledObject is a KEDA ScaledObject with kafka triggers, defaults filled in.
type ScaledObject struct {
	Namespace, Name string
	// Target is the object that is scaled; Kind is Deployment unless the manifest says otherwise.
	TargetKind, TargetName string
	Bounds                 Bounds
	// Idle is idleReplicaCount, or -1 when it is not set: the replicas while inactive, instead of Bounds.Min.
	Idle int
	// Polling is kept for what reads it; lag is watched more often than that.
	Polling time.Duration
	// Cooldown is how long no trigger may be active before the replicas go to zero or Idle.
	Cooldown, InitialCooldown time.Duration
	// FallbackAfter failures of reading lag there are FallbackReplicas; 0 means no fallback.
	FallbackAfter, FallbackReplicas int
	Triggers                        []Trigger
}

type scaledObject struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Metadata   struct {
		Name      string `json:"name"`
		Namespace string `json:"namespace"`
	} `json:"metadata"`
	Spec struct {
		ScaleTargetRef struct {
			Kind string `json:"kind"`
			Name string `json:"name"`
		} `json:"scaleTargetRef"`
		MinReplicaCount       int  `json:"minReplicaCount"`
		MaxReplicaCount       *int `json:"maxReplicaCount"`
		IdleReplicaCount      *int `json:"idleReplicaCount"`
		PollingInterval       *int `json:"pollingInterval"`
		CooldownPeriod        *int `json:"cooldownPeriod"`
		InitialCooldownPeriod int  `json:"initialCooldownPeriod"`
		Fallback              *struct {
			FailureThreshold int `json:"failureThreshold"`
			Replicas         int `json:"replicas"`
		} `json:"fallback"`
		Triggers []struct {
			Type     string            `json:"type"`
			Metadata map[string]string `json:"metadata"`
		} `json:"triggers"`
	} `json:"spec"`
}

// ParseScaledObject reads a manifest and reports every fault. Triggers of other types are faults: a ScaledObject that
// also scales by something else must not be scaled by Kafka alone.
func ParseScaledObject(doc []byte) (ScaledObject, error) {
	var in scaledObject
	if err := yaml.Unmarshal(doc, &in); err != nil {
		return ScaledObject{}, fmt.Errorf("ScaledObject: %w", err)
	}
	if in.Kind != "ScaledObject" || in.APIVersion != "keda.sh/v1alpha1" {
		return ScaledObject{}, fmt.Errorf("%s %s: not a ScaledObject of keda.sh/v1alpha1", in.APIVersion, in.Kind)
	}
	out, errs := in.plain()
	if err := errors.Join(errs...); err != nil {
		return out, fmt.Errorf("ScaledObject %s/%s: %w", out.Namespace, out.Name, err)
	}
	return out, nil
}

func (in *scaledObject) plain() (out ScaledObject, errs []error) {
	s := &in.Spec
	seconds := func(n *int, otherwise int) time.Duration { return time.Duration(or(n, otherwise)) * time.Second }
	out = ScaledObject{
		Namespace: in.Metadata.Namespace, Name: in.Metadata.Name, TargetKind: s.ScaleTargetRef.Kind, TargetName: s.ScaleTargetRef.Name,
		Bounds: Bounds{Min: s.MinReplicaCount, Max: or(s.MaxReplicaCount, 100)}, Idle: or(s.IdleReplicaCount, -1),
		Polling: seconds(s.PollingInterval, 30), Cooldown: seconds(s.CooldownPeriod, 300),
		InitialCooldown: time.Duration(s.InitialCooldownPeriod) * time.Second,
	}
	if out.Namespace == "" {
		out.Namespace = "default"
	}
	if out.TargetKind == "" {
		out.TargetKind = "Deployment"
	}
	if s.Fallback != nil {
		out.FallbackAfter, out.FallbackReplicas = s.Fallback.FailureThreshold, s.Fallback.Replicas
	}
	fault := func(bad bool, text string) {
		if bad {
			errs = append(errs, errors.New(text))
		}
	}
	fault(out.TargetName == "", "spec.scaleTargetRef.name: must be set")
	fault(out.Bounds.Min < 0 || out.Bounds.Max < max(1, out.Bounds.Min), "spec.maxReplicaCount: must be 1 or more, and not below minReplicaCount")
	fault(s.IdleReplicaCount != nil && (*s.IdleReplicaCount < 0 || *s.IdleReplicaCount >= out.Bounds.Min), "spec.idleReplicaCount: must be below minReplicaCount")
	fault(out.Polling < 0 || out.Cooldown < 0, "spec.pollingInterval, spec.cooldownPeriod: must not be negative")
	fault(len(s.Triggers) == 0, "spec.triggers: must name a trigger")
	for i, t := range s.Triggers {
		if t.Type != "kafka" && t.Type != "apache-kafka" {
			errs = append(errs, fmt.Errorf("spec.triggers[%d].type %q: must be kafka", i, t.Type))
			continue
		}
		trigger, err := ParseTrigger(t.Metadata)
		if err != nil {
			errs = append(errs, fmt.Errorf("spec.triggers[%d]: %w", i, err))
		}
		out.Triggers = append(out.Triggers, trigger)
	}
	return out, errs
}

func or(n *int, otherwise int) int {
	if n == nil {
		return otherwise
	}
	return *n
}
