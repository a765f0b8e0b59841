package kafkadispatch_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
)

// oneCase is an entry of dispatch_cases.json.
type oneCase struct {
	ID     string          `json:"id"`
	Area   string          `json:"area"`
	Given  json.RawMessage `json:"given"`
	Expect json.RawMessage `json:"expect"`
}

// stand is what all cases share: one broker over TCP. Every case has a topic, a group and sinks of its own.
type stand struct {
	broker *cluster
	topics atomic.Int64
}

func (s *stand) topic(t *testing.T, partitions int) string {
	return s.broker.topic(t, fmt.Sprintf("case-%d", s.topics.Add(1)), partitions)
}

// areas say how a case of an area is replayed. An area that is missing here belongs to parts that do not exist.
var areas = map[string]func(*testing.T, *stand, oneCase){
	"http-retry": replayRetry, "backoff": replayBackoff, "dead-letter": replayDeadLetter, "reply": replayReply,
	"request": replayRequest, "mapping": replayMapping, "offsets": replayOffsets, "ordering": replayOrdering,
	"rebalance": replayRebalance, "ce-http": replayHTTP, "keda": replayKEDA,
}

// notBuilt are cases of a built area that need a part that does not exist.
var notBuilt = []string{"map-broker-invalid"}

// TestCases replays the case file through real dispatchers, real HTTP sinks and a broker over TCP.
func TestCases(t *testing.T) {
	dir := os.Getenv("ROUSE_CASES")
	if dir == "" {
		dir = filepath.Join("..", "testdata", "cases")
	}
	text, err := os.ReadFile(filepath.Join(dir, "dispatch_cases.json"))
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ Cases []oneCase }
	if err := json.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	s := &stand{broker: newBroker(t)}
	var missing []string
	var ran, failed atomic.Int64
	t.Run("case", func(t *testing.T) {
		for _, c := range append(file.Cases, ownCases...) {
			replay := areas[c.Area]
			if replay == nil || slices.Contains(notBuilt, c.ID) {
				missing = append(missing, c.Area+"/"+c.ID)
				continue
			}
			ran.Add(1)
			t.Run(c.Area+"/"+c.ID, func(t *testing.T) {
				t.Parallel()
				defer func() {
					if t.Failed() {
						failed.Add(1)
					}
				}()
				replay(t, s, c)
			})
		}
	})
	if len(missing) > 0 {
		fmt.Println("not built:", strings.Join(missing, " "))
	}
	fmt.Printf("%d cases, %d failures\n", ran.Load(), failed.Load())
}

func decode(t *testing.T, raw json.RawMessage, into any) {
	t.Helper()
	if err := json.Unmarshal(raw, into); err != nil {
		t.Fatalf("case: %v", err)
	}
}

func raw(format string, args ...any) json.RawMessage { return fmt.Appendf(nil, format, args...) }
