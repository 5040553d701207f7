/* External waits on descriptors: nothing that this program does could end them. */
#include "bed.h"

#include <linux/io_uring.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/syscall.h>

static int silent_fd;

/* read: of a pipe */
FRAME static void pipe_read_forever(void) {
    char byte;
    TEMP_FAILURE_RETRY(read(silent_fd, &byte, 1));
    bed_came_back(__func__);
}

ENTRY(leak_read, read, pipe_read_forever)

FRAME void spawn_read(int count) {
    silent_fd = bed_silent_fd();
    SPAWN(leak_read, count);
}

/* socket_read */
static int silent_socket;

FRAME static void socket_recv_forever(void) {
    char byte;
    TEMP_FAILURE_RETRY(recv(silent_socket, &byte, 1, 0));
    bed_came_back(__func__);
}

ENTRY(leak_socket_read, socket_read, socket_recv_forever)

FRAME void spawn_socket_read(int count) {
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == -1)
        bed_fail("socketpair");
    silent_socket = ends[0];
    SPAWN(leak_socket_read, count);
}

/* poll, ppoll */
FRAME static void poll_forever(void) {
    struct pollfd silent = {.fd = silent_fd, .events = POLLIN};
    TEMP_FAILURE_RETRY(poll(&silent, 1, -1));
    bed_came_back(__func__);
}

ENTRY(leak_poll, poll, poll_forever)

FRAME void spawn_poll(int count) {
    silent_fd = bed_silent_fd();
    SPAWN(leak_poll, count);
}

FRAME static void ppoll_forever(void) {
    struct pollfd silent = {.fd = silent_fd, .events = POLLIN};
    TEMP_FAILURE_RETRY(ppoll(&silent, 1, NULL, NULL));
    bed_came_back(__func__);
}

ENTRY(leak_ppoll, ppoll, ppoll_forever)

FRAME void spawn_ppoll(int count) {
    silent_fd = bed_silent_fd();
    SPAWN(leak_ppoll, count);
}

/* select, pselect: the set is of no interest after an interruption, so it is made anew each time */
FRAME static void select_forever(void) {
    fd_set reads;
    do {
        FD_ZERO(&reads);
        FD_SET(silent_fd, &reads);
    } while (select(silent_fd + 1, &reads, NULL, NULL, NULL) == -1 && errno == EINTR);
    bed_came_back(__func__);
}

ENTRY(leak_select, select, select_forever)

FRAME void spawn_select(int count) {
    silent_fd = bed_silent_fd();
    SPAWN(leak_select, count);
}

FRAME static void pselect_forever(void) {
    fd_set reads;
    do {
        FD_ZERO(&reads);
        FD_SET(silent_fd, &reads);
    } while (pselect(silent_fd + 1, &reads, NULL, NULL, NULL, NULL) == -1 && errno == EINTR);
    bed_came_back(__func__);
}

ENTRY(leak_pselect, pselect, pselect_forever)

FRAME void spawn_pselect(int count) {
    silent_fd = bed_silent_fd();
    SPAWN(leak_pselect, count);
}

/* epoll_wait */
static int epoll_fd;

FRAME static void epoll_wait_forever(void) {
    struct epoll_event event;
    TEMP_FAILURE_RETRY(epoll_wait(epoll_fd, &event, 1, -1));
    bed_came_back(__func__);
}

ENTRY(leak_epoll_wait, epoll_wait, epoll_wait_forever)

FRAME void spawn_epoll_wait(int count) {
    struct epoll_event readable = {.events = EPOLLIN};
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (epoll_fd == -1 || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, bed_silent_fd(), &readable) == -1)
        bed_fail("epoll");
    SPAWN(leak_epoll_wait, count);
}

/* accept */
static int listener;

FRAME static void accept_forever(void) {
    TEMP_FAILURE_RETRY(accept(listener, NULL, NULL));
    bed_came_back(__func__);
}

ENTRY(leak_accept, accept, accept_forever)

FRAME void spawn_accept(int count) {
    struct sockaddr_in any_port = {.sin_family = AF_INET, .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)}};
    listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listener == -1 || bind(listener, (struct sockaddr *)&any_port, sizeof any_port) == -1 ||
        listen(listener, 1) == -1)
        bed_fail("listening on 127.0.0.1");
    SPAWN(leak_accept, count);
}

/* inotify_read, eventfd_read */
static int inotify_fd, event_fd;

FRAME static void inotify_read_forever(void) {
    char events[256];
    TEMP_FAILURE_RETRY(read(inotify_fd, events, sizeof events));
    bed_came_back(__func__);
}

ENTRY(leak_inotify_read, inotify_read, inotify_read_forever)

FRAME void spawn_inotify_read(int count) {
    inotify_fd = inotify_init1(IN_CLOEXEC);
    if (inotify_fd == -1)
        bed_fail("inotify_init1");
    SPAWN(leak_inotify_read, count);
}

FRAME static void eventfd_read_forever(void) {
    eventfd_t value;
    TEMP_FAILURE_RETRY(eventfd_read(event_fd, &value));
    bed_came_back(__func__);
}

ENTRY(leak_eventfd_read, eventfd_read, eventfd_read_forever)

FRAME void spawn_eventfd_read(int count) {
    event_fd = eventfd(0, EFD_CLOEXEC);
    if (event_fd == -1)
        bed_fail("eventfd");
    SPAWN(leak_eventfd_read, count);
}

/* io_uring: waits for one completion of a ring into which nothing was put */
static int ring_fd;

FRAME static void io_uring_enter_forever(void) {
    TEMP_FAILURE_RETRY(syscall(SYS_io_uring_enter, ring_fd, 0, 1, IORING_ENTER_GETEVENTS, NULL, 0));
    bed_came_back(__func__);
}

ENTRY(leak_io_uring, io_uring, io_uring_enter_forever)

FRAME void spawn_io_uring(int count) {
    struct io_uring_params params = {0};
    ring_fd = (int)syscall(SYS_io_uring_setup, 4, &params);
    if (ring_fd == -1 && (errno == ENOSYS || errno == EPERM))
        bed_unsupported("io_uring");
    if (ring_fd == -1)
        bed_fail("io_uring_setup");
    SPAWN(leak_io_uring, count);
}
