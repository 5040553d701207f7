/*
 * blockers NAME=COUNT...: starts COUNT threads that block in the primitive NAME for good (or, for the healthy
 * scenarios, that only look like it), says `ready` when all of them are about to block, and then sleeps.
 */
#include "bed.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_COUNT 20000

static const struct scenario {
    const char *name;
    void (*spawn)(int count);
} scenarios[] = {
#define ROW(name) {#name, spawn_##name},
    SCENARIOS(ROW)
#undef ROW
};

enum { SCENARIO_COUNT = sizeof scenarios / sizeof scenarios[0] };

/* NAME=1, beside scenarios. */
static bool main_exits;
static const struct flag {
    const char *name;
    bool *is_set;
    const char *meaning;
} flags[] = {
    {"main_exits", &main_exits, "the main thread leaves by pthread_exit once it has said ready"},
    {"holders_read", &bed_holders_read, "helpers that hold a lock read from a silent pipe instead of sleeping"},
};

enum { FLAG_COUNT = sizeof flags / sizeof flags[0] };

__attribute__((noreturn)) static void usage(void) {
    fprintf(stderr, "usage: blockers NAME=COUNT...\n");
    for (int i = 0; i < SCENARIO_COUNT; i++)
        fprintf(stderr, "  %s\n", scenarios[i].name);
    for (int i = 0; i < FLAG_COUNT; i++)
        fprintf(stderr, "  %s (=1: %s)\n", flags[i].name, flags[i].meaning);
    exit(2);
}

__attribute__((noreturn)) static void refuse(const char *arg, const char *why) {
    fprintf(stderr, "blockers: `%s`: %s\n", arg, why);
    exit(2);
}

static int parse_count(const char *arg, const char *digits, int max) {
    char *end;
    errno = 0;
    long count = strtol(digits, &end, 10);
    if (*digits < '0' || *digits > '9' || *end != '\0' || errno != 0 || count < 1 || count > max)
        refuse(arg, "the count is not a number within bounds (1 to 20000, of a flag: 1)");
    return (int)count;
}

static bool is_called(const char *name, const char *arg, size_t length) {
    return strlen(name) == length && strncmp(name, arg, length) == 0;
}

static const struct flag *find_flag(const char *arg, size_t length) {
    for (int i = 0; i < FLAG_COUNT; i++)
        if (is_called(flags[i].name, arg, length))
            return &flags[i];
    return NULL;
}

static int find(const char *arg, size_t length) {
    for (int i = 0; i < SCENARIO_COUNT; i++)
        if (is_called(scenarios[i].name, arg, length))
            return i;
    refuse(arg, "no such scenario (without arguments the names are listed)");
}

int main(int argc, char **argv) {
    int counts[SCENARIO_COUNT] = {0};
    bool any = false;
    if (argc < 2)
        usage();
    for (int i = 1; i < argc; i++) {
        const char *equals = strchr(argv[i], '=');
        if (equals == NULL)
            refuse(argv[i], "not of the form NAME=COUNT");
        size_t length = (size_t)(equals - argv[i]);
        const struct flag *flag = find_flag(argv[i], length);
        if (flag != NULL) {
            *flag->is_set = parse_count(argv[i], equals + 1, 1) == 1;
            continue;
        }
        int scenario = find(argv[i], length);
        if (counts[scenario] != 0)
            refuse(argv[i], "named twice");
        counts[scenario] = parse_count(argv[i], equals + 1, MAX_COUNT);
        any = true;
    }
    if (!any)
        refuse(argv[1], "is a flag, and needs a scenario beside it");

    /* For churn's helper alone, which takes it up by sigtimedwait; all threads inherit this mask. */
    sigset_t usr2;
    sigemptyset(&usr2);
    sigaddset(&usr2, SIGUSR2);
    bed_check("pthread_sigmask", pthread_sigmask(SIG_BLOCK, &usr2, NULL));

    for (int i = 0; i < SCENARIO_COUNT; i++)
        if (counts[i] > 0)
            scenarios[i].spawn(counts[i]);
    bed_wait_for_arrivals();
    puts("ready");
    fflush(stdout);
    if (main_exits)
        pthread_exit(NULL);
    bed_sleep_forever();
}
