// The leaks of two articles about them: xiazemin's "goroutine 泄露" and PouchContainer's about its own.
package main

import (
	"context"
	"fmt"
	"math/rand"
	"net"
	"net/http"
	"os/exec"
	"sync"
	"sync/atomic"
)

func init() {
	scenarios["article_producer"] = spawnProducer
	scenarios["article_adder"] = spawnAdder
	scenarios["article_sum_server"] = spawnSumRequest
	scenarios["article_lonely_receive"] = spawnLonelyReceive
	scenarios["article_log_follower"] = spawnLogRequest
	scenarios["article_exec_server"] = spawnExecRequest
	scenarios["article_endless_loop"] = spawnEndlessLoop
}

// A stream without end, of which three numbers are taken.
//
//go:noinline
func spawnProducer() {
	stream := randomStream()
	for i := 0; i < 3; i++ {
		<-stream
	}
	begun.Done()
}

//go:noinline
func randomStream() <-chan int {
	stream := make(chan int)
	go func() {
		defer close(stream)
		for {
			stream <- rand.Int()
		}
	}()
	return stream
}

// Two halves are added up, one sum is taken.
//
//go:noinline
func spawnAdder() { oneOfTwoSums(); begun.Done() }

//go:noinline
func oneOfTwoSums() int {
	numbers := []int{7, 2, 8, -9, 4, 0}
	first, second := make(chan int), make(chan int)
	go addUp(numbers[:3], first)
	go addUp(numbers[3:], second)
	return <-first
}

//go:noinline
func addUp(numbers []int, sum chan int) {
	total := 0
	for _, number := range numbers {
		total += number
	}
	sum <- total
}

var (
	serving sync.Once
	server  string
)

// One server for all requests, as in a program that runs for long.
func serve() string {
	serving.Do(func() {
		http.HandleFunc("/sum", func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintln(w, oneOfTwoSums())
		})
		http.HandleFunc("/logs", followLog)
		http.HandleFunc("/exec", runCommand)
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		must(err)
		server = listener.Addr().String()
		go http.Serve(listener, nil)
	})
	return server
}

//go:noinline
func spawnSumRequest() {
	transport := &http.Transport{DisableKeepAlives: true}
	client := http.Client{Transport: transport}
	answer, err := client.Get("http://" + serve() + "/sum")
	must(err)
	must(answer.Body.Close())
	begun.Done()
}

// Asks and hangs up when the handler has begun.
func askAndHangUp(path string) {
	connection, err := net.Dial("tcp", serve())
	must(err)
	_, err = fmt.Fprintf(connection, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path)
	must(err)
	<-handling
	must(connection.Close())
	begun.Done()
}

var handling = make(chan bool)

//go:noinline
func spawnLogRequest() { askAndHangUp("/logs") }

// Follows a log in which nothing is written any more; that the client is gone it would learn by writing only.
//
//go:noinline
func followLog(w http.ResponseWriter, r *http.Request) {
	handling <- true
	writeLogStream(context.Background(), w, make(chan []byte))
}

//go:noinline
func writeLogStream(ctx context.Context, w http.ResponseWriter, messages <-chan []byte) {
	for {
		select {
		case <-ctx.Done():
			return
		case message, open := <-messages:
			if !open {
				return
			}
			w.Write(message)
		}
	}
}

//go:noinline
func spawnExecRequest() { askAndHangUp("/exec") }

// Runs a command that does not end within anybody's patience.
//
//go:noinline
func runCommand(w http.ResponseWriter, r *http.Request) {
	handling <- true
	output, _ := exec.Command("/bin/sleep", "100000").CombinedOutput()
	w.Write(output)
}

// Nobody sends into it.
//
//go:noinline
func spawnLonelyReceive() {
	var lonely chan int
	go func(c chan int) {
		begun.Done()
		<-c
	}(lonely)
}

// Works for ever; it never blocks.
//
//go:noinline
func spawnEndlessLoop() { go endlessLoop() }

//go:noinline
func endlessLoop() {
	begun.Done()
	for {
		atomic.AddInt64(&ticks, 1)
	}
}
