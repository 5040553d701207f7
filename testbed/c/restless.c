/*
 * What is harder to judge than a plain wait: timeouts of more than a day, waits that signals interrupt, waits
 * that end after all, threads that hand each other a token, and threads that compute and sleep in turn.
 */
#include "bed.h"

#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/select.h>

#define TWO_DAYS (48L * 3600)

static void sleep_ms(long ms) {
    struct timespec pause = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    while (nanosleep(&pause, &pause) == -1 && errno == EINTR)
        continue;
}

/* poll_25days, cond_2days, select_2days: a timeout of a day or more is none */
static int silent_fd;

FRAME static void poll_for_25_days(void) {
    struct pollfd silent = {.fd = silent_fd, .events = POLLIN};
    TEMP_FAILURE_RETRY(poll(&silent, 1, INT32_MAX));
    bed_came_back(__func__);
}

ENTRY(leak_poll_25days, poll_25days, poll_for_25_days)

FRAME void spawn_poll_25days(int count) {
    silent_fd = bed_silent_fd();
    SPAWN(leak_poll_25days, count);
}

static pthread_mutex_t cond_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;

FRAME static void cond_wait_for_two_days(void) {
    pthread_mutex_lock(&cond_lock);
    for (;;) {
        struct timespec until = bed_in(CLOCK_REALTIME, TWO_DAYS);
        pthread_cond_timedwait(&cond, &cond_lock, &until);
    }
}

ENTRY(leak_cond_2days, cond_2days, cond_wait_for_two_days)

FRAME void spawn_cond_2days(int count) { SPAWN(leak_cond_2days, count); }

FRAME static void select_for_two_days(void) {
    for (;;) {
        struct timeval timeout = {.tv_sec = TWO_DAYS, .tv_usec = 0};
        select(0, NULL, NULL, NULL, &timeout);
    }
}

ENTRY(leak_select_2days, select_2days, select_for_two_days)

FRAME void spawn_select_2days(int count) { SPAWN(leak_select_2days, count); }

/* mutex_signals, read_signals: the same wait throughout, interrupted every 50 ms by a handler */
struct crowd {
    int count;
    pthread_t *members;
};

static void handle_interruption(int signal) { (void)signal; }

static void *interrupt_crowd(void *arg) {
    const struct crowd *crowd = arg;
    bed_name_helper();
    for (;;) {
        sleep_ms(50);
        for (int i = 0; i < crowd->count; i++)
            pthread_kill(crowd->members[i], SIGUSR1);
    }
    return NULL;
}

/* Room for the threads of a scenario. SA_RESTART: the kernel takes up the interrupted call by itself. */
static struct crowd *make_crowd(int count) {
    struct sigaction action = {.sa_handler = handle_interruption, .sa_flags = SA_RESTART};
    struct crowd *crowd = malloc(sizeof *crowd);
    if (crowd == NULL || (crowd->members = calloc((size_t)count, sizeof *crowd->members)) == NULL ||
        sigaction(SIGUSR1, &action, NULL) == -1)
        bed_fail("preparing signals");
    crowd->count = count;
    bed_expect(count);
    return crowd;
}

static void start_interrupting(struct crowd *crowd) {
    pthread_t thread;
    bed_check("pthread_create", pthread_create(&thread, &bed_attr, interrupt_crowd, crowd));
}

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

static void take_mutex(void) { bed_check("mutex", pthread_mutex_lock(&mutex)); }

FRAME static void interrupted_mutex_acquire_forever(void) {
    pthread_mutex_lock(&mutex);
    bed_came_back(__func__);
}

ENTRY(leak_mutex_signals, mutex_signals, interrupted_mutex_acquire_forever)

FRAME void spawn_mutex_signals(int count) {
    bed_hold(take_mutex);
    struct crowd *crowd = make_crowd(count);
    for (int i = 0; i < count; i++)
        bed_check("pthread_create", pthread_create(&crowd->members[i], &bed_attr, leak_mutex_signals, NULL));
    start_interrupting(crowd);
}

FRAME static void interrupted_pipe_read_forever(void) {
    char byte;
    TEMP_FAILURE_RETRY(read(silent_fd, &byte, 1));
    bed_came_back(__func__);
}

ENTRY(leak_read_signals, read_signals, interrupted_pipe_read_forever)

