package main

import (
	"runtime"
	"sync/atomic"
	"time"
)

func init() {
	scenarios["sleep"] = spawnSleep
	scenarios["ticker"] = spawnTicker
	scenarios["alias_ticker"] = spawnAliasTicker
	scenarios["timer_loop"] = spawnTimerLoop
	scenarios["deadline_read"] = spawnDeadlineRead
	scenarios["worker"] = spawnWorker
	scenarios["collect"] = spawnCollect
	scenarios["churn"] = spawnChurn
}

var ticks int64

//go:noinline
func spawnSleep() { go idleSleep() }

//go:noinline
func idleSleep() { begun.Done(); time.Sleep(1000 * time.Hour) }

// Stops running every 10 ms.
//
//go:noinline
func spawnTicker() { go idleTicker(10 * time.Millisecond) }

// Stops running 256 times in 1.6 s: as often as the runtime's counter has values.
//
//go:noinline
func spawnAliasTicker() { go idleTicker(6250 * time.Microsecond) }

//go:noinline
func idleTicker(period time.Duration) {
	begun.Done()
	for range time.NewTicker(period).C {
		atomic.AddInt64(&ticks, 1)
	}
}

//go:noinline
func spawnTimerLoop() { go idleTimerLoop() }

//go:noinline
func idleTimerLoop() {
	begun.Done()
	for {
		select {
		case <-never:
		case <-time.After(100 * time.Millisecond):
			atomic.AddInt64(&ticks, 1)
		}
	}
}

//go:noinline
func spawnDeadlineRead() {
	c := connected()
	must(c.SetReadDeadline(time.Now().Add(time.Hour)))
	go func() {
		begun.Done()
		var b [1]byte
		c.Read(b[:])
	}()
}

// Two that hand work to and fro.
//
//go:noinline
func spawnWorker() {
	jobs, results := make(chan int), make(chan int)
	go idleWorker(jobs, results)
	go func() {
		for {
			jobs <- 1
			<-results
			time.Sleep(5 * time.Millisecond)
		}
	}()
}

//go:noinline
func idleWorker(jobs, results chan int) {
	begun.Done()
	for job := range jobs {
		results <- job
	}
}

// Collects garbage every so often: the runtime notes who waits, and moves stacks.
//
//go:noinline
func spawnCollect() { go idleCollect() }

//go:noinline
func idleCollect() {
	begun.Done()
	for {
		runtime.GC()
		time.Sleep(200 * time.Millisecond)
	}
}

// Makes goroutines without end, each of which ends soon.
//
//go:noinline
func spawnChurn() { go idleChurn() }

//go:noinline
func idleChurn() {
	begun.Done()
	done := make(chan int)
	for {
		for i := 0; i < 50; i++ {
			go briefly(done)
		}
		for i := 0; i < 50; i++ {
			<-done
		}
	}
}

//go:noinline
func briefly(done chan int) { time.Sleep(time.Millisecond); done <- 1 }
