package main

import (
	"net"
	"os"
	"os/signal"
	"runtime"
	"syscall"
)

func init() {
	scenarios["pipe_read"] = spawnPipeRead
	scenarios["tcp_read"] = spawnTCPRead
	scenarios["accept"] = spawnAccept
	scenarios["syscall_read"] = spawnSyscallRead
	scenarios["locked_syscall"] = spawnLockedSyscall
	scenarios["locked_receive"] = spawnLockedReceive
	scenarios["signals"] = spawnSignals
}

//go:noinline
func spawnPipeRead() {
	r, w, err := os.Pipe()
	must(err)
	keep(r, w)
	go leakPipeRead(r)
}

//go:noinline
func leakPipeRead(r *os.File) { begun.Done(); pipeReadForever(r) }

//go:noinline
func pipeReadForever(r *os.File) {
	var b [1]byte
	r.Read(b[:])
}

func connected() net.Conn {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	ours, err := net.Dial("tcp", listener.Addr().String())
	must(err)
	theirs, err := listener.Accept()
	must(err)
	must(listener.Close())
	keep(ours, theirs)
	return ours
}

//go:noinline
func spawnTCPRead() { go leakTCPRead(connected()) }

//go:noinline
func leakTCPRead(c net.Conn) { begun.Done(); tcpReadForever(c) }

//go:noinline
func tcpReadForever(c net.Conn) {
	var b [1]byte
	c.Read(b[:])
}

//go:noinline
func spawnAccept() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	keep(listener)
	go leakAccept(listener)
}

//go:noinline
func leakAccept(l net.Listener) { begun.Done(); acceptForever(l) }

//go:noinline
func acceptForever(l net.Listener) { l.Accept() }

func silentPipe() int {
	var p [2]int
	must(syscall.Pipe(p[:]))
	return p[0]
}

//go:noinline
func spawnSyscallRead() { go leakSyscallRead(silentPipe()) }

//go:noinline
func leakSyscallRead(fd int) { begun.Done(); syscallReadForever(fd) }

//go:noinline
func syscallReadForever(fd int) {
	var b [1]byte
	syscall.Read(fd, b[:])
}

//go:noinline
func spawnLockedSyscall() { go leakLockedSyscall(silentPipe()) }

//go:noinline
func leakLockedSyscall(fd int) {
	runtime.LockOSThread()
	begun.Done()
	syscallReadForever(fd)
}

//go:noinline
func spawnLockedReceive() { go leakLockedReceive() }

//go:noinline
func leakLockedReceive() {
	runtime.LockOSThread()
	begun.Done()
	chanReceiveForever(never)
}

//go:noinline
func spawnSignals() { go leakSignals() }

//go:noinline
func leakSignals() {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGUSR1)
	begun.Done()
	signalsForever(signals)
}

//go:noinline
func signalsForever(signals chan os.Signal) { <-signals }
