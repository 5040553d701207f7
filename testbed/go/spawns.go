package main

import (
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

func init() {
	scenarios["storm"] = spawnStorm
	http.HandleFunc("/spawn", func(w http.ResponseWriter, r *http.Request) {
		spawnShort(number(r, "short"))
		spawnLong(number(r, "long"))
		spawnEither(number(r, "either"))
		fmt.Fprintln(w, "made")
	})
	http.HandleFunc("/burst", func(w http.ResponseWriter, r *http.Request) {
		count := number(r, "count")
		begun := time.Now()
		sum := burst(count)
		fmt.Fprintln(w, sum, time.Since(begun).Nanoseconds()/count)
	})
}

func number(r *http.Request, name string) int64 {
	value, err := strconv.ParseInt(r.FormValue(name), 10, 64)
	if err != nil || value < 0 {
		return 0
	}
	return value
}

// As many that end at once; comes back when they are about to.
//
//go:noinline
func spawnShort(count int64) {
	var all sync.WaitGroup
	for i := int64(0); i < count; i++ {
		all.Add(1)
		go shortJob(&all)
	}
	all.Wait()
}

//go:noinline
func shortJob(all *sync.WaitGroup) { all.Done() }

// As many that never end.
//
//go:noinline
func spawnLong(count int64) {
	for i := int64(0); i < count; i++ {
		go longJob()
	}
}

//go:noinline
func longJob() { <-never }

// By turns what ends and what does not: one place, two entries.
//
//go:noinline
func spawnEither(count int64) {
	jobs := []func(){endsAtOnce, staysForEver}
	for i := int64(0); i < count; i++ {
		go jobs[i%2]()
	}
}

//go:noinline
func endsAtOnce() {}

//go:noinline
func staysForEver() { <-never }

// Adds up the numbers below count, each in a goroutine of its own, and some at a time.
//
//go:noinline
func burst(count int64) int64 {
	var sum int64
	var some sync.WaitGroup
	for i := int64(0); i < count; i++ {
		some.Add(1)
		go addNumber(&sum, i, &some)
		if i%256 == 255 {
			some.Wait()
		}
	}
	some.Wait()
	return sum
}

//go:noinline
func addNumber(sum *int64, i int64, some *sync.WaitGroup) { atomic.AddInt64(sum, i); some.Done() }

// Makes goroutines without end and without a pause.
//
//go:noinline
func spawnStorm() {
	go func() {
		begun.Done()
		for {
			burst(10000)
		}
	}()
}