FRAME void spawn_read_signals(int count) {
    silent_fd = bed_silent_fd();
    struct crowd *crowd = make_crowd(count);
    for (int i = 0; i < count; i++)
        bed_check("pthread_create", pthread_create(&crowd->members[i], &bed_attr, leak_read_signals, NULL));
    start_interrupting(crowd);
}

/* churn: waits that end, all at once, when SIGUSR2 comes from outside */
static pthread_mutex_t churn_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t churn_cond = PTHREAD_COND_INITIALIZER;
static bool churn_is_over;

/* main() has blocked SIGUSR2 everywhere, so it is fetched here and no handler runs. */
static void *end_churn_on_signal(void *unused) {
    (void)unused;
    sigset_t usr2;
    struct timespec hour = {.tv_sec = 3600, .tv_nsec = 0};
    bed_name_helper();
    sigemptyset(&usr2);
    sigaddset(&usr2, SIGUSR2);
    while (sigtimedwait(&usr2, NULL, &hour) != SIGUSR2)
        continue;
    pthread_mutex_lock(&churn_lock);
    churn_is_over = true;
    pthread_cond_broadcast(&churn_cond);
    pthread_mutex_unlock(&churn_lock);
    bed_sleep_forever();
}

FRAME static void churn_wait(void) {
    pthread_mutex_lock(&churn_lock);
    while (!churn_is_over)
        pthread_cond_wait(&churn_cond, &churn_lock);
    pthread_mutex_unlock(&churn_lock);
}

ENTRY(leak_churn, churn, churn_wait)

FRAME void spawn_churn(int count) {
    pthread_t helper;
    bed_check("pthread_create", pthread_create(&helper, &bed_attr, end_churn_on_signal, NULL));
    SPAWN(leak_churn, count);
}

/* ping_pong: pairs whose halves wait without a timeout, but never for much longer than 10 ms */
struct pair {
    pthread_mutex_t lock;
    pthread_cond_t turned;
    int turn;
};

struct player {
    struct pair *pair;
    int me;
};

FRAME static void pass_token(struct pair *pair, int me) {
    pthread_mutex_lock(&pair->lock);
    while (pair->turn != me)
        pthread_cond_wait(&pair->turned, &pair->lock);
    pthread_mutex_unlock(&pair->lock);
    sleep_ms(10);
    pthread_mutex_lock(&pair->lock);
    pair->turn = 1 - me;
    pthread_cond_signal(&pair->turned);
    pthread_mutex_unlock(&pair->lock);
}

FRAME static void *idle_ping_pong(void *arg) {
    struct player player = *(struct player *)arg;
    free(arg);
    bed_arrive("ping_pong");
    for (;;)
        pass_token(player.pair, player.me);
    return NULL;
}

FRAME void spawn_ping_pong(int count) {
    bed_expect(2 * count);
    for (int i = 0; i < count; i++) {
        struct pair *pair = calloc(1, sizeof *pair);
        if (pair == NULL)
            bed_fail("calloc");
        pthread_mutex_init(&pair->lock, NULL);
        pthread_cond_init(&pair->turned, NULL);
        for (int me = 0; me < 2; me++) {
            pthread_t thread;
            struct player *player = malloc(sizeof *player);
            if (player == NULL)
                bed_fail("malloc");
            *player = (struct player){.pair = pair, .me = me};
            bed_check("pthread_create", pthread_create(&thread, &bed_attr, idle_ping_pong, player));
        }
    }
}

/* burner: long on the CPU, then off it for a blink: the wait did not begin when the thread came on the CPU */
static atomic_uint burnt;

FRAME static void burn(long seconds) {
    struct timespec now, until = bed_in(CLOCK_MONOTONIC, seconds);
    do {
        for (int i = 0; i < 100000; i++)
            atomic_fetch_add_explicit(&burnt, 1, memory_order_relaxed);
        now = bed_in(CLOCK_MONOTONIC, 0);
    } while (now.tv_sec < until.tv_sec || (now.tv_sec == until.tv_sec && now.tv_nsec < until.tv_nsec));
}

FRAME static void burn_and_rest(void) {
    for (;;) {
        burn(3);
        sleep_ms(50);
    }
}

ENTRY(idle_burner, burner, burn_and_rest)

FRAME void spawn_burner(int count) { SPAWN(idle_burner, count); }
