package route_test

import (
	"fmt"
	"time"

	"github.com/rousehq/rouse/internal/identity"
	"github.com/rousehq/rouse/internal/route"
)

func revision(name string) identity.Revision {
	return identity.Revision{Namespace: "shop", Name: name, UID: "uid-" + name}
}

func ExampleTable_Next() {
	traffic := []route.Share{
		{Revision: revision("pay-00001"), Percent: 80},
		{Revision: revision("pay-00002"), Tag: "next", Percent: 20},
	}
	table, err := route.Build(route.Config{
		Routes: route.Domains{Public: "example.com"}.Routes("shop", "pay", false, traffic),
		Answers: []route.Answer{{
			Name: "crawlers", Mode: route.WhileCold, Status: 503,
			Headers: []route.HeaderMatch{{Name: "User-Agent", Kind: route.Contains, Value: "bot"}},
		}},
	}, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	none := func(string) []byte { return nil }
	count := map[string]int{}
	for range 1000 {
		target, _ := table.Next([]byte("pay.shop.example.com"), []byte("/"), none)
		count[target.Revision.Name]++
	}
	fmt.Println(count)
	target, _ := table.Next([]byte("next-pay.shop.svc.cluster.local:80"), []byte("/"), none)
	fmt.Println(target.Revision.Name, target.Tag)
	// Output:
	// map[pay-00001:800 pay-00002:200]
	// pay-00002 next
}

func ExampleRollout() {
	start := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	old := []route.Share{{Revision: revision("pay-00001"), Percent: 100}}
	rollout := route.Begin(start, old, revision("pay-00002"), 61*time.Second)
	rollout = rollout.Observed(start.Add(15 * time.Second)) // it took 15 s to become ready
	for now := start; !now.IsZero(); {
		shares, next := rollout.At(now)
		newest := shares[len(shares)-1]
		fmt.Printf("%4.0fs %3d %%\n", now.Sub(start).Seconds(), newest.Percent)
		now = next
	}
	// Output:
	//    0s   1 %
	//   30s  34 %
	//   46s  67 %
	//   61s 100 %
}
