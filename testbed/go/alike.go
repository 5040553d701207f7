// Goroutines that run one function and wait in one, with equally much on their stacks: only a return address between tells by
// which of two calls they came there.
package main

func init() {
	scenarios["mostly"] = spawnMostly
	scenarios["rarely"] = spawnRarely
}

func spawnMostly() { spawnAlike(false) }

func spawnRarely() { spawnAlike(true) }

//go:noinline
func spawnAlike(rarely bool) { go leakAlike(rarely) }

//go:noinline
func leakAlike(rarely bool) {
	begun.Done()
	if rarely {
		alikeForever(1)
	} else {
		alikeForever(2)
	}
}

//go:noinline
func alikeForever(how int) { <-never }
