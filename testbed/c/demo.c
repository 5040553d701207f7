/*
 * demo: a small job server with a leak. Its pool of four workers idles, as pools do, and that is fine. Each
 * second it takes on a request, and the thread that handles it waits for a reply that nobody ever sends: one
 * leaked thread a second, until 3,000 are there.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#define POOL_WORKERS 4
#define MAX_REQUESTS 3000

/* Keeps the functions that a stack is to show apart. */
#define FRAME __attribute__((noipa))

struct request {
    int id;
    bool replied;
    pthread_mutex_t lock;
    pthread_cond_t reply;
};

static pthread_mutex_t queue_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t queue_filled = PTHREAD_COND_INITIALIZER;
static int queued_jobs;

static void check_started(int error, const char *what) {
    if (error != 0) {
        fprintf(stderr, "demo: cannot start a thread for %s: %s\n", what, strerror(error));
        exit(1);
    }
}

FRAME static void next_job(void) {
    pthread_mutex_lock(&queue_lock);
    while (queued_jobs == 0)
        pthread_cond_wait(&queue_filled, &queue_lock);
    queued_jobs--;
    pthread_mutex_unlock(&queue_lock);
}

FRAME static void *pool_worker(void *unused) {
    (void)unused;
    prctl(PR_SET_NAME, "pool-worker");
    for (;;)
        next_job();
    return NULL;
}

FRAME static void start_pool(const pthread_attr_t *attr) {
    for (int i = 0; i < POOL_WORKERS; i++) {
        pthread_t worker;
        check_started(pthread_create(&worker, attr, pool_worker, NULL), "the pool");
    }
}

FRAME static void wait_for_reply(struct request *request) {
    pthread_mutex_lock(&request->lock);
    while (!request->replied)
        pthread_cond_wait(&request->reply, &request->lock);
    pthread_mutex_unlock(&request->lock);
}

FRAME static void *handle_request(void *arg) {
    struct request *request = arg;
    char name[16];
    snprintf(name, sizeof name, "request-%d", request->id);
    prctl(PR_SET_NAME, name);
    wait_for_reply(request); /* the bug: whoever should reply was never asked */
    pthread_cond_destroy(&request->reply);
    pthread_mutex_destroy(&request->lock);
    free(request);
    return NULL;
}

FRAME static void accept_request(const pthread_attr_t *attr, int id) {
    struct request *request = calloc(1, sizeof *request);
    if (request == NULL) {
        perror("demo: no memory for a request");
        exit(1);
    }
    request->id = id;
    pthread_mutex_init(&request->lock, NULL);
    pthread_cond_init(&request->reply, NULL);
    pthread_t handler;
    check_started(pthread_create(&handler, attr, handle_request, request), "a request");
}

FRAME static void serve_requests(const pthread_attr_t *attr) {
    for (int id = 1; id <= MAX_REQUESTS; id++) {
        sleep(1);
        accept_request(attr, id);
    }
}

int main(void) {
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attr, 256 * 1024);
    fprintf(stderr,
            "demo (pid %d): a job server that leaks one thread a second (handle_request, up to %d) beside %d "
            "idle pool workers that are fine\n",
            (int)getpid(), MAX_REQUESTS, POOL_WORKERS);
    start_pool(&attr);
    puts("ready");
    fflush(stdout);
    serve_requests(&attr);
    for (;;)
        sleep(3600);
}
