//go:build go1.23

package main

import "iter"

func init() { scenarios["iter_pull"] = spawnIterPull }

// One that waits for its puller, who sleeps.
//
//go:noinline
func spawnIterPull() {
	next, stop := iter.Pull(numbers)
	next()
	keep(next, stop)
	begun.Done()
}

func numbers(yield func(int) bool) {
	for i := 0; ; i++ {
		if !yield(i) {
			return
		}
	}
}
