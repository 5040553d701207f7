// Stacks of every shape, all of which end in the same channel: to be compared with the program's own traceback.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"reflect"
	"runtime"
	"sort"
	"strings"
	"sync"
	"text/template"
	"time"
)

func init() {
	scenarios["shapes"] = spawnShapes
	scenarios["large"] = spawnLarge
}

type pair[K comparable, V any] struct{ m map[K]V }

//go:noinline
func (p *pair[K, V]) wait(c chan V) V { return <-c }

//go:noinline
func generic[A any](c chan A) A { x := <-c; return x }

type byBlocking []int

func (b byBlocking) Len() int           { return len(b) }
func (b byBlocking) Less(i, j int) bool { <-never; return b[i] < b[j] }
func (b byBlocking) Swap(i, j int)      {}

type inner struct{ a, b int }

func (i inner) Method(x int) int { <-never; return x }

type outer struct{ inner }

type methoder interface{ Method(int) int }

//go:noinline
func manyArguments(a, b, c, d, e, f, g, h, i, j, k int, s string, x [4]int) int {
	<-never
	return a + b + k + len(s) + x[2]
}

//go:noinline
func panicInPanic(n int) {
	defer func() {
		recover()
		if n == 0 {
			<-never
			return
		}
		panicInPanic(n - 1)
	}()
	panic("x")
}

//go:noinline
func defersInLoop() {
	for i := 0; i < 3; i++ {
		defer func() { <-never }()
	}
}

//go:noinline
func faults() {
	defer func() { recover(); <-never }()
	var p *int
	*p = 1
}

//go:noinline
func exits() {
	defer func() { <-never }()
	runtime.Goexit()
}

func inlinedOnce(c chan int) int  { return inlinedTwice(c) + 1 }
func inlinedTwice(c chan int) int { return <-c }

//go:noinline
func inlines() { _ = inlinedOnce(never) }

//go:noinline
func deep(n int) int {
	if n == 0 {
		return <-never
	}
	return deep(n-1) + 1
}

//go:noinline
func largeFrame() {
	var buffer [65536]byte
	for i := range buffer {
		buffer[i] = byte(i)
	}
	<-never
	fmt.Fprint(io.Discard, buffer[100])
}

func spawnLarge() { go leakLarge() }

//go:noinline
func leakLarge() {
	begun.Done()
	largeFrame()
}

//go:noinline
func grows(n int) int {
	var buffer [1024]byte
	buffer[n%1024] = 1
	if n == 0 {
		return int(buffer[0])
	}
	return grows(n-1) + int(buffer[1])
}

//go:noinline
func shrinks() { grows(200); <-never }

type finalized struct{ p *int }

//go:noinline
func spawnShapes() {
	go func() { (&pair[string, int]{}).wait(never) }()
	go func() { generic(make(chan string)) }()
	go func() { generic(make(chan *int)) }()
	go func() { sort.Sort(byBlocking{3, 2, 1}) }()
	go func() { reflect.ValueOf(inner{}).MethodByName("Method").Call([]reflect.Value{reflect.ValueOf(1)}) }()
	go func() { reflect.ValueOf(inner{}).Method(0).Interface().(func(int) int)(3) }()
	go func() {
		f := func(in []reflect.Value) []reflect.Value { <-never; return in }
		reflect.MakeFunc(reflect.TypeOf(func(int) int { return 0 }), f).Interface().(func(int) int)(1)
	}()
	go func() { var m methoder = &outer{}; m.Method(1) }()
	go func() { f := (&outer{}).Method; f(2) }()
	go func() { f := methoder.Method; f(&outer{}, 2) }()
	go (&outer{}).Method(4)
	go inner.Method(inner{}, 5)
	go methoder.Method(outer{}, 5)
	go manyArguments(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, "abc", [4]int{})
	go panicInPanic(3)
	go defersInLoop()
	go faults()
	go exits()
	go inlines()
	go deep(30)
	go largeFrame()
	go shrinks()
	go func() { exec.Command("/bin/sleep", "10000").Run() }()
	go func() { c := make(chan os.Signal, 1); signal.Notify(c, os.Interrupt); <-c }()
	go func() {
		functions := template.FuncMap{"f": func() int { return <-never }}
		template.Must(template.New("x").Funcs(functions).Parse("{{f}}")).Execute(os.Stderr, nil)
	}()
	go func() { strings.Map(func(r rune) rune { <-never; return r }, "abc") }()
	time.AfterFunc(time.Millisecond, func() { <-never })
	var once sync.Once
	go once.Do(func() { <-never })
	go func() { once.Do(func() {}) }()
	var m sync.Map
	go func() { m.Store(1, 2); m.Range(func(k, v interface{}) bool { <-never; return true }) }()
	go func() {
		r, _ := io.Pipe()
		var b [1]byte
		r.Read(b[:])
	}()
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
		defer cancel()
		<-ctx.Done()
	}()
	go func() {
		f := &finalized{}
		runtime.SetFinalizer(f, func(*finalized) { <-never })
		f = nil
		runtime.GC()
	}()
	time.Sleep(300 * time.Millisecond)
	runtime.GC()
	begun.Done()
}
