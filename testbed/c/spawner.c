/*
 * spawner --burst N: creates and joins N threads one after the other, as fast as it can, then prints
 * `ns_per_thread X`. The load under which the cost of the spawn probe is measured.
 *
 * spawner --steady MS: says `ready`, and from then on creates a thread every MS milliseconds: two of three
 * (spawn_short_job) end after three times as long, one of three (spawn_long_job) waits for good.
 *
 * spawner --on-signal MS: says `ready`, waits for SIGUSR1, and then creates 3 short threads and 4 long ones.
 *
 * spawner --ticking MS: says `ready`, and from then on creates a thread every MS milliseconds that never ends and never
 * waits for longer than 20 ms (spawn_ticker), beside one that ends after three times as long.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define FRAME __attribute__((noipa))

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t never = PTHREAD_COND_INITIALIZER;
static pthread_attr_t detached;
static long steady_ms;

static void sleep_ms(long ms) {
    struct timespec time = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&time, NULL);
}

static void must(const char *what, int error) {
    if (error != 0) {
        fprintf(stderr, "spawner: %s: %s\n", what, strerror(error));
        exit(1);
    }
}

FRAME static void *empty_job(void *unused) {
    return unused;
}

FRAME static void *short_job(void *unused) {
    sleep_ms(3 * steady_ms);
    return unused;
}

FRAME static void wait_for_ever(void) {
    pthread_mutex_lock(&lock);
    for (;;)
        pthread_cond_wait(&never, &lock);
}

FRAME static void *long_job(void *unused) {
    wait_for_ever();
    return unused;
}

FRAME static void spawn_short_job(void) {
    pthread_t thread;
    must("pthread_create", pthread_create(&thread, &detached, short_job, NULL));
}

FRAME static void spawn_long_job(void) {
    pthread_t thread;
    must("pthread_create", pthread_create(&thread, &detached, long_job, NULL));
}

FRAME static void burst(long count) {
    struct timespec begun, ended;
    clock_gettime(CLOCK_MONOTONIC, &begun);
    for (long i = 0; i < count; i++) {
        pthread_t thread;
        must("pthread_create", pthread_create(&thread, NULL, empty_job, NULL));
        must("pthread_join", pthread_join(thread, NULL));
    }
    clock_gettime(CLOCK_MONOTONIC, &ended);
    double ns = (ended.tv_sec - begun.tv_sec) * 1e9 + (ended.tv_nsec - begun.tv_nsec);
    printf("ns_per_thread %.0f\n", ns / count);
}

FRAME static void steady(void) {
    printf("ready\n");
    fflush(stdout);
    for (long i = 1;; i++) {
        sleep_ms(steady_ms);
        if (i % 3 == 0)
            spawn_long_job();
        else
            spawn_short_job();
    }
}

FRAME static void *ticker(void *unused) {
    for (;;)
        sleep_ms(20);
    return unused;
}

FRAME static void spawn_ticker(void) {
    pthread_t thread;
    must("pthread_create", pthread_create(&thread, &detached, ticker, NULL));
}

FRAME static void ticking(void) {
    printf("ready\n");
    fflush(stdout);
    for (;;) {
        sleep_ms(steady_ms);
        spawn_ticker();
        spawn_short_job();
    }
}

FRAME static void on_signal(void) {
    sigset_t wanted;
    int signal;
    sigemptyset(&wanted);
    sigaddset(&wanted, SIGUSR1);
    sigprocmask(SIG_BLOCK, &wanted, NULL);
    printf("ready\n");
    fflush(stdout);
    sigwait(&wanted, &signal);
    for (int i = 0; i < 3; i++)
        spawn_short_job();
    for (int i = 0; i < 4; i++)
        spawn_long_job();
    for (;;)
        pause();
}

int main(int argc, char **argv) {
    long number = argc == 3 ? strtol(argv[2], NULL, 10) : 0;
    must("attributes", pthread_attr_init(&detached));
    must("attributes", pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED));
    must("attributes", pthread_attr_setstacksize(&detached, 256 * 1024));
    if (number > 0 && strcmp(argv[1], "--burst") == 0) {
        printf("ready\n");
        fflush(stdout);
        /* A moment in which a probe can be attached. */
        sleep_ms(2500);
        burst(number);
    } else if (number > 0 && strcmp(argv[1], "--steady") == 0) {
        steady_ms = number;
        steady();
    } else if (number > 0 && strcmp(argv[1], "--ticking") == 0) {
        steady_ms = number;
        ticking();
    } else if (number > 0 && strcmp(argv[1], "--on-signal") == 0) {
        steady_ms = number;
        on_signal();
    } else {
        fprintf(stderr, "usage: spawner --burst N | --steady MS | --ticking MS | --on-signal MS\n");
        return 2;
    }
    return 0;
}
