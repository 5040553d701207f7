// Goroutines that leak, a known number of each kind, and healthy ones beside them. The contract is that of the other
// programs of the testbed (README.md): arguments NAME=COUNT, `ready` on stdout once all of them are about to block.
//
// A scenario NAME runs leakNAME (idleNAME if it is healthy), is made in spawnNAME, and blocks in a function of its own.
// Written for Go 1.19 on, with the standard library alone.
package main

import (
	"fmt"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"
)

// What starts one goroutine (or what belongs to one) of a scenario.
var scenarios = map[string]func(){}

// Each goroutine says that it is about to block.
var begun sync.WaitGroup

// Nobody closes it, nobody sends.
var never = make(chan int)

// What is kept here is reachable for ever: finalizers close nothing.
var kept []interface{}

func keep(things ...interface{}) { kept = append(kept, things...) }

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func usage(message string) {
	names := make([]string, 0, len(scenarios))
	for name := range scenarios {
		names = append(names, name)
	}
	sort.Strings(names)
	fmt.Fprintf(os.Stderr, "%s\nusage: NAME=COUNT… with %s; pprof=SOCKET; exit=CODE\n", message, strings.Join(names, " "))
	os.Exit(2)
}

func main() {
	if len(os.Args) == 1 {
		usage("nothing to do")
	}
	var end func()
	for _, argument := range os.Args[1:] {
		parts := strings.SplitN(argument, "=", 2)
		if len(parts) != 2 {
			usage(argument)
		}
		name, value := parts[0], parts[1]
		if name == "pprof" {
			listener, err := net.Listen("unix", value)
			must(err)
			go http.Serve(listener, nil)
			continue
		}
		if name == "exit" {
			code, err := strconv.Atoi(value)
			must(err)
			end = func() { os.Exit(code) }
			continue
		}
		start, known := scenarios[name]
		count, err := strconv.Atoi(value)
		if !known || err != nil || count < 1 || count > 2000000 {
			usage(argument)
		}
		for i := 0; i < count; i++ {
			begun.Add(1)
			start()
		}
	}
	begun.Wait()
	// From the word to the wait itself.
	time.Sleep(100 * time.Millisecond)
	fmt.Println("ready")
	if end != nil {
		end()
	}
	for {
		time.Sleep(time.Hour)
	}
}
