/* Healthy waits: each has a timeout far below a day (and waits again after it), so none is ever blocked. */
#include "bed.h"

#include <linux/futex.h>
#include <poll.h>
#include <semaphore.h>
#include <signal.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/syscall.h>

/* timed_cond, cond_2h */
static pthread_mutex_t cond_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;

FRAME static void timed_cond_wait(void) {
    pthread_mutex_lock(&cond_lock);
    for (;;) {
        struct timespec until = bed_in(CLOCK_REALTIME, HEALTHY_SECONDS);
        pthread_cond_timedwait(&cond, &cond_lock, &until);
    }
}

ENTRY(idle_timed_cond, timed_cond, timed_cond_wait)

FRAME void spawn_timed_cond(int count) { SPAWN(idle_timed_cond, count); }

FRAME static void cond_wait_two_hours(void) {
    pthread_mutex_lock(&cond_lock);
    for (;;) {
        struct timespec until = bed_in(CLOCK_REALTIME, 2 * 3600);
        pthread_cond_timedwait(&cond, &cond_lock, &until);
    }
}

ENTRY(idle_cond_2h, cond_2h, cond_wait_two_hours)

FRAME void spawn_cond_2h(int count) { SPAWN(idle_cond_2h, count); }

/* timed_mutex */
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

static void take_mutex(void) { bed_check("mutex", pthread_mutex_lock(&mutex)); }

FRAME static void timed_mutex_acquire(void) {
    for (;;) {
        struct timespec until = bed_in(CLOCK_REALTIME, HEALTHY_SECONDS);
        pthread_mutex_timedlock(&mutex, &until);
    }
}

ENTRY(idle_timed_mutex, timed_mutex, timed_mutex_acquire)

FRAME void spawn_timed_mutex(int count) {
    bed_hold(take_mutex);
    SPAWN(idle_timed_mutex, count);
}

/* timed_semaphore */
static sem_t semaphore;

FRAME static void timed_semaphore_wait(void) {
    for (;;) {
        struct timespec until = bed_in(CLOCK_REALTIME, HEALTHY_SECONDS);
        sem_timedwait(&semaphore, &until);
    }
}

ENTRY(idle_timed_semaphore, timed_semaphore, timed_semaphore_wait)

FRAME void spawn_timed_semaphore(int count) {
    sem_init(&semaphore, 0, 0);
    SPAWN(idle_timed_semaphore, count);
}

/* timed_poll, timed_epoll, timed_select */
static int silent_fd, epoll_fd;

FRAME static void timed_poll_wait(void) {
    struct pollfd silent = {.fd = silent_fd, .events = POLLIN};
    for (;;)
        poll(&silent, 1, HEALTHY_SECONDS * 1000);
}

ENTRY(idle_timed_poll, timed_poll, timed_poll_wait)

FRAME void spawn_timed_poll(int count) {
    silent_fd = bed_silent_fd();
    SPAWN(idle_timed_poll, count);
}

FRAME static void timed_epoll_wait(void) {
    struct epoll_event event;
    for (;;)
        epoll_wait(epoll_fd, &event, 1, HEALTHY_SECONDS * 1000);
}

ENTRY(idle_timed_epoll, timed_epoll, timed_epoll_wait)

FRAME void spawn_timed_epoll(int count) {
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (epoll_fd == -1)
        bed_fail("epoll_create1");
    SPAWN(idle_timed_epoll, count);
}

FRAME static void timed_select_wait(void) {
    for (;;) {
        struct timeval timeout = {.tv_sec = HEALTHY_SECONDS, .tv_usec = 0};
        select(0, NULL, NULL, NULL, &timeout);
    }
}

ENTRY(idle_timed_select, timed_select, timed_select_wait)

FRAME void spawn_timed_select(int count) { SPAWN(idle_timed_select, count); }

/* timed_sigwait */
FRAME static void timed_signal_wait(const sigset_t *set) {
    struct timespec timeout = {.tv_sec = HEALTHY_SECONDS, .tv_nsec = 0};
    for (;;)
        sigtimedwait(set, NULL, &timeout);
}

FRAME static void *idle_timed_sigwait(void *unused) {
    (void)unused;
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN + 5);
    bed_check("pthread_sigmask", pthread_sigmask(SIG_BLOCK, &set, NULL));
    bed_arrive("timed_sigwait");
    timed_signal_wait(&set);
    return NULL;
}

FRAME void spawn_timed_sigwait(int count) { SPAWN(idle_timed_sigwait, count); }

/* timed_futex: the relative timeout of FUTEX_WAIT, as no library does it any more */
static uint32_t never_changed;

FRAME static void timed_futex_wait(void) {
    struct timespec timeout = {.tv_sec = HEALTHY_SECONDS, .tv_nsec = 0};
    for (;;)
        syscall(SYS_futex, &never_changed, FUTEX_WAIT_PRIVATE, 0, &timeout, NULL, 0);
}

ENTRY(idle_timed_futex, timed_futex, timed_futex_wait)

FRAME void spawn_timed_futex(int count) { SPAWN(idle_timed_futex, count); }

/* sleep */
ENTRY(idle_sleep, sleep, bed_sleep_forever)

FRAME void spawn_sleep(int count) { SPAWN(idle_sleep, count); }
