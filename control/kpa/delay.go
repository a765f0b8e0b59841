package kpa

import "time"

// delaySlot is the width of a slot of the scale-down delay: Knative's decision period.
const delaySlot = 2 * time.Second

// DelayWindow is the largest value recorded in the last so many slots of two seconds. The zero value is empty. It
// keeps the slots that can still become the largest, so that a steady load costs one slot whatever the delay.
type DelayWindow struct {
	// Slots are those slots, oldest first, values falling.
	Slots []DelaySlot
}

// DelaySlot is one wish in a DelayWindow.
type DelaySlot struct {
	// Index is the Unix time divided by two seconds.
	Index int64
	// Pods is the largest wish recorded in the slot.
	Pods int
}

// Record adds a wish at now and returns the largest of the last delay, which may differ from call to call.
func (d *DelayWindow) Record(now time.Time, delay time.Duration, pods int) int {
	index := now.Unix() / int64(delaySlot/time.Second)
	if n := len(d.Slots); n > 0 {
		index = max(index, d.Slots[n-1].Index)
	}
	d.expire(index - int64((delay+delaySlot-1)/delaySlot))
	d.push(index, pods)
	return d.Slots[0].Pods
}

// expire drops the slots up to and including oldest.
func (d *DelayWindow) expire(oldest int64) {
	n := 0
	for n < len(d.Slots) && d.Slots[n].Index <= oldest {
		n++
	}
	d.Slots = d.Slots[:copy(d.Slots, d.Slots[n:])]
}

// push adds a wish, which hides the smaller ones before it for as long as it lives.
func (d *DelayWindow) push(index int64, pods int) {
	n := len(d.Slots)
	for n > 0 && (d.Slots[n-1].Pods <= pods) {
		n--
	}
	d.Slots = d.Slots[:n]
	if n > 0 && d.Slots[n-1].Index == index {
		return // the slot already holds a larger wish
	}
	d.Slots = append(d.Slots, DelaySlot{Index: index, Pods: pods})
}
