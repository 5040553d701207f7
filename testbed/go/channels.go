package main

import "context"

func init() {
	scenarios["chan_receive"] = spawnChanReceive
	scenarios["chan_send"] = spawnChanSend
	scenarios["nil_receive"] = spawnNilReceive
	scenarios["nil_send"] = spawnNilSend
	scenarios["select"] = spawnSelect
	scenarios["empty_select"] = spawnEmptySelect
	scenarios["context"] = spawnContext
	scenarios["weighted"] = spawnWeighted
	scenarios["by_closure"] = spawnByClosure
	scenarios["with_arguments"] = spawnWithArguments
}

//go:noinline
func spawnChanReceive() { go leakChanReceive() }

//go:noinline
func leakChanReceive() { begun.Done(); chanReceiveForever(never) }

//go:noinline
func chanReceiveForever(c chan int) { <-c }

//go:noinline
func spawnChanSend() { go leakChanSend() }

//go:noinline
func leakChanSend() { begun.Done(); chanSendForever(make(chan int)) }

//go:noinline
func chanSendForever(c chan int) { c <- 1 }

//go:noinline
func spawnNilReceive() { go leakNilReceive() }

//go:noinline
func leakNilReceive() { begun.Done(); nilReceiveForever(nil) }

//go:noinline
func nilReceiveForever(c chan int) { <-c }

//go:noinline
func spawnNilSend() { go leakNilSend() }

//go:noinline
func leakNilSend() { begun.Done(); nilSendForever(nil) }

//go:noinline
func nilSendForever(c chan int) { c <- 1 }

//go:noinline
func spawnSelect() { go leakSelect() }

//go:noinline
func leakSelect() { begun.Done(); selectForever(never, make(chan int)) }

//go:noinline
func selectForever(a, b chan int) {
	select {
	case <-a:
	case b <- 1:
	}
}

//go:noinline
func spawnEmptySelect() { go leakEmptySelect() }

//go:noinline
func leakEmptySelect() { begun.Done(); emptySelectForever() }

//go:noinline
func emptySelectForever() { select {} }

//go:noinline
func spawnContext() { go leakContext() }

//go:noinline
func leakContext() {
	ctx, cancel := context.WithCancel(context.Background())
	begun.Done()
	contextForever(ctx)
	cancel()
}

//go:noinline
func contextForever(ctx context.Context) { <-ctx.Done() }

// A counting semaphore that one can give up waiting for, as golang.org/x/sync/semaphore has it.
type weighted struct{ tokens chan struct{} }

//go:noinline
func (w *weighted) acquire(ctx context.Context) error {
	select {
	case w.tokens <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

//go:noinline
func spawnWeighted() { go leakWeighted() }

//go:noinline
func leakWeighted() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	w := &weighted{make(chan struct{}, 1)}
	must(w.acquire(ctx))
	begun.Done()
	must(w.acquire(ctx))
}

//go:noinline
func spawnByClosure() {
	c := make(chan int)
	go func() {
		begun.Done()
		chanReceiveForever(c)
	}()
}

// With arguments the compiler makes a wrapper that the goroutine starts in.
//
//go:noinline
func spawnWithArguments() { go leakWithArguments(make(chan int), 7) }

//go:noinline
func leakWithArguments(c chan int, n int) {
	begun.Done()
	chanReceiveForever(c)
	keep(n)
}
