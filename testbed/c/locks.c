/* Internal waits, first half: the locks and meeting points of pthread. */
#include "bed.h"

#include <semaphore.h>

/* mutex */
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

static void take_mutex(void) { bed_check("mutex", pthread_mutex_lock(&mutex)); }

FRAME static void mutex_acquire_forever(void) {
    pthread_mutex_lock(&mutex);
    bed_came_back(__func__);
}

ENTRY(leak_mutex, mutex, mutex_acquire_forever)

FRAME void spawn_mutex(int count) {
    bed_hold(take_mutex);
    SPAWN(leak_mutex, count);
}

/* cond */
static pthread_mutex_t cond_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;

FRAME static void cond_wait_forever(void) {
    pthread_mutex_lock(&cond_lock);
    for (;;)
        pthread_cond_wait(&cond, &cond_lock);
}

ENTRY(leak_cond, cond, cond_wait_forever)

FRAME void spawn_cond(int count) { SPAWN(leak_cond, count); }

/* rwlock_read, rwlock_write */
static pthread_rwlock_t rwlock_for_read = PTHREAD_RWLOCK_INITIALIZER;
static pthread_rwlock_t rwlock_for_write = PTHREAD_RWLOCK_INITIALIZER;

static void take_rwlock_for_read(void) { bed_check("rwlock", pthread_rwlock_wrlock(&rwlock_for_read)); }

static void take_rwlock_for_write(void) { bed_check("rwlock", pthread_rwlock_wrlock(&rwlock_for_write)); }

FRAME static void rwlock_read_forever(void) {
    pthread_rwlock_rdlock(&rwlock_for_read);
    bed_came_back(__func__);
}

ENTRY(leak_rwlock_read, rwlock_read, rwlock_read_forever)

FRAME void spawn_rwlock_read(int count) {
    bed_hold(take_rwlock_for_read);
    SPAWN(leak_rwlock_read, count);
}

FRAME static void rwlock_write_forever(void) {
    pthread_rwlock_wrlock(&rwlock_for_write);
    bed_came_back(__func__);
}

ENTRY(leak_rwlock_write, rwlock_write, rwlock_write_forever)

FRAME void spawn_rwlock_write(int count) {
    bed_hold(take_rwlock_for_write);
    SPAWN(leak_rwlock_write, count);
}

/* semaphore */
static sem_t semaphore;

FRAME static void semaphore_wait_forever(void) {
    TEMP_FAILURE_RETRY(sem_wait(&semaphore));
    bed_came_back(__func__);
}

ENTRY(leak_semaphore, semaphore, semaphore_wait_forever)

FRAME void spawn_semaphore(int count) {
    sem_init(&semaphore, 0, 0);
    SPAWN(leak_semaphore, count);
}

/* join: each on a helper of its own */
static void *join_target(void *unused) {
    (void)unused;
    bed_name_helper();
    bed_sleep_forever();
}

FRAME static void join_forever(pthread_t target) {
    pthread_join(target, NULL);
    bed_came_back(__func__);
}

FRAME static void *leak_join(void *target) {
    bed_arrive("join");
    join_forever((pthread_t)target);
    return NULL;
}

FRAME void spawn_join(int count) {
    pthread_attr_t joinable;
    pthread_attr_init(&joinable);
    pthread_attr_setstacksize(&joinable, 256 * 1024);
    bed_expect(count);
    for (int i = 0; i < count; i++) {
        pthread_t target, joiner;
        bed_check("pthread_create", pthread_create(&target, &joinable, join_target, NULL));
        bed_check("pthread_create", pthread_create(&joiner, &bed_attr, leak_join, (void *)target));
    }
    pthread_attr_destroy(&joinable);
}

/* barrier: of more threads than there ever are */
static pthread_barrier_t barrier;

FRAME static void barrier_wait_forever(void) {
    pthread_barrier_wait(&barrier);
    bed_came_back(__func__);
}

ENTRY(leak_barrier, barrier, barrier_wait_forever)

FRAME void spawn_barrier(int count) {
    bed_check("pthread_barrier_init", pthread_barrier_init(&barrier, NULL, (unsigned)count + 1));
    SPAWN(leak_barrier, count);
}

/* pi_mutex, robust_mutex, process_shared_mutex: three kinds of futex operation */
static pthread_mutex_t pi_mutex, robust_mutex, process_shared_mutex;

static void take_pi_mutex(void) {
    pthread_mutexattr_t attr;
    pthread_mutexattr_init(&attr);
    bed_check("PTHREAD_PRIO_INHERIT", pthread_mutexattr_setprotocol(&attr, PTHREAD_PRIO_INHERIT));
    bed_check("pthread_mutex_init", pthread_mutex_init(&pi_mutex, &attr));
    bed_check("pthread_mutex_lock", pthread_mutex_lock(&pi_mutex));
}

FRAME static void pi_mutex_acquire_forever(void) {
    pthread_mutex_lock(&pi_mutex);
    bed_came_back(__func__);
}

ENTRY(leak_pi_mutex, pi_mutex, pi_mutex_acquire_forever)

FRAME void spawn_pi_mutex(int count) {
    bed_hold(take_pi_mutex);
    SPAWN(leak_pi_mutex, count);
}

static void take_robust_mutex(void) {
    pthread_mutexattr_t attr;
    pthread_mutexattr_init(&attr);
    bed_check("PTHREAD_MUTEX_ROBUST", pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST));
    bed_check("pthread_mutex_init", pthread_mutex_init(&robust_mutex, &attr));
    bed_check("pthread_mutex_lock", pthread_mutex_lock(&robust_mutex));
}

FRAME static void robust_mutex_acquire_forever(void) {
    pthread_mutex_lock(&robust_mutex);
    bed_came_back(__func__);
}

ENTRY(leak_robust_mutex, robust_mutex, robust_mutex_acquire_forever)

FRAME void spawn_robust_mutex(int count) {
    bed_hold(take_robust_mutex);
    SPAWN(leak_robust_mutex, count);
}

static void take_process_shared_mutex(void) {
    pthread_mutexattr_t attr;
    pthread_mutexattr_init(&attr);
    bed_check("PTHREAD_PROCESS_SHARED", pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED));
    bed_check("pthread_mutex_init", pthread_mutex_init(&process_shared_mutex, &attr));
    bed_check("pthread_mutex_lock", pthread_mutex_lock(&process_shared_mutex));
}

FRAME static void process_shared_mutex_acquire_forever(void) {
    pthread_mutex_lock(&process_shared_mutex);
    bed_came_back(__func__);
}

ENTRY(leak_process_shared_mutex, process_shared_mutex, process_shared_mutex_acquire_forever)

FRAME void spawn_process_shared_mutex(int count) {
    bed_hold(take_process_shared_mutex);
    SPAWN(leak_process_shared_mutex, count);
}
