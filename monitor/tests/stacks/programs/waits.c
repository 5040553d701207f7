/*
 * waits NAME...: one thread for each NAME, that waits for ever. For C libraries that the testbed's programs are not
 * written for (musl).
 *
 * NAME has wait_NAME, which makes the call and has a frame of its own, and run_NAME, the thread's start routine.
 */
#define _GNU_SOURCE
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

/* Not inlined, not cloned, and no caller learns that it never returns. */
#define FRAME __attribute__((noipa))

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t cond_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
static pthread_barrier_t barrier;
static sem_t semaphore;
static pthread_t sleeper;
static int ends[2];
static int listener;

FRAME static void came_back(const char *function) {
    fprintf(stderr, "waits: %s came back\n", function);
    exit(3);
}

FRAME static void sleep_forever(void) {
    for (;;)
        sleep(3600);
}

/* A scenario: what it waits in, and the thread that does. */
#define SCENARIO(name, ...)                                                                                  \
    FRAME static void wait_##name(void) {                                                                    \
        __VA_ARGS__;                                                                                         \
        came_back(__func__);                                                                                 \
    }                                                                                                        \
    FRAME static void *run_##name(void *unused) {                                                            \
        prctl(PR_SET_NAME, #name);                                                                           \
        wait_##name();                                                                                       \
        return unused;                                                                                       \
    }

SCENARIO(mutex, pthread_mutex_lock(&mutex))
SCENARIO(cond, pthread_mutex_lock(&cond_lock); pthread_cond_wait(&cond, &cond_lock))
SCENARIO(rwlock_read, pthread_rwlock_rdlock(&rwlock))
SCENARIO(rwlock_write, pthread_rwlock_wrlock(&rwlock))
SCENARIO(semaphore, sem_wait(&semaphore))
SCENARIO(join, pthread_join(sleeper, NULL))
SCENARIO(barrier, pthread_barrier_wait(&barrier))
SCENARIO(read, char byte; (void)!read(ends[0], &byte, 1))
SCENARIO(recv, char byte; recv(listener, &byte, 1, 0))
SCENARIO(poll, struct pollfd fd = {.fd = ends[0], .events = POLLIN}; poll(&fd, 1, -1))
SCENARIO(epoll, struct epoll_event event; epoll_wait(epoll_create1(0), &event, 1, -1))
SCENARIO(pause, pause())
SCENARIO(sigwait, sigset_t set; int signal; sigemptyset(&set); sigaddset(&set, SIGUSR2); sigwait(&set, &signal))
SCENARIO(sleep, sleep_forever())

/* A signal handler that does not return. The thread it interrupts waits, too. */
FRAME static void handle_forever(int signal) {
    (void)signal;
    pthread_mutex_lock(&mutex);
    came_back(__func__);
}

SCENARIO(handler, pause())

static const struct {
    const char *name;
    void *(*run)(void *);
} scenarios[] = {
    {"mutex", run_mutex},   {"cond", run_cond},       {"rwlock_read", run_rwlock_read},
    {"rwlock_write", run_rwlock_write},               {"semaphore", run_semaphore},
    {"join", run_join},     {"barrier", run_barrier}, {"read", run_read},
    {"recv", run_recv},     {"poll", run_poll},       {"epoll", run_epoll},
    {"pause", run_pause},   {"sigwait", run_sigwait}, {"sleep", run_sleep},
    {"handler", run_handler},
};

static void *hold(void *unused) {
    prctl(PR_SET_NAME, "helper");
    pthread_mutex_lock(&mutex);
    pthread_rwlock_wrlock(&rwlock);
    sleep_forever();
    return unused;
}

int main(int argc, char **argv) {
    int pair[2];
    if (pipe(ends) != 0 || socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0 || sem_init(&semaphore, 0, 0) != 0 ||
        pthread_barrier_init(&barrier, NULL, 1000) != 0 || pthread_create(&sleeper, NULL, hold, NULL) != 0)
        return 1;
    listener = pair[0];
    signal(SIGUSR1, handle_forever);
    sleep(1);
    for (int i = 1; i < argc; i++) {
        pthread_t thread;
        size_t at = 0;
        while (strcmp(argv[i], scenarios[at].name) != 0)
            if (++at == sizeof scenarios / sizeof scenarios[0])
                return 2;
        if (pthread_create(&thread, NULL, scenarios[at].run, NULL) != 0)
            return 1;
        if (strcmp(argv[i], "handler") == 0) {
            usleep(300 * 1000);
            pthread_kill(thread, SIGUSR1);
        }
    }
    puts("ready");
    fflush(stdout);
    sleep_forever();
}
