package simulate

// event is something that will happen to a pod: a request ends, or the pod becomes ready.
type event struct {
	at    int64
	life  uint32 // of the pod; a readiness of an earlier life of the place is void
	took  int64  // by the request that ends
	pod   int32
	ready bool
}

// events is a heap by time with four children per node: shallower than a binary one, and the children share a cache
// line or two. Equal times leave in an order that depends on the insertions only.
type events []event

func (h *events) push(e event) {
	q := append(*h, e)
	i := len(q) - 1
	for i > 0 {
		up := (i - 1) / 4
		if q[up].at <= e.at {
			break
		}
		q[i] = q[up]
		i = up
	}
	q[i] = e
	*h = q
}

func (h *events) pop() event {
	q := *h
	top := q[0]
	n := len(q) - 1
	e := q[n]
	q = q[:n]
	*h = q
	if n == 0 {
		return top
	}
	i := 0
	for {
		least := 4*i + 1
		if least >= n {
			break
		}
		for c := least + 1; c < min(4*i+5, n); c++ {
			if q[c].at < q[least].at {
				least = c
			}
		}
		if e.at <= q[least].at {
			break
		}
		q[i] = q[least]
		i = least
	}
	q[i] = e
	return top
}

// waiter is a request in the queue.
type waiter struct{ arrived, work int64 }

// fifo is a queue in a ring that grows.
type fifo struct {
	ring    []waiter
	head, n int
}

func (q *fifo) push(w waiter) {
	if q.n == len(q.ring) {
		grown := make([]waiter, max(64, 2*q.n))
		for i := range q.n {
			grown[i] = q.ring[(q.head+i)%len(q.ring)]
		}
		q.ring, q.head = grown, 0
	}
	q.ring[(q.head+q.n)%len(q.ring)] = w
	q.n++
}

func (q *fifo) pop() waiter {
	w := q.ring[q.head]
	q.head = (q.head + 1) % len(q.ring)
	q.n--
	return w
}

func (q *fifo) first() waiter { return q.ring[q.head] }
