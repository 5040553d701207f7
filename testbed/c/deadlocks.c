/*
 * Threads that hold what others wait for: in a ring, which is a deadlock; in a chain, which ends at a thread that
 * could go on; and in turns, which is healthy. All use plain mutexes (PI mutexes would not do: the kernel finds
 * their rings by itself).
 */
#include "bed.h"

#include <stdatomic.h>
#include <stdlib.h>

/* A thread's own mutex, and the one that it then waits for. */
struct link {
    pthread_mutex_t own;
    pthread_mutex_t *awaited;
};

/* As many as there are of a scenario, and how many of them hold their own mutex by now. */
struct links {
    atomic_int free;
    struct link *all;
};

static struct links ring, chain;

static void make_links(struct links *links, int count) {
    links->all = calloc((size_t)count, sizeof *links->all);
    if (links->all == NULL)
        bed_fail("calloc");
    for (int i = 0; i < count; i++)
        pthread_mutex_init(&links->all[i].own, NULL);
    atomic_store(&links->free, count);
    bed_expect(count);
}

/* Nobody waits for another's before all hold their own. */
static void take_own(struct links *links, struct link *link) {
    bed_check("own mutex", pthread_mutex_lock(&link->own));
    atomic_fetch_sub(&links->free, 1);
    while (atomic_load(&links->free) > 0)
        usleep(1000);
}

/* deadlock_ring: each waits for the next one, the last for the first; alone for itself */
FRAME static void ring_acquire_forever(pthread_mutex_t *awaited) {
    pthread_mutex_lock(awaited);
    bed_came_back(__func__);
}

FRAME static void *leak_deadlock_ring(void *arg) {
    struct link *link = arg;
    take_own(&ring, link);
    bed_arrive("deadlock_ring");
    ring_acquire_forever(link->awaited);
    return NULL;
}

FRAME void spawn_deadlock_ring(int count) {
    make_links(&ring, count);
    for (int i = 0; i < count; i++) {
        pthread_t thread;
        ring.all[i].awaited = &ring.all[(i + 1) % count].own;
        bed_check("pthread_create", pthread_create(&thread, &bed_attr, leak_deadlock_ring, &ring.all[i]));
    }
}

/* lock_chain: each waits for the one before it, the first for a helper */
static pthread_mutex_t chain_end = PTHREAD_MUTEX_INITIALIZER;

static void take_chain_end(void) { bed_check("end of the chain", pthread_mutex_lock(&chain_end)); }

FRAME static void chain_acquire_forever(pthread_mutex_t *awaited) {
    pthread_mutex_lock(awaited);
    bed_came_back(__func__);
}

FRAME static void *leak_lock_chain(void *arg) {
    struct link *link = arg;
    take_own(&chain, link);
    bed_arrive("lock_chain");
    chain_acquire_forever(link->awaited);
    return NULL;
}

FRAME void spawn_lock_chain(int count) {
    bed_hold(take_chain_end);
    make_links(&chain, count);
    for (int i = 0; i < count; i++) {
        pthread_t thread;
        chain.all[i].awaited = i == 0 ? &chain_end : &chain.all[i - 1].own;
        bed_check("pthread_create", pthread_create(&thread, &bed_attr, leak_lock_chain, &chain.all[i]));
    }
}

/* lock_traffic: all take two mutexes in the same order, and none keeps them for more than a moment */
static pthread_mutex_t outer = PTHREAD_MUTEX_INITIALIZER, inner = PTHREAD_MUTEX_INITIALIZER;

FRAME static void take_turns(void) {
    for (;;) {
        pthread_mutex_lock(&outer);
        usleep(500);
        pthread_mutex_lock(&inner);
        pthread_mutex_unlock(&outer);
        usleep(500);
        pthread_mutex_unlock(&inner);
        usleep(1000);
    }
}

ENTRY(idle_lock_traffic, lock_traffic, take_turns)

FRAME void spawn_lock_traffic(int count) { SPAWN(idle_lock_traffic, count); }
