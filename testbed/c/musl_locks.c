/*
 * musl_locks: a static program of musl with one thread that waits for each of its locks, all held by one helper, one
 * that joins that helper, and two that each hold a mutex and wait for the other's. Says `ready`, and sleeps.
 *
 * Threads are called plain, recursive, errorcheck, robust, rwlock, join and ring (2). A plain mutex and a read-write
 * lock of musl do not know their owners.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

enum { RING = 2 };

static pthread_mutex_t plain, recursive, errorcheck, robust, ring[RING];
static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
static pthread_t helper;
static atomic_int helper_holds, ring_holds;

static void check(const char *what, int error) {
    if (error != 0) {
        fprintf(stderr, "musl_locks: %s: error %d\n", what, error);
        exit(1);
    }
}

static void sleep_forever(void) {
    for (;;)
        sleep(3600);
}

static void make_mutex(pthread_mutex_t *mutex, int type, int robustness) {
    pthread_mutexattr_t attr;
    pthread_mutexattr_init(&attr);
    check("type", pthread_mutexattr_settype(&attr, type));
    check("robustness", pthread_mutexattr_setrobust(&attr, robustness));
    check("mutex", pthread_mutex_init(mutex, &attr));
}

static void *hold_all(void *unused) {
    (void)unused;
    prctl(PR_SET_NAME, "helper");
    check("plain", pthread_mutex_lock(&plain));
    check("recursive", pthread_mutex_lock(&recursive) | pthread_mutex_lock(&recursive));
    check("errorcheck", pthread_mutex_lock(&errorcheck));
    check("robust", pthread_mutex_lock(&robust));
    check("rwlock", pthread_rwlock_wrlock(&rwlock));
    atomic_store(&helper_holds, 1);
    sleep_forever();
    return NULL;
}

/* A thread of that name, which makes one call that does not come back. */
#define WAITER(name, call)                                                                                   \
    static void *wait_for_##name(void *unused) {                                                             \
        (void)unused;                                                                                        \
        prctl(PR_SET_NAME, #name);                                                                           \
        call;                                                                                                \
        fprintf(stderr, "musl_locks: " #name " came back\n");                                                \
        exit(3);                                                                                             \
    }

WAITER(plain, pthread_mutex_lock(&plain))
WAITER(recursive, pthread_mutex_lock(&recursive))
WAITER(errorcheck, pthread_mutex_lock(&errorcheck))
WAITER(robust, pthread_mutex_lock(&robust))
WAITER(rwlock, pthread_rwlock_rdlock(&rwlock))
WAITER(join, pthread_join(helper, NULL))

static void *wait_in_ring(void *arg) {
    int me = *(int *)arg;
    prctl(PR_SET_NAME, "ring");
    check("own mutex", pthread_mutex_lock(&ring[me]));
    atomic_fetch_add(&ring_holds, 1);
    while (atomic_load(&ring_holds) < RING)
        usleep(1000);
    pthread_mutex_lock(&ring[(me + 1) % RING]);
    fprintf(stderr, "musl_locks: ring came back\n");
    exit(3);
}

int main(void) {
    static void *(*const waiters[])(void *) = {wait_for_plain,  wait_for_recursive, wait_for_errorcheck,
                                               wait_for_robust, wait_for_rwlock,    wait_for_join};
    static int numbers[RING];
    pthread_t thread;
    make_mutex(&plain, PTHREAD_MUTEX_NORMAL, PTHREAD_MUTEX_STALLED);
    make_mutex(&recursive, PTHREAD_MUTEX_RECURSIVE, PTHREAD_MUTEX_STALLED);
    make_mutex(&errorcheck, PTHREAD_MUTEX_ERRORCHECK, PTHREAD_MUTEX_STALLED);
    make_mutex(&robust, PTHREAD_MUTEX_NORMAL, PTHREAD_MUTEX_ROBUST);
    check("helper", pthread_create(&helper, NULL, hold_all, NULL));
    while (!atomic_load(&helper_holds))
        usleep(1000);
    for (size_t i = 0; i < sizeof waiters / sizeof waiters[0]; i++)
        check("waiter", pthread_create(&thread, NULL, waiters[i], NULL));
    for (int i = 0; i < RING; i++) {
        numbers[i] = i;
        make_mutex(&ring[i], PTHREAD_MUTEX_ERRORCHECK, PTHREAD_MUTEX_STALLED);
    }
    for (int i = 0; i < RING; i++)
        check("ring", pthread_create(&thread, NULL, wait_in_ring, &numbers[i]));
    while (atomic_load(&ring_holds) < RING)
        usleep(1000);
    puts("ready");
    fflush(stdout);
    sleep_forever();
}
