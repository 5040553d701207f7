/* External waits for other processes, for messages and for signals. */
#include "bed.h"

#include <fcntl.h>
#include <mqueue.h>
#include <signal.h>
#include <stdio.h>
#include <sys/msg.h>
#include <sys/wait.h>

/* waitpid, waitid: each thread for a child of its own, which it makes itself (the child dies with it) */
FRAME static void waitpid_forever(pid_t child) {
    TEMP_FAILURE_RETRY(waitpid(child, NULL, 0));
    bed_came_back(__func__);
}

FRAME static void *leak_waitpid(void *unused) {
    (void)unused;
    pid_t child = bed_fork_sleeper();
    bed_arrive("waitpid");
    waitpid_forever(child);
    return NULL;
}

FRAME void spawn_waitpid(int count) { SPAWN(leak_waitpid, count); }

FRAME static void waitid_forever(pid_t child) {
    siginfo_t info;
    TEMP_FAILURE_RETRY(waitid(P_PID, (id_t)child, &info, WEXITED));
    bed_came_back(__func__);
}

FRAME static void *leak_waitid(void *unused) {
    (void)unused;
    pid_t child = bed_fork_sleeper();
    bed_arrive("waitid");
    waitid_forever(child);
    return NULL;
}

FRAME void spawn_waitid(int count) { SPAWN(leak_waitid, count); }

/* msgrcv */
static int message_queue = -1;

static void remove_message_queue(void) { msgctl(message_queue, IPC_RMID, NULL); }

FRAME static void msgrcv_forever(void) {
    struct {
        long type;
        char text[8];
    } message;
    TEMP_FAILURE_RETRY(msgrcv(message_queue, &message, sizeof message.text, 0, 0));
    bed_came_back(__func__);
}

ENTRY(leak_msgrcv, msgrcv, msgrcv_forever)

FRAME void spawn_msgrcv(int count) {
    bed_private_ipc();
    message_queue = msgget(IPC_PRIVATE, 0600);
    if (message_queue == -1)
        bed_fail("msgget");
    bed_at_end(remove_message_queue);
    SPAWN(leak_msgrcv, count);
}

/* mq_receive */
static mqd_t posix_queue;

FRAME static void mq_receive_forever(void) {
    char message[64];
    TEMP_FAILURE_RETRY(mq_receive(posix_queue, message, sizeof message, NULL));
    bed_came_back(__func__);
}

ENTRY(leak_mq_receive, mq_receive, mq_receive_forever)

FRAME void spawn_mq_receive(int count) {
    struct mq_attr small = {.mq_maxmsg = 1, .mq_msgsize = 64};
    char name[64];
    snprintf(name, sizeof name, "/testbed-%d", (int)getpid());
    posix_queue = mq_open(name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600, &small);
    if (posix_queue == (mqd_t)-1 && errno == ENOSYS)
        bed_unsupported("mq_open");
    if (posix_queue == (mqd_t)-1)
        bed_fail("mq_open");
    mq_unlink(name); /* at once: it is gone with its last descriptor */
    SPAWN(leak_mq_receive, count);
}

/* pause: no handler is installed, so nothing that does not kill makes it return */
FRAME static void pause_forever(void) {
    for (;;)
        pause();
}

ENTRY(leak_pause, pause, pause_forever)

FRAME void spawn_pause(int count) { SPAWN(leak_pause, count); }

/* sigwait: for a signal that nobody sends and that nobody else would notice */
static sigset_t unsent_signal(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN + 5);
    return set;
}

FRAME static void sigwait_forever(void) {
    sigset_t set = unsent_signal();
    TEMP_FAILURE_RETRY(sigwaitinfo(&set, NULL));
    bed_came_back(__func__);
}

FRAME static void *leak_sigwait(void *unused) {
    (void)unused;
    sigset_t set = unsent_signal();
    bed_check("pthread_sigmask", pthread_sigmask(SIG_BLOCK, &set, NULL));
    bed_arrive("sigwait");
    sigwait_forever();
    return NULL;
}

FRAME void spawn_sigwait(int count) { SPAWN(leak_sigwait, count); }

/* sigsuspend */
FRAME static void sigsuspend_forever(void) {
    sigset_t mask;
    bed_check("pthread_sigmask", pthread_sigmask(SIG_BLOCK, NULL, &mask));
    for (;;)
        sigsuspend(&mask);
}

ENTRY(leak_sigsuspend, sigsuspend, sigsuspend_forever)

FRAME void spawn_sigsuspend(int count) { SPAWN(leak_sigsuspend, count); }
