//! All scenarios of all programs. The reasons are those of glibc 2.36 on x86-64 (its `select` is pselect6,
//! its `semop` is semtimedop), each as it was seen in /proc.

use crate::scenario::{
    Class::{External, Internal},
    Expect, Scenario,
};

const fn futex(name: &'static str, block_site: &'static str) -> Scenario {
    Scenario::leak(name, "futex", Internal, block_site)
}

const fn internal(name: &'static str, reason: &'static str, block_site: &'static str) -> Scenario {
    Scenario::leak(name, reason, Internal, block_site)
}

const fn external(name: &'static str, reason: &'static str, block_site: &'static str) -> Scenario {
    Scenario::leak(name, reason, External, block_site)
}

const fn healthy(name: &'static str, block_site: &'static str) -> Scenario {
    Scenario::healthy(name, block_site)
}

pub const C: &[Scenario] = &[
    futex("mutex", "mutex_acquire_forever"),
    futex("cond", "cond_wait_forever"),
    futex("rwlock_read", "rwlock_read_forever"),
    futex("rwlock_write", "rwlock_write_forever"),
    futex("semaphore", "semaphore_wait_forever"),
    futex("join", "join_forever"),
    futex("barrier", "barrier_wait_forever"),
    futex("pi_mutex", "pi_mutex_acquire_forever"),
    futex("robust_mutex", "robust_mutex_acquire_forever"),
    futex("process_shared_mutex", "process_shared_mutex_acquire_forever"),
    futex("deadlock_ring", "ring_acquire_forever"),
    futex("lock_chain", "chain_acquire_forever"),
    internal("futex_waitv", "futex_waitv", "futex_waitv_forever"),
    internal("futex_wait2", "futex_wait", "futex_wait2_forever"),
    internal("flock", "flock", "flock_forever"),
    internal("fcntl_lock", "fcntl", "fcntl_lock_forever"),
    internal("semop", "semtimedop", "semop_forever"),
    internal("vfork", "vfork", "vfork_forever"),
    internal("userfault", "page_fault", "userfault_read_forever"),
    external("read", "read", "pipe_read_forever"),
    external("socket_read", "recvfrom", "socket_recv_forever"),
    external("poll", "poll", "poll_forever"),
    external("ppoll", "ppoll", "ppoll_forever"),
    external("select", "pselect6", "select_forever"),
    external("pselect", "pselect6", "pselect_forever"),
    external("epoll_wait", "epoll_wait", "epoll_wait_forever"),
    external("accept", "accept", "accept_forever"),
    external("inotify_read", "read", "inotify_read_forever"),
    external("eventfd_read", "read", "eventfd_read_forever"),
    external("io_uring", "io_uring_enter", "io_uring_enter_forever"),
    external("waitpid", "wait4", "waitpid_forever"),
    external("waitid", "waitid", "waitid_forever"),
    external("msgrcv", "msgrcv", "msgrcv_forever"),
    external("mq_receive", "mq_timedreceive", "mq_receive_forever"),
    external("pause", "pause", "pause_forever"),
    external("sigwait", "rt_sigtimedwait", "sigwait_forever"),
    external("sigsuspend", "rt_sigsuspend", "sigsuspend_forever"),
    external("poll_25days", "poll", "poll_for_25_days").with_long_timeout(),
    futex("cond_2days", "cond_wait_for_two_days").with_long_timeout(),
    external("select_2days", "pselect6", "select_for_two_days").with_long_timeout(),
    futex("mutex_signals", "interrupted_mutex_acquire_forever"),
    external("read_signals", "read", "interrupted_pipe_read_forever"),
    futex("churn", "churn_wait"),
    healthy("timed_cond", "timed_cond_wait"),
    healthy("timed_mutex", "timed_mutex_acquire"),
    healthy("timed_semaphore", "timed_semaphore_wait"),
    healthy("timed_poll", "timed_poll_wait"),
    healthy("timed_epoll", "timed_epoll_wait"),
    healthy("timed_select", "timed_select_wait"),
    healthy("timed_sigwait", "timed_signal_wait"),
    healthy("timed_futex", "timed_futex_wait"),
    healthy("cond_2h", "cond_wait_two_hours"),
    healthy("sleep", "bed_sleep_forever"),
    healthy("ping_pong", "pass_token").in_pairs(),
    healthy("burner", "burn_and_rest"),
    healthy("lock_traffic", "take_turns"),
];

