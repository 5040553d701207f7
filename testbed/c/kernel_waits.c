/* Internal waits, second half: in the kernel, though only the program itself could end them. */
#include "bed.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <linux/userfaultfd.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/sem.h>
#include <sys/syscall.h>

/* The numbers, the same on all architectures, for headers that are older than the calls. */
#ifndef SYS_futex_waitv
#define SYS_futex_waitv 449
#endif
#ifndef SYS_futex_wait
#define SYS_futex_wait 455
#endif
#define FUTEX_32_PRIVATE (0x02 | FUTEX_PRIVATE_FLAG)

static uint32_t never_changed;

/* futex_waitv */
FRAME static void futex_waitv_forever(void) {
    struct futex_waitv waiter = {.val = 0, .uaddr = (uintptr_t)&never_changed, .flags = FUTEX_32_PRIVATE};
    TEMP_FAILURE_RETRY(syscall(SYS_futex_waitv, &waiter, 1, 0, NULL, CLOCK_MONOTONIC));
    bed_came_back(__func__);
}

ENTRY(leak_futex_waitv, futex_waitv, futex_waitv_forever)

FRAME void spawn_futex_waitv(int count) {
    /* No waiter at all: EINVAL where the call is to be had, ENOSYS or EPERM where it is not. */
    if (syscall(SYS_futex_waitv, NULL, 0, 0, NULL, 0) == -1 && errno != EINVAL)
        bed_unsupported("futex_waitv");
    SPAWN(leak_futex_waitv, count);
}

/* futex_wait2: the call is named futex_wait; the 2 tells it from the operation of futex */
FRAME static void futex_wait2_forever(void) {
    TEMP_FAILURE_RETRY(syscall(SYS_futex_wait, &never_changed, 0UL, (unsigned long)FUTEX_BITSET_MATCH_ANY,
                               FUTEX_32_PRIVATE, NULL, CLOCK_MONOTONIC));
    bed_came_back(__func__);
}

ENTRY(leak_futex_wait2, futex_wait2, futex_wait2_forever)

FRAME void spawn_futex_wait2(int count) {
    /* No bit to wait for: the same. */
    if (syscall(SYS_futex_wait, NULL, 0UL, 0UL, 0, NULL, 0) == -1 && errno != EINVAL)
        bed_unsupported("futex_wait (455)");
    SPAWN(leak_futex_wait2, count);
}

/* flock, fcntl_lock: through one open file description of a file that is locked through another */
static int open_locked_twice(int *locked) {
    char path[] = "/tmp/testbed-lock-XXXXXX";
    *locked = mkostemp(path, O_CLOEXEC);
    if (*locked == -1)
        bed_fail(path);
    int other = open(path, O_RDWR | O_CLOEXEC);
    if (other == -1)
        bed_fail(path);
    unlink(path);
    return other;
}

static int flock_fd, fcntl_fd;

FRAME static void flock_forever(void) {
    TEMP_FAILURE_RETRY(flock(flock_fd, LOCK_EX));
    bed_came_back(__func__);
}

ENTRY(leak_flock, flock, flock_forever)

FRAME void spawn_flock(int count) {
    int locked;
    flock_fd = open_locked_twice(&locked);
    if (flock(locked, LOCK_EX) == -1)
        bed_fail("flock");
    SPAWN(leak_flock, count);
}

/* A lock of the open file description: a lock of the process would not keep its own threads out. */
FRAME static void fcntl_lock_forever(void) {
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    TEMP_FAILURE_RETRY(fcntl(fcntl_fd, F_OFD_SETLKW, &whole));
    bed_came_back(__func__);
}

ENTRY(leak_fcntl_lock, fcntl_lock, fcntl_lock_forever)

FRAME void spawn_fcntl_lock(int count) {
    int locked;
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    fcntl_fd = open_locked_twice(&locked);
    if (fcntl(locked, F_OFD_SETLK, &whole) == -1)
        bed_fail("F_OFD_SETLK");
    SPAWN(leak_fcntl_lock, count);
}

/* semop */
static int semaphore_set = -1;

static void remove_semaphore_set(void) { semctl(semaphore_set, 0, IPC_RMID); }

FRAME static void semop_forever(void) {
    struct sembuf down = {.sem_num = 0, .sem_op = -1, .sem_flg = 0};
    TEMP_FAILURE_RETRY(semop(semaphore_set, &down, 1));
    bed_came_back(__func__);
}

ENTRY(leak_semop, semop, semop_forever)

FRAME void spawn_semop(int count) {
    bed_private_ipc();
    semaphore_set = semget(IPC_PRIVATE, 1, 0600);
    if (semaphore_set == -1)
        bed_fail("semget");
    bed_at_end(remove_semaphore_set);
    SPAWN(leak_semop, count);
}

/* vfork: the child borrows its parent's memory, so the parent's thread waits until the child is gone */
__attribute__((noreturn)) static void sleep_as_vfork_child(void) {
    struct timespec hour = {.tv_sec = 3600, .tv_nsec = 0};
    syscall(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    for (;;)
        syscall(SYS_nanosleep, &hour, NULL);
}

FRAME static void vfork_forever(void) {
    pid_t child = vfork();
    if (child == 0)
        sleep_as_vfork_child();
    bed_came_back(__func__);
}

ENTRY(leak_vfork, vfork, vfork_forever)

FRAME void spawn_vfork(int count) { SPAWN(leak_vfork, count); }

/* userfault: a page that someone has promised to fill in, and never does */
static volatile char *unserved_page;

FRAME static void userfault_read_forever(void) {
    (void)unserved_page[0];
    bed_came_back(__func__);
}

ENTRY(leak_userfault, userfault, userfault_read_forever)

FRAME void spawn_userfault(int count) {
    size_t length = (size_t)sysconf(_SC_PAGESIZE);
    /* With the kernel's own faults if permitted: then a foreign reader of this page hangs as well. */
    long fd = syscall(SYS_userfaultfd, O_CLOEXEC);
    if (fd == -1)
        fd = syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);
    if (fd == -1)
        bed_unsupported("userfaultfd");
    struct uffdio_api api = {.api = UFFD_API, .features = 0};
    if (ioctl((int)fd, UFFDIO_API, &api) == -1)
        bed_unsupported("UFFDIO_API");
    void *page = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED)
        bed_fail("mmap");
    struct uffdio_register missing = {
        .range = {.start = (uintptr_t)page, .len = length},
        .mode = UFFDIO_REGISTER_MODE_MISSING,
    };
    if (ioctl((int)fd, UFFDIO_REGISTER, &missing) == -1)
        bed_fail("UFFDIO_REGISTER");
    unserved_page = page;
    SPAWN(leak_userfault, count);
}
