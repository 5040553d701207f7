/*
 * hostile MODE [ARGUMENT…]: a process that makes it as hard as it can to look at it. Says `ready`, or ends with 77
 * where the kernel does not have what it takes.
 *
 * stack: four threads wait for good on stacks that userfaultfd serves, and nobody answers it.
 * racing N: as `stack`, but the pages come and go all the time, and N threads more (1,000 at most) sleep for two
 *     seconds, again and again, with a timeout in such a page. Who is caught by a missing page sleeps for good.
 * guest LIBRARY: two threads wait for good in LIBRARY's `guest_wait`.
 * fuse LIBRARY FOLDER served|unread|unanswered|left: the same with LIBRARY on a FUSE file system at FOLDER (in a mount
 *     namespace of its own), whose server then goes on, stops to read requests, or reads but never answers them; `left`:
 *     stops, and is there for a minute, also when its process is no more.
 * churn: processes that fork, call exec, map and unmap code, start threads that wait, and die.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define FRAME __attribute__((noipa))
#define STACK (256 * 1024)
#define WAITERS 4
#define UNSUPPORTED 77

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void must(int fine, const char *what) {
    if (fine)
        return;
    int unsupported = errno == ENOSYS || errno == EPERM || errno == ENODEV || errno == ENOENT;
    fprintf(stderr, "hostile: %s: %s\n", what, strerror(errno));
    exit(unsupported ? UNSUPPORTED : 1);
}

static void pause_ms(long ms) {
    struct timespec time = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&time, NULL);
}

static void ready(void) {
    printf("ready\n");
    fflush(stdout);
}

FRAME void hostile_wait(void) {
    pthread_mutex_lock(&lock);
    abort();
}

static void *waiter(void *unused) {
    hostile_wait();
    return unused;
}

static pthread_t start(void *(*routine)(void *), void *argument, void *stack) {
    pthread_attr_t attributes;
    pthread_t thread;
    must(pthread_attr_init(&attributes) == 0, "attributes");
    if (stack)
        must(pthread_attr_setstack(&attributes, stack, STACK) == 0, "stack");
    else
        must(pthread_attr_setstacksize(&attributes, STACK) == 0, "stack");
    must(pthread_create(&thread, &attributes, routine, argument) == 0, "thread");
    return thread;
}

static void *pages(size_t length) {
    void *at = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    must(at != MAP_FAILED, "mmap");
    return at;
}

/* userfaultfd */

static int open_userfaultfd(void) {
    int fd = syscall(SYS_userfaultfd, O_CLOEXEC);
    must(fd >= 0, "userfaultfd");
    struct uffdio_api api = {.api = UFFD_API};
    must(ioctl(fd, UFFDIO_API, &api) == 0, "UFFDIO_API");
    return fd;
}

static void serve_by_nobody(int fd, void *at, size_t length) {
    struct uffdio_register region = {.range = {(unsigned long)at, length}, .mode = UFFDIO_REGISTER_MODE_MISSING};
    must(ioctl(fd, UFFDIO_REGISTER, &region) == 0, "UFFDIO_REGISTER");
    must(madvise(at, length, MADV_DONTNEED) == 0, "madvise");
}

static char *start_waiters(int fd) {
    char *stacks = pages(WAITERS * STACK);
    pthread_mutex_lock(&lock);
    for (int i = 0; i < WAITERS; i++)
        start(waiter, NULL, stacks + i * STACK);
    /* They sleep by now, and need their stacks no more. */
    pause_ms(500);
    serve_by_nobody(fd, stacks, WAITERS * STACK);
    return stacks;
}

/* A thread that sleeps again and again, each time with its timeout in a page of its own. */
struct sleeper {
    struct timespec *timeout;
    /* ms. From a moment later on until it wakes the page may be taken away: it is read at the beginning alone. */
    volatile long asleep_at;
};

static struct sleeper sleepers[1024];
static long sleeper_count;
static int race_fd;
static char *race_stack;
static size_t race_length;

static long now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static int is_asleep(const struct sleeper *sleeper, long now) {
    long at = sleeper->asleep_at;
    return at != 0 && now - at > 100 && now - at < 1800;
}

