/*
 * odd: threads with frames that are not those of plain calls. Says `ready`, and sleeps.
 *
 * handler: waits in a signal handler. other_stack: the same on a stack of its own. aligned: in a function that aligns
 * its stack, so that it is found through memory. deep: 60 calls of one function within another.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#define FRAME __attribute__((noipa))

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

FRAME static void came_back(void) {
    fprintf(stderr, "odd: came back\n");
    exit(3);
}

FRAME static void wait_in_handler(int signal) {
    (void)signal;
    pthread_mutex_lock(&mutex);
    came_back();
}

FRAME static void wait_on_other_stack(int signal) {
    (void)signal;
    pthread_mutex_lock(&mutex);
    came_back();
}

/* More than the stack's own alignment, and a size that is known at run time only: found through %rbp. */
FRAME static void wait_aligned(size_t size, char *copy) {
    char buffer[size];
    char __attribute__((aligned(64))) line[64];
    memset(buffer, 1, size);
    memset(line, 2, sizeof line);
    copy[0] = buffer[size / 2] + line[size % 64];
    pthread_mutex_lock(&mutex);
    copy[1] = buffer[size / 3] + line[size % 63];
    came_back();
}

FRAME static int descend(int depth) {
    if (depth == 0) {
        pthread_mutex_lock(&mutex);
        came_back();
    }
    return descend(depth - 1) * 3 + getpid();
}

static void *run_handler(void *unused) {
    prctl(PR_SET_NAME, "handler");
    for (;;)
        pause();
    return unused;
}

static void *run_other_stack(void *unused) {
    stack_t stack = {.ss_sp = malloc(64 * 1024), .ss_size = 64 * 1024};
    prctl(PR_SET_NAME, "other_stack");
    sigaltstack(&stack, NULL);
    for (;;)
        pause();
    return unused;
}

static void *run_aligned(void *unused) {
    char copy[2];
    prctl(PR_SET_NAME, "aligned");
    wait_aligned(100 + (size_t)getpid() % 7, copy);
    puts(copy);
    return unused;
}

static void *run_deep(void *unused) {
    prctl(PR_SET_NAME, "deep");
    printf("%d\n", descend(60));
    return unused;
}

int main(void) {
    pthread_t handler, other_stack, thread;
    struct sigaction on_stack = {.sa_handler = wait_in_handler};
    struct sigaction on_other = {.sa_handler = wait_on_other_stack, .sa_flags = SA_ONSTACK};
    pthread_mutex_lock(&mutex);
    sigaction(SIGUSR1, &on_stack, NULL);
    sigaction(SIGUSR2, &on_other, NULL);
    pthread_create(&handler, NULL, run_handler, NULL);
    pthread_create(&other_stack, NULL, run_other_stack, NULL);
    pthread_create(&thread, NULL, run_aligned, NULL);
    pthread_create(&thread, NULL, run_deep, NULL);
    usleep(300 * 1000);
    pthread_kill(handler, SIGUSR1);
    pthread_kill(other_stack, SIGUSR2);
    puts("ready");
    fflush(stdout);
    for (;;)
        sleep(3600);
}
