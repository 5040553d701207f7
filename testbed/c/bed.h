/*
 * What all scenarios of the blockers share: how threads are started, named, counted in and kept waiting.
 *
 * A scenario NAME has an entry function (leak_NAME when it blocks for good, idle_NAME when it is healthy),
 * a function of its own that makes the blocking call, and spawn_NAME, which creates its threads. Tests of
 * stacks look for these names, so each keeps a frame of its own (FRAME), and no blocking call is the last
 * thing that its function does: the compiler would make it a jump.
 */
#ifndef BED_H
#define BED_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

/* Not inlined, not cloned, and no caller learns that it never returns. */
#define FRAME __attribute__((noipa))

/* A wait that counts as timed: long enough never to end within a test. */
#define HEALTHY_SECONDS 1000

/* Detached, and with a small stack, so that thousands of threads fit a 32-bit process too. */
extern pthread_attr_t bed_attr;

/* `ready` is not said before this many more threads have arrived. */
void bed_expect(int count);
/* Returns when all that are expected have arrived. */
void bed_wait_for_arrivals(void);
/* Names the calling thread after its scenario and counts it in: the next thing it does is to block. */
void bed_arrive(const char *name);
/* Names a thread that no scenario counts (lock owners, join targets, signallers). */
void bed_name_helper(void);
/* Whether helpers that hold a lock read from a silent pipe, without a timeout, instead of sleeping. */
extern bool bed_holders_read;
/* Runs `take` in a helper thread, which then sleeps for ever; returns when `take` has returned. */
void bed_hold(void (*take)(void));
/* Timed sleeps, for ever: what all helpers do, so that they are never taken for blocked. */
__attribute__((noreturn)) void bed_sleep_forever(void);
/* A child process that sleeps like a helper and dies with the thread that made it. */
pid_t bed_fork_sleeper(void);
/* The read end of a pipe into which nobody writes. */
int bed_silent_fd(void);
/* A point in time on the given clock, so many seconds from now. */
struct timespec bed_in(clockid_t clock, long seconds);
/* To be called before System V objects are made: lets the kernel remove them when the last of us is gone. */
void bed_private_ipc(void);
/* Runs `clean` (async-signal-safe) on exit and on SIGTERM. */
void bed_at_end(void (*clean)(void));

/* These end the program: a call that is needed failed (1), is not to be had here (77), or came back (3). */
__attribute__((noreturn)) void bed_fail(const char *what);
__attribute__((noreturn)) void bed_unsupported(const char *what);
__attribute__((noreturn)) void bed_came_back(const char *function);

/* For calls that return an error number. */
static inline void bed_check(const char *what, int error) {
    if (error != 0) {
        errno = error;
        bed_fail(what);
    }
}

/* Expanded where it stands, so that the caller is the innermost frame at pthread_create. */
#define SPAWN(entry, count)                                                                                  \
    do {                                                                                                     \
        bed_expect(count);                                                                                   \
        for (int spawned = 0; spawned < (count); spawned++) {                                                \
            pthread_t thread;                                                                                \
            bed_check("pthread_create", pthread_create(&thread, &bed_attr, (entry), NULL));                  \
        }                                                                                                    \
    } while (0)

/* An entry function that does nothing but arrive and block. */
#define ENTRY(function, scenario, block)                                                                     \
    FRAME static void *function(void *unused) {                                                              \
        (void)unused;                                                                                        \
        bed_arrive(#scenario);                                                                               \
        block();                                                                                             \
        return NULL;                                                                                         \
    }

/* Every scenario of every file, in the order in which the usage lists them. */
#define SCENARIOS(X)                                                                                         \
    X(mutex) X(cond) X(rwlock_read) X(rwlock_write) X(semaphore) X(join) X(barrier)                          \
    X(pi_mutex) X(robust_mutex) X(process_shared_mutex) X(deadlock_ring) X(lock_chain)                       \
    X(futex_waitv) X(futex_wait2) X(flock) X(fcntl_lock) X(semop) X(vfork) X(userfault)                      \
    X(read) X(socket_read) X(poll) X(ppoll) X(select) X(pselect) X(epoll_wait) X(accept)                     \
    X(inotify_read) X(eventfd_read) X(io_uring)                                                              \
    X(waitpid) X(waitid) X(msgrcv) X(mq_receive) X(pause) X(sigwait) X(sigsuspend)                           \
    X(poll_25days) X(cond_2days) X(select_2days)                                                             \
    X(mutex_signals) X(read_signals) X(churn)                                                                \
    X(timed_cond) X(timed_mutex) X(timed_semaphore) X(timed_poll) X(timed_epoll) X(timed_select)             \
    X(timed_sigwait) X(timed_futex) X(cond_2h) X(sleep) X(ping_pong) X(burner) X(lock_traffic)

#define DECLARE_SPAWN(name) void spawn_##name(int count);
SCENARIOS(DECLARE_SPAWN)

#endif
