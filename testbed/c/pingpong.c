/*
 * pingpong [--pin] SECONDS: two threads hand a token to and fro by FUTEX_WAIT and FUTEX_WAKE as fast as they
 * can, then prints `round_trips N`. The load under which the cost of futex probes is measured.
 *
 * --pin puts both on CPU 0, so that each hand-over really sleeps; on two the token is often there already.
 */
#define _GNU_SOURCE
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MAX_SECONDS 3600

static _Atomic uint32_t token; /* whose turn it is: 0 or 1 */
static atomic_bool stop;
static uint64_t round_trips; /* player 0's, read when it has ended */

static void futex_wait(uint32_t while_it_is) {
    syscall(SYS_futex, &token, FUTEX_WAIT_PRIVATE, while_it_is, NULL, NULL, 0);
}

static void futex_wake(int waiters) {
    syscall(SYS_futex, &token, FUTEX_WAKE_PRIVATE, waiters, NULL, NULL, 0);
}

static void *play(void *me_as_pointer) {
    uint32_t me = (uint32_t)(uintptr_t)me_as_pointer, other = 1 - me;
    prctl(PR_SET_NAME, me == 0 ? "ping" : "pong");
    while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
        while (atomic_load(&token) != me) {
            if (atomic_load(&stop))
                return NULL;
            futex_wait(other);
        }
        if (me == 0)
            round_trips++;
        atomic_store(&token, other);
        futex_wake(1);
    }
    return NULL;
}

__attribute__((noreturn)) static void usage(void) {
    fprintf(stderr, "usage: pingpong [--pin] SECONDS (1 to %d)\n", MAX_SECONDS);
    exit(2);
}

static void pin_to_cpu_0(void) {
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    CPU_SET(0, &cpus);
    if (sched_setaffinity(0, sizeof cpus, &cpus) == -1) { /* the players inherit it */
        perror("pingpong: cannot pin to CPU 0 (is it in this process's cpuset?)");
        exit(1);
    }
}

int main(int argc, char **argv) {
    bool pin = false;
    long seconds = 0;
    for (int i = 1; i < argc; i++) {
        char *end;
        if (strcmp(argv[i], "--pin") == 0) {
            pin = true;
            continue;
        }
        if (seconds != 0)
            usage();
        seconds = strtol(argv[i], &end, 10);
        if (*end != '\0' || seconds < 1 || seconds > MAX_SECONDS)
            usage();
    }
    if (seconds == 0)
        usage();
    if (pin)
        pin_to_cpu_0();

    pthread_t players[2];
    for (uintptr_t me = 0; me < 2; me++) {
        int error = pthread_create(&players[me], NULL, play, (void *)me);
        if (error != 0) {
            fprintf(stderr, "pingpong: pthread_create: %s\n", strerror(error));
            return 1;
        }
    }
    for (unsigned left = (unsigned)seconds; left > 0;)
        left = sleep(left);
    atomic_store(&stop, true);
    /* A player that has just looked at `stop` may be about to wait: a changed word keeps it from doing so. */
    atomic_fetch_add(&token, 2);
    futex_wake(2);
    for (int i = 0; i < 2; i++)
        pthread_join(players[i], NULL);
    printf("round_trips %llu\n", (unsigned long long)round_trips);
    return 0;
}
