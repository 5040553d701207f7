//go:build go1.25

package main

import (
	"flag"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func init() { scenarios["bubble"] = spawnBubble }

// A bubble in which some wait for the bubble alone, and two keep it from ending: they wait for the world outside, and for a
// mutex. One a program.
//
//go:noinline
func spawnBubble() {
	testing.Init()
	must(flag.CommandLine.Parse(nil))
	entered := make(chan struct{})
	test := func(t *testing.T) {
		synctest.Test(t, func(*testing.T) { bubble(entered) })
	}
	all := func(string, string) (bool, error) { return true, nil }
	go testing.Main(all, []testing.InternalTest{{Name: "TestBubble", F: test}}, nil, nil)
	<-entered
	begun.Done()
}

//go:noinline
func bubble(entered chan struct{}) {
	var own sync.Mutex
	own.Lock()
	to, from := make(chan int), make(chan int)
	var nothing chan int
	for _, wait := range []func(){
		func() { <-never },
		func() { <-from },
		func() { to <- 1 },
		func() { <-nothing },
		func() { nothing <- 1 },
		func() { select {} },
		func() {
			select {
			case <-from:
			case <-time.After(time.Hour):
			}
		},
		func() { time.Sleep(time.Hour) },
		func() {
			var group sync.WaitGroup
			group.Add(1)
			group.Wait()
		},
		func() {
			cond := sync.NewCond(&sync.Mutex{})
			cond.L.Lock()
			cond.Wait()
		},
		own.Lock,
	} {
		go wait()
	}
	close(entered)
	synctest.Wait()
}
