/* Two threads that wait for good, of a name that is HTML. The test gives `evil` a name of that kind as well. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <unistd.h>

static pthread_mutex_t held = PTHREAD_MUTEX_INITIALIZER;

__attribute__((noipa)) void evil(void) {
    pthread_mutex_lock(&held);
    __asm__ volatile("");
}

static void *run(void *unused) {
    (void)unused;
    prctl(PR_SET_NAME, "<script>alert(1)</script>");
    evil();
    return NULL;
}

int main(void) {
    pthread_t thread;
    pthread_mutex_lock(&held);
    for (int i = 0; i < 2; i++)
        pthread_create(&thread, NULL, run, NULL);
    puts("ready");
    fflush(stdout);
    for (;;)
        sleep(3600);
}
