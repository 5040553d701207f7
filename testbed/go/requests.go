// An HTTP handler whose client does not wait: `curl -m` hangs up before the answer is there.
package main

import (
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"sync"
	"time"
)

func init() {
	scenarios["curl_leaking"] = func() { curl("/leaking") }
	scenarios["curl_clean"] = func() { curl("/clean") }
}

var (
	answering sync.Once
	address   string
)

// Asks and gives up after a fifth of a second.
func curl(path string) {
	answering.Do(func() {
		mux := http.NewServeMux()
		mux.HandleFunc("/leaking", func(w http.ResponseWriter, r *http.Request) { query(w, r, make(chan string)) })
		mux.HandleFunc("/clean", func(w http.ResponseWriter, r *http.Request) { query(w, r, make(chan string, 1)) })
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		must(err)
		address = listener.Addr().String()
		go http.Serve(listener, mux)
	})
	// It fails: that is what it is for.
	exec.Command("curl", "-s", "-m", "0.2", "http://"+address+path).Run()
	begun.Done()
}

// Where nobody waits for the result, whoever brings it stays for good, unless the channel has room for it.
//
//go:noinline
func query(w http.ResponseWriter, r *http.Request, result chan string) {
	go bringResult(result)
	select {
	case text := <-result:
		fmt.Fprintln(w, text)
	case <-r.Context().Done():
	}
}

//go:noinline
func bringResult(result chan string) {
	time.Sleep(500 * time.Millisecond)
	result <- "too late"
}
