package forward

// Pool holds the connections to one pod.
type Pool struct{}
