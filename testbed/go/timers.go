package main

import "time"

func init() {
	scenarios["timer_wait"] = spawnTimerWait
	scenarios["timer_select"] = spawnTimerSelect
	scenarios["stopped_timer"] = spawnStoppedTimer
	scenarios["far_timer"] = spawnFarTimer
}

//go:noinline
func spawnTimerWait() { go idleTimerWait() }

//go:noinline
func idleTimerWait() { begun.Done(); <-time.After(10 * time.Hour) }

//go:noinline
func spawnTimerSelect() { go idleTimerSelect() }

//go:noinline
func idleTimerSelect() {
	begun.Done()
	hourly := time.NewTicker(time.Hour)
	select {
	case <-never:
	case make(chan int) <- 1:
	case <-hourly.C:
	}
}

//go:noinline
func spawnStoppedTimer() { go leakStoppedTimer() }

// Nobody sets it anew.
//
//go:noinline
func leakStoppedTimer() {
	begun.Done()
	timer := time.NewTimer(time.Hour)
	timer.Stop()
	stoppedTimerForever(timer)
}

//go:noinline
func stoppedTimerForever(timer *time.Timer) { <-timer.C }

//go:noinline
func spawnFarTimer() { go leakFarTimer() }

//go:noinline
func leakFarTimer() { begun.Done(); farTimerForever() }

//go:noinline
func farTimerForever() {
	select {
	case <-never:
	case <-time.After(100 * 24 * time.Hour):
	}
}
