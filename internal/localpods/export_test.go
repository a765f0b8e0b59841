package localpods

// OfferPorts makes the runner believe that these ports are free, once each, before it looks for others: what it sees
// when someone takes a port between its look and the program's bind. It is called before Apply.
func (r *Runner) OfferPorts(ports ...uint16) {
	honest := r.ports.Probe
	offer := make(chan uint16, len(ports))
	for _, p := range ports {
		offer <- p
	}
	r.ports.Probe = func(port int) (uint16, error) {
		select {
		case p := <-offer:
			return p, nil
		default:
			return honest(port)
		}
	}
}

// WithoutSockDiag makes the runner do as on a kernel that does not answer sock_diag. It is called before Run.
func (r *Runner) WithoutSockDiag() { r.diagOK = func() bool { return false } }