static void *sleeper(void *argument) {
    struct sleeper *self = argument;
    for (;;) {
        struct timespec second __attribute__((aligned(4096))) = {2, 0};
        madvise(self->timeout, 4096, MADV_DONTNEED);
        struct uffdio_copy copy = {.dst = (unsigned long)self->timeout, .src = (unsigned long)&second, .len = 4096};
        if (ioctl(race_fd, UFFDIO_COPY, &copy) != 0)
            continue;
        self->asleep_at = now_ms();
        syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, self->timeout, NULL);
        self->asleep_at = 0;
        pause_ms(100);
    }
    return NULL;
}

/* Pages come and go; who was caught is not woken. */
static void come(void *at, size_t length) {
    struct uffdio_zeropage zero = {.range = {(unsigned long)at, length}, .mode = UFFDIO_ZEROPAGE_MODE_DONTWAKE};
    ioctl(race_fd, UFFDIO_ZEROPAGE, &zero);
}

static void *race(void *unused) {
    for (;;) {
        long now = now_ms();
        come(race_stack, race_length);
        for (long i = 0; i < sleeper_count; i++)
            if (is_asleep(&sleepers[i], now))
                come(sleepers[i].timeout, 4096);
        madvise(race_stack, race_length, MADV_DONTNEED);
        for (long i = 0; i < sleeper_count; i++)
            if (is_asleep(&sleepers[i], now))
                madvise(sleepers[i].timeout, 4096, MADV_DONTNEED);
    }
    return unused;
}

static void racing(long count) {
    race_fd = open_userfaultfd();
    char *timeouts = pages(count * 4096);
    serve_by_nobody(race_fd, timeouts, count * 4096);
    sleeper_count = count;
    for (long i = 0; i < count; i++) {
        sleepers[i].timeout = (void *)(timeouts + i * 4096);
        start(sleeper, &sleepers[i], NULL);
    }
    /* The innermost frames: two pages below what glibc keeps at the end of a stack. */
    race_stack = start_waiters(race_fd) + STACK - 3 * 4096;
    race_length = 3 * 4096;
    start(race, NULL, NULL);
}

/* A library's frame */

static void (*guest_wait)(void);

FRAME static void *guest(void *unused) {
    guest_wait();
    return unused;
}

static void wait_in(const char *library) {
    void *handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);
    if (!handle) {
        fprintf(stderr, "hostile: %s\n", dlerror());
        exit(1);
    }
    guest_wait = (void (*)(void))dlsym(handle, "guest_wait");
    must(guest_wait != NULL, "guest_wait");
    start(guest, NULL, NULL);
    start(guest, NULL, NULL);
    pause_ms(300);
}

/* A file system of one file */

static char *content;
static size_t size;

static void fill_attributes(struct fuse_attr *attr, unsigned long node) {
    attr->ino = node;
    attr->mode = node == 1 ? S_IFDIR | 0755 : S_IFREG | 0755;
    attr->nlink = 1;
    attr->size = node == 1 ? 0 : size;
}

static void answer(int fd, unsigned long unique, int error, const void *body, size_t length) {
    static char buffer[1 << 18];
    struct fuse_out_header head = {.len = sizeof head + length, .error = -error, .unique = unique};
    memcpy(buffer, &head, sizeof head);
    memcpy(buffer + sizeof head, body, length);
    /* Who asked may be gone. */
    if (write(fd, buffer, head.len) < 0)
        return;
}

static void serve_one(int fd, char *request) {
    struct fuse_in_header *head = (void *)request;
    char *body = request + sizeof *head;
    switch (head->opcode) {
    case FUSE_INIT: {
        struct fuse_init_out out = {.major = 7, .minor = 31, .max_readahead = 1 << 16, .max_write = 1 << 16};
        return answer(fd, head->unique, 0, &out, sizeof out);
    }
    case FUSE_LOOKUP: {
        struct fuse_entry_out out = {.nodeid = 2};
        fill_attributes(&out.attr, 2);
        int error = strcmp(body, "libc.guest.so") == 0 ? 0 : ENOENT;
        return answer(fd, head->unique, error, &out, error ? 0 : sizeof out);
    }
    case FUSE_GETATTR: {
        struct fuse_attr_out out = {0};
        fill_attributes(&out.attr, head->nodeid);
        return answer(fd, head->unique, 0, &out, sizeof out);
    }
    case FUSE_OPEN:
    case FUSE_OPENDIR: {
        struct fuse_open_out out = {0};
        return answer(fd, head->unique, 0, &out, sizeof out);
    }
    case FUSE_READ: {
        struct fuse_read_in *in = (void *)body;
        size_t left = in->offset < size ? size - in->offset : 0;
        return answer(fd, head->unique, 0, content + in->offset, left < in->size ? left : in->size);
    }
    case FUSE_FORGET:
    case FUSE_BATCH_FORGET:
        return;
    case FUSE_FLUSH:
    case FUSE_RELEASE:
    case FUSE_RELEASEDIR:
        return answer(fd, head->unique, 0, NULL, 0);
    default:
        return answer(fd, head->unique, ENOSYS, NULL, 0);
    }
}

