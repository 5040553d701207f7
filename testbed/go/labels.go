package main

import (
	"context"
	"fmt"
	"runtime/pprof"
	"strings"
	"sync/atomic"
	"time"
)

func init() {
	scenarios["labelled"] = spawnLabelled
	scenarios["labelled_each"] = spawnLabelledEach
	scenarios["labelled_many"] = spawnLabelledMany
	scenarios["labelled_long"] = spawnLabelledLong
	scenarios["labelled_spin"] = spawnLabelledSpin
	scenarios["unlabelled"] = spawnUnlabelled
}

// One set for all of them, with what has to be quoted in it.
var shared = pprof.WithLabels(context.Background(), pprof.Labels(
	"handler", "/api/v1.0_x", "user kind", "a \"b\" \\ \t\n\x01\x7f ü 😀", "empty", ""))

//go:noinline
func spawnLabelled() { go leakLabelled() }

//go:noinline
func leakLabelled() { pprof.SetGoroutineLabels(shared); begun.Done(); labelledForever() }

//go:noinline
func labelledForever() { <-never }

var requests int64

// A set of its own, which it has from who made it.
//
//go:noinline
func spawnLabelledEach() {
	number := atomic.AddInt64(&requests, 1)
	labels := pprof.Labels("request", fmt.Sprintf("r-%d", number), "kind", "batch")
	pprof.Do(context.Background(), labels, func(context.Context) { go leakLabelledEach() })
}

//go:noinline
func leakLabelledEach() { begun.Done(); labelledEachForever() }

//go:noinline
func labelledEachForever() { <-never }

// Added one by one: before Go 1.24 a map that grows.
//
//go:noinline
func spawnLabelledMany() {
	ctx := context.Background()
	for i := 0; i < 20; i++ {
		ctx = pprof.WithLabels(ctx, pprof.Labels(fmt.Sprintf("key%02d", i), fmt.Sprintf("value %d", i)))
	}
	pprof.SetGoroutineLabels(ctx)
	go leakLabelledMany()
	pprof.SetGoroutineLabels(context.Background())
}

//go:noinline
func leakLabelledMany() { begun.Done(); labelledManyForever() }

//go:noinline
func labelledManyForever() { <-never }

// More labels and longer ones than anybody can use.
//
//go:noinline
func spawnLabelledLong() {
	pairs := []string{"a", strings.Repeat("x", 100000)}
	for i := 0; i < 200; i++ {
		pairs = append(pairs, fmt.Sprintf("key%03d", i), "v")
	}
	pprof.Do(context.Background(), pprof.Labels(pairs...), func(context.Context) { go leakLabelledLong() })
}

//go:noinline
func leakLabelledLong() { begun.Done(); labelledLongForever() }

//go:noinline
func labelledLongForever() { <-never }

// It changes its labels a few times a millisecond.
//
//go:noinline
func spawnLabelledSpin() { go leakLabelledSpin() }

//go:noinline
func leakLabelledSpin() {
	begun.Done()
	for i := 0; ; i++ {
		text := fmt.Sprintf("n%d", i)
		pprof.SetGoroutineLabels(pprof.WithLabels(context.Background(), pprof.Labels("one", text, "two", text)))
		for begin := time.Now(); time.Since(begin) < 300*time.Microsecond; {
		}
	}
}

// It had labels, and has none.
//
//go:noinline
func spawnUnlabelled() { go leakUnlabelled() }

//go:noinline
func leakUnlabelled() {
	pprof.Do(context.Background(), pprof.Labels("former", "yes"), func(context.Context) {})
	begun.Done()
	unlabelledForever()
}

//go:noinline
func unlabelledForever() { <-never }
