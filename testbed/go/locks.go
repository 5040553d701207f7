package main

import "sync"

func init() {
	scenarios["mutex"] = spawnMutex
	scenarios["rwmutex_read"] = spawnRWMutexRead
	scenarios["rwmutex_write"] = spawnRWMutexWrite
	scenarios["waitgroup"] = spawnWaitGroup
	scenarios["cond"] = spawnCond
	scenarios["once"] = spawnOnce
}

//go:noinline
func spawnMutex() {
	m := new(sync.Mutex)
	m.Lock()
	go leakMutex(m)
}

//go:noinline
func leakMutex(m *sync.Mutex) { begun.Done(); mutexForever(m) }

//go:noinline
func mutexForever(m *sync.Mutex) { m.Lock() }

//go:noinline
func spawnRWMutexRead() {
	m := new(sync.RWMutex)
	m.Lock()
	go leakRWMutexRead(m)
}

//go:noinline
func leakRWMutexRead(m *sync.RWMutex) { begun.Done(); rwMutexReadForever(m) }

//go:noinline
func rwMutexReadForever(m *sync.RWMutex) { m.RLock() }

//go:noinline
func spawnRWMutexWrite() {
	m := new(sync.RWMutex)
	m.RLock()
	go leakRWMutexWrite(m)
}

//go:noinline
func leakRWMutexWrite(m *sync.RWMutex) { begun.Done(); rwMutexWriteForever(m) }

//go:noinline
func rwMutexWriteForever(m *sync.RWMutex) { m.Lock() }

//go:noinline
func spawnWaitGroup() {
	w := new(sync.WaitGroup)
	w.Add(1)
	go leakWaitGroup(w)
}

//go:noinline
func leakWaitGroup(w *sync.WaitGroup) { begun.Done(); waitGroupForever(w) }

//go:noinline
func waitGroupForever(w *sync.WaitGroup) { w.Wait() }

//go:noinline
func spawnCond() { go leakCond(sync.NewCond(new(sync.Mutex))) }

//go:noinline
func leakCond(c *sync.Cond) { begun.Done(); condForever(c) }

//go:noinline
func condForever(c *sync.Cond) {
	c.L.Lock()
	c.Wait()
}

//go:noinline
func spawnOnce() { go leakOnce(new(sync.Once)) }

//go:noinline
func leakOnce(o *sync.Once) { begun.Done(); onceForever(o) }

//go:noinline
func onceForever(o *sync.Once) { o.Do(func() { chanReceiveForever(never) }) }
