package main

/*
#include <unistd.h>
extern void goCallback(void);
static void pause_forever(void) { for (;;) pause(); }
static void call_back(void) { goCallback(); }
*/
import "C"

func init() {
	scenarios["cgo_pause"] = spawnCgoPause
	scenarios["cgo_callback"] = spawnCgoCallback
}

//go:noinline
func spawnCgoPause() { go leakCgoPause() }

//go:noinline
func leakCgoPause() { begun.Done(); cgoPauseForever() }

//go:noinline
func cgoPauseForever() { C.pause_forever() }

//go:noinline
func spawnCgoCallback() { go leakCgoCallback() }

//go:noinline
func leakCgoCallback() { C.call_back() }

//export goCallback
func goCallback() { begun.Done(); chanReceiveForever(never) }
