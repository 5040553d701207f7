//go:build go1.23

package main

import (
	"iter"
	"slices"
	"sync"
)

func init() { scenarios["shapes123"] = spawnShapes123 }

func blockingNumbers(yield func(int) bool) {
	for i := 0; i < 3; i++ {
		if !yield(i) {
			return
		}
		<-never
	}
}

//go:noinline
func spawnShapes123() {
	go func() {
		for x := range blockingNumbers {
			_ = x
		}
	}()
	go func() {
		next, stop := iter.Pull(blockingNumbers)
		defer stop()
		next()
		next()
	}()
	go func() { slices.SortFunc([]int{2, 1}, func(a, b int) int { <-never; return a - b }) }()
	go func() { sync.OnceValue(func() int { return <-never })() }()
	begun.Done()
}