/// The same scenario in a 32-bit program, where some calls go through another one.
pub fn on_i386(scenario: Scenario) -> Scenario {
    let Expect::Blocked { reason, class } = scenario.expect else {
        return scenario;
    };
    let reason = match reason {
        "recvfrom" | "accept" => "socketcall",
        "semtimedop" | "msgrcv" => "ipc",
        "fcntl" => "fcntl64",
        other => other,
    };
    Scenario {
        expect: Expect::Blocked { reason, class },
        ..scenario
    }
}

pub const CPP: &[Scenario] = &[
    futex("thread_mutex", "mutex_lock_forever"),
    futex("condition_variable", "condition_wait_forever"),
    futex("future_get", "future_get_forever"),
    futex("shared_mutex", "shared_mutex_lock_forever"),
    futex("semaphore", "semaphore_acquire_forever"),
    futex("latch", "latch_wait_forever"),
    futex("atomic_wait", "atomic_wait_forever"),
    futex("join", "join_forever"),
    futex("deadlock_pair", "scoped_lock_forever").in_pairs(),
    healthy("timed_cv", "timed_condition_wait"),
    healthy("timed_future", "timed_future_wait"),
    healthy("sleep", "sleep_forever"),
];

pub const RUST: &[Scenario] = &[
    futex("mutex", "mutex_lock_forever"),
    futex("condvar", "condvar_wait_forever"),
    futex("mpsc_recv", "mpsc_recv_forever"),
    futex("sync_send", "sync_send_forever"),
    futex("park", "park_forever"),
    futex("join_handle", "join_forever"),
    futex("rwlock", "rwlock_write_forever"),
    futex("barrier", "barrier_wait_forever"),
    futex("once", "once_forever"),
    healthy("timed_condvar", "timed_condvar_wait"),
    healthy("timed_recv", "timed_recv_wait"),
    healthy("timed_park", "timed_park_wait"),
    healthy("sleep", "sleep_forever"),
];

pub const PYTHON: &[Scenario] = &[
    futex("lock", "lock_acquire_forever"),
    futex("queue_get", "queue_get_forever"),
    futex("event_wait", "event_wait_forever"),
    futex("condition", "condition_wait_forever"),
    futex("thread_join", "join_forever"),
    futex("semaphore", "semaphore_acquire_forever"),
    futex("barrier", "barrier_wait_forever"),
    futex("executor_idle", ""),
    futex("future_result", "future_result_forever"),
    healthy("timed_lock", "timed_lock_acquire"),
    healthy("timed_queue", "timed_queue_get"),
    healthy("timed_event", "timed_event_wait"),
    healthy("sleep", "sleep_forever"),
];

pub const JAVA: &[Scenario] = &[
    // In JDK 17 the first thread in a monitor's queue looks again and again whether it was forgotten.
    futex("synchronized_enter", "synchronizedEnterForever").with_renewed(1),
    futex("object_wait", "objectWaitForever"),
    futex("park", "parkForever"),
    futex("queue_take", "queueTakeForever"),
    futex("countdown_latch", "latchAwaitForever"),
    futex("future_get", "futureGetForever"),
    futex("thread_join", "joinForever"),
    healthy("timed_wait", "idleTimedWait"),
    healthy("timed_park", "idleTimedPark"),
    healthy("timed_poll", "idleTimedPoll"),
    healthy("sleep", "sleepForever"),
];
