package main

import "time"

func init() {
	scenarios["steady_adder"] = spawnSteadyAdder
	scenarios["steady_poller"] = spawnSteadyPoller
	scenarios["pool"] = spawnPool
}

// Leaks one a second: a server whose every request leaves something behind.
//
//go:noinline
func spawnSteadyAdder() {
	go func() {
		begun.Done()
		for {
			oneOfTwoSums()
			time.Sleep(time.Second)
		}
	}()
}

// Starts four a second that look for something again and again and never end: none is ever long in one wait.
//
//go:noinline
func spawnSteadyPoller() {
	go func() {
		begun.Done()
		for {
			go pollForEver()
			time.Sleep(250 * time.Millisecond)
		}
	}()
}

//go:noinline
func pollForEver() {
	for {
		select {
		case <-never:
			return
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// Eight that wait for jobs, of which there are few.
//
//go:noinline
func spawnPool() {
	jobs := make(chan int)
	for i := 0; i < 8; i++ {
		go idlePoolWorker(jobs)
	}
	go func() {
		begun.Done()
		for {
			jobs <- 1
			time.Sleep(300 * time.Millisecond)
		}
	}()
}

//go:noinline
func idlePoolWorker(jobs chan int) {
	for range jobs {
	}
}
