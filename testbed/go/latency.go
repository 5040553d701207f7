package main

import (
	"fmt"
	"net/http"
	"runtime"
	"sync/atomic"
	"time"
)

func init() {
	scenarios["latency"] = spawnLatency
	http.HandleFunc("/latency", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, atomic.SwapInt64(&latest, 0))
	})
}

// How late the ticker was at most since somebody asked, in ns.
var latest int64

//go:noinline
func spawnLatency() { go idleLatency() }

// Sleeps for 1 ms on a thread of its own.
//
//go:noinline
func idleLatency() {
	runtime.LockOSThread()
	begun.Done()
	for {
		before := time.Now()
		time.Sleep(time.Millisecond)
		late := int64(time.Since(before)) - int64(time.Millisecond)
		for {
			known := atomic.LoadInt64(&latest)
			if late <= known || atomic.CompareAndSwapInt64(&latest, known, late) {
				break
			}
		}
	}
}