static volatile sig_atomic_t stopped;

static void stop(int signal) {
    stopped = signal;
}

static void serve(int fd, int answers_no_more, int outlives) {
    static char request[1 << 18];
    struct sigaction action = {.sa_handler = stop};
    if (outlives)
        alarm(60);
    else
        prctl(PR_SET_PDEATHSIG, SIGKILL);
    sigaction(SIGUSR1, &action, NULL);
    while (!stopped)
        if (read(fd, request, sizeof request) > 0)
            serve_one(fd, request);
    for (;;)
        if (!answers_no_more || read(fd, request, sizeof request) < 0)
            pause();
}

static void fuse(const char *library, const char *folder, const char *how) {
    FILE *file = fopen(library, "r");
    must(file != NULL, library);
    must(fseek(file, 0, SEEK_END) == 0, library);
    size = ftell(file);
    rewind(file);
    content = malloc(size);
    must(fread(content, 1, size, file) == size, library);
    fclose(file);
    must(unshare(CLONE_NEWNS) == 0, "unshare");
    must(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0, "private");
    int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
    must(fd >= 0, "/dev/fuse");
    char options[128], path[4096];
    snprintf(options, sizeof options, "fd=%d,rootmode=40000,user_id=0,group_id=0", fd);
    must(mount("hostile", folder, "fuse", 0, options) == 0, "mount");
    pid_t server = fork();
    must(server >= 0, "fork");
    if (server == 0)
        serve(fd, strcmp(how, "unanswered") == 0, strcmp(how, "left") == 0);
    close(fd);
    snprintf(path, sizeof path, "%s/libc.guest.so", folder);
    wait_in(path);
    if (strcmp(how, "served") != 0)
        kill(server, SIGUSR1);
    pause_ms(200);
}

/* Processes that come and go */

static void be_mortal(void) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    pthread_mutex_lock(&lock);
    for (int i = 0; i < 3; i++)
        start(waiter, NULL, NULL);
    for (int i = 0; i < 40; i++) {
        int fd = open("/proc/self/exe", O_RDONLY);
        void *code = mmap(NULL, 8192, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0);
        close(fd);
        munmap(code, 8192);
    }
}

static void churn(const char *own) {
    for (long round = 0; round < 1000; round++) {
        pid_t child = fork();
        must(child >= 0, "fork");
        if (child == 0) {
            be_mortal();
            pause_ms(round % 20);
            execl(own, own, "mortal", (char *)NULL);
            _exit(1);
        }
        pause_ms(10 + round % 15);
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
        if (round == 999) {
            printf("done\n");
            fflush(stdout);
        }
    }
}

int main(int argc, char **argv) {
    const char *mode = argc > 1 ? argv[1] : "";
    if (strcmp(mode, "stack") == 0) {
        start_waiters(open_userfaultfd());
    } else if (strcmp(mode, "racing") == 0) {
        racing(atol(argv[2]));
    } else if (strcmp(mode, "guest") == 0) {
        wait_in(argv[2]);
    } else if (strcmp(mode, "fuse") == 0) {
        fuse(argv[2], argv[3], argv[4]);
    } else if (strcmp(mode, "churn") == 0) {
        ready();
        churn(argv[0]);
    } else if (strcmp(mode, "mortal") == 0) {
        be_mortal();
        pause();
    } else {
        return 2;
    }
    ready();
    for (;;)
        pause();
}
