/* The shared part of the blockers: see bed.h. */
#include "bed.h"

#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>

pthread_attr_t bed_attr;
bool bed_holders_read;

static atomic_int awaited;
static atomic_bool ending;

__attribute__((constructor)) static void make_attributes(void) {
    pthread_attr_init(&bed_attr);
    pthread_attr_setdetachstate(&bed_attr, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&bed_attr, 256 * 1024);
}

/* Not a wait on a lock: whoever waits here must not look blocked itself. */
static void look_again_soon(void) { usleep(1000); }

void bed_expect(int count) { atomic_fetch_add(&awaited, count); }

void bed_wait_for_arrivals(void) {
    while (atomic_load(&awaited) > 0)
        look_again_soon();
}

void bed_arrive(const char *name) {
    prctl(PR_SET_NAME, name); /* the kernel keeps the first 15 characters */
    atomic_fetch_sub(&awaited, 1);
}

void bed_name_helper(void) { prctl(PR_SET_NAME, "helper"); }

void bed_sleep_forever(void) {
    for (;;)
        sleep(3600);
}

struct holding {
    void (*take)(void);
    int silent_fd; /* to be read from when it is taken; −1: none */
    atomic_bool taken;
};

FRAME static void read_forever(int silent_fd) {
    char byte;
    TEMP_FAILURE_RETRY(read(silent_fd, &byte, 1));
    bed_came_back(__func__);
}

static void *hold(void *arg) {
    struct holding *holding = arg;
    int silent_fd = holding->silent_fd;
    bed_name_helper();
    holding->take();
    atomic_store(&holding->taken, true); /* the caller's frame is gone from here on */
    if (silent_fd != -1)
        read_forever(silent_fd);
    bed_sleep_forever();
}

void bed_hold(void (*take)(void)) {
    int silent_fd = bed_holders_read ? bed_silent_fd() : -1;
    struct holding holding = {.take = take, .silent_fd = silent_fd, .taken = false};
    pthread_t thread;
    bed_check("pthread_create", pthread_create(&thread, &bed_attr, hold, &holding));
    while (!atomic_load(&holding.taken))
        look_again_soon();
}

pid_t bed_fork_sleeper(void) {
    pid_t child = fork();
    if (child == -1)
        bed_fail("fork");
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        bed_name_helper();
        bed_sleep_forever();
    }
    return child;
}

int bed_silent_fd(void) {
    static int ends[2] = {-1, -1}; /* spawn functions run one after the other, in the main thread */
    if (ends[0] == -1 && pipe(ends) == -1)
        bed_fail("pipe");
    return ends[0];
}

struct timespec bed_in(clockid_t clock, long seconds) {
    struct timespec at;
    if (clock_gettime(clock, &at) == -1)
        bed_fail("clock_gettime");
    at.tv_sec += seconds;
    return at;
}

void bed_private_ipc(void) {
    static bool tried;
    if (!tried)
        (void)unshare(CLONE_NEWIPC); /* not permitted: the objects are still removed on exit and SIGTERM */
    tried = true;
}

static void (*cleaners[4])(void);
static int cleaner_count;

static void clean_up(void) {
    atomic_store(&ending, true); /* what waits on the removed objects comes back, and may */
    for (int i = 0; i < cleaner_count; i++)
        cleaners[i]();
}

static void clean_up_and_die(int signal) {
    clean_up();
    raise(signal); /* SA_RESETHAND: this time it kills, as soon as the handler has returned */
}

void bed_at_end(void (*clean)(void)) {
    if (cleaner_count == 0) {
        struct sigaction action = {.sa_handler = clean_up_and_die, .sa_flags = (int)SA_RESETHAND};
        if (atexit(clean_up) != 0 || sigaction(SIGTERM, &action, NULL) == -1)
            bed_fail("clean-up at the end");
    }
    if (cleaner_count == sizeof cleaners / sizeof cleaners[0])
        bed_fail("more to clean up than there is room for");
    cleaners[cleaner_count++] = clean;
}

void bed_fail(const char *what) {
    fprintf(stderr, "blockers: %s: %m\n", what);
    exit(1);
}

void bed_unsupported(const char *what) {
    fprintf(stderr, "blockers: %s is not to be had here: %m\n", what);
    exit(77);
}

void bed_came_back(const char *function) {
    if (atomic_load(&ending))
        bed_sleep_forever();
    fprintf(stderr, "blockers: %s came back, though nothing should have woken it: %m\n", function);
    exit(3);
}
