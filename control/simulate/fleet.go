package simulate

// fleet is the pods of the simulated revision. Ready ones stand in lists by what they have in flight, so that the one
// with the fewest is found at once.
type fleet struct {
	pods    []pod
	free    []int32   // places in pods that nobody uses
	byLoad  [][]int32 // ready pods by requests in flight
	low     int       // no ready pod has fewer in flight
	waiting []int32   // starting pods, the last asked for last

	ready, starting, draining int
}

type pod struct {
	phase    phase
	answered bool
	inFlight int32
	place    int32 // in its list
	life     uint32
	asked    int64
}

type phase uint8

const (
	gone phase = iota
	starting
	ready
	draining
)

// existing is how many pods cost something.
func (f *fleet) existing() int { return f.ready + f.starting + f.draining }

// ask makes a starting pod.
func (f *fleet) ask(now int64) (id int32, life uint32) {
	if n := len(f.free); n > 0 {
		id, f.free = f.free[n-1], f.free[:n-1]
	} else {
		id = int32(len(f.pods))
		f.pods = append(f.pods, pod{})
	}
	p := &f.pods[id]
	*p = pod{phase: starting, place: int32(len(f.waiting)), life: p.life + 1, asked: now}
	f.waiting = append(f.waiting, id)
	f.starting++
	return id, p.life
}

// become makes a starting pod ready.
func (f *fleet) become(id int32) {
	f.leaveWaiting(id)
	p := &f.pods[id]
	p.phase = ready
	f.starting--
	f.ready++
	f.enter(id)
}

// idlest returns the ready pod with the fewest requests in flight if that is less than limit, else -1. A limit of 0 is
// none.
func (f *fleet) idlest(limit int) int32 {
	for f.low < len(f.byLoad) && len(f.byLoad[f.low]) == 0 {
		f.low++
	}
	if f.low == len(f.byLoad) || limit > 0 && f.low >= limit {
		return -1
	}
	list := f.byLoad[f.low]
	return list[len(list)-1]
}

// take gives a request to a ready pod; it says whether that is its first.
func (f *fleet) take(id int32) (first bool) {
	p := &f.pods[id]
	f.leave(id)
	p.inFlight++
	f.enter(id)
	first = !p.answered
	p.answered = true
	return first
}

// release ends a request of a pod; a draining one goes with its last.
func (f *fleet) release(id int32) {
	p := &f.pods[id]
	if p.phase == draining {
		if p.inFlight--; p.inFlight == 0 {
			f.draining--
			f.drop(id)
		}
		return
	}
	f.leave(id)
	p.inFlight--
	f.enter(id)
}

// shrink lets n pods go: those that are not ready yet first, the last asked for before the others, then the idlest.
func (f *fleet) shrink(n int) {
	for ; n > 0 && f.starting > 0; n-- {
		id := f.waiting[len(f.waiting)-1]
		f.leaveWaiting(id)
		f.starting--
		f.drop(id)
	}
	for ; n > 0 && f.ready > 0; n-- {
		id := f.idlest(0)
		f.leave(id)
		f.ready--
		if f.pods[id].inFlight == 0 {
			f.drop(id)
			continue
		}
		f.pods[id].phase = draining
		f.draining++
	}
}

func (f *fleet) drop(id int32) {
	f.pods[id].phase = gone
	f.free = append(f.free, id)
}

func (f *fleet) leaveWaiting(id int32) { f.waiting = f.remove(f.waiting, id) }

func (f *fleet) leave(id int32) {
	load := f.pods[id].inFlight
	f.byLoad[load] = f.remove(f.byLoad[load], id)
}

func (f *fleet) enter(id int32) {
	p := &f.pods[id]
	for int(p.inFlight) >= len(f.byLoad) {
		f.byLoad = append(f.byLoad, nil)
	}
	p.place = int32(len(f.byLoad[p.inFlight]))
	f.byLoad[p.inFlight] = append(f.byLoad[p.inFlight], id)
	f.low = min(f.low, int(p.inFlight))
}

// remove takes a pod out of its list by putting the last one in its place.
func (f *fleet) remove(list []int32, id int32) []int32 {
	last := len(list) - 1
	at := f.pods[id].place
	moved := list[last]
	list[at] = moved
	f.pods[moved].place = at
	return list[:last]
}
