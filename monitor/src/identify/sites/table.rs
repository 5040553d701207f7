//! The one table of what is not the program's own. To add something is to add a line.

use super::rules::Role;

pub const JAVA: &str = "[java]";
pub const PYTHON: &str = "[python]";

/// Libraries by the file that is mapped, without `.so` and what follows, and without a version (`libc-2.31`).
pub const LIBRARIES: &[(&str, Role)] = &[
    ("[vdso]", Role::Plumbing),
    ("ld", Role::Plumbing),
    ("ld-linux-x86-64", Role::Plumbing),
    ("ld-musl-x86_64", Role::Plumbing),
    ("libc", Role::Plumbing),
    ("libc.musl-x86_64", Role::Plumbing),
    ("libpthread", Role::Plumbing),
    ("librt", Role::Plumbing),
    ("libdl", Role::Plumbing),
    ("libanl", Role::Plumbing),
    ("libstdc++", Role::Plumbing),
    ("libc++", Role::Plumbing),
    ("libc++abi", Role::Plumbing),
    ("libgcc_s", Role::Plumbing),
    ("libatomic", Role::Plumbing),
    ("libgomp", Role::Runtime),
    ("libomp", Role::Runtime),
    ("libiomp5", Role::Runtime),
    ("libtbb", Role::Runtime),
    ("java", Role::Interpreter(JAVA)),
    ("libjli", Role::Interpreter(JAVA)),
    ("libjvm", Role::Interpreter(JAVA)),
    (JAVA, Role::Interpreter(JAVA)),
];

/// Libraries of a JDK. Others have such names, too: only where there is a JVM.
pub const JDK: &[&str] = &[
    "libjava",
    "libjsig",
    "libjimage",
    "libnet",
    "libnio",
    "libextnet",
    "libzip",
    "libmanagement",
    "libinstrument",
    "libjdwp",
];

/// Crates and namespaces.
pub const ROOTS: &[(&str, Role)] = &[
    ("std", Role::Plumbing),
    ("core", Role::Plumbing),
    ("alloc", Role::Plumbing),
    ("__gnu_cxx", Role::Plumbing),
    ("__cxxabiv1", Role::Plumbing),
    ("tokio", Role::Runtime),
    ("mio", Role::Runtime),
    ("futures", Role::Runtime),
    ("futures_core", Role::Runtime),
    ("futures_channel", Role::Runtime),
    ("futures_executor", Role::Runtime),
    ("futures_util", Role::Runtime),
    ("async_std", Role::Runtime),
    ("async_io", Role::Runtime),
    ("async_executor", Role::Runtime),
    ("async_task", Role::Runtime),
    ("blocking", Role::Runtime),
    ("event_listener", Role::Runtime),
    ("polling", Role::Runtime),
    ("smol", Role::Runtime),
    ("parking_lot", Role::Runtime),
    ("parking_lot_core", Role::Runtime),
    ("lock_api", Role::Runtime),
    ("once_cell", Role::Runtime),
    ("crossbeam", Role::Runtime),
    ("crossbeam_channel", Role::Runtime),
    ("crossbeam_deque", Role::Runtime),
    ("crossbeam_epoch", Role::Runtime),
    ("crossbeam_queue", Role::Runtime),
    ("crossbeam_utils", Role::Runtime),
    ("rayon", Role::Runtime),
    ("rayon_core", Role::Runtime),
    ("threadpool", Role::Runtime),
    ("absl", Role::Runtime),
    ("boost", Role::Runtime),
    ("folly", Role::Runtime),
];

/// Functions by the beginning of their name, wherever they are.
pub const PREFIXES: &[(&str, Role)] = &[
    ("_PyEval_", Role::Interpreter(PYTHON)),
    ("PyEval_", Role::Interpreter(PYTHON)),
    ("__rust_", Role::Plumbing),
];

/// Functions of Go's runtime. A thread that has these outermost takes up whatever work there is, and where its stack was left
/// last is no part of what it is.
pub const GO_RUNTIME: &str = "runtime.";

/// Where a program begins, before any of its own code.
pub const BEGINNING: &str = "_start";

/// Source files whose code is generated into programs: all parts must be there, in this order.
pub const SOURCES: &[&[&str]] = &[
    &["/include/", "c++/"],
    &["/rustc/", "/library/"],
    &["/rustlib/src/rust/library/"],
];

/// Source files of C libraries.
pub const C_SOURCES: &[&str] = &["/sysdeps/", "/nptl/", "/glibc-", "/src_musl/", "/musl-"];

/// Functions of C libraries that do not begin with two underscores: what waits, and what starts threads.
pub const C_FUNCTIONS: &str = "accept accept4 clock_nanosleep clone clone3 cnd_timedwait cnd_wait connect copy_file_range do_futex_wait \
    epoll_pwait epoll_pwait2 epoll_wait eventfd_read eventfd_write fcntl fcntl64 fdatasync fgetc fgets flock \
    fread fsync futex_wait fwrite getaddrinfo getc getchar getdelim getline getrandom ioctl \
    libc_start_main_stage2 lockf lockf64 mq_receive mq_send mq_timedreceive mq_timedsend msgrcv msgsnd \
    mtx_lock mtx_timedlock nanosleep open open64 openat pause poll ppoll pread pread64 preadv pselect pwrite \
    pwrite64 read readv recv recvfrom recvmmsg recvmsg sccp select sem_clockwait sem_timedwait sem_wait \
    semop semtimedop send sendfile sendmmsg sendmsg sendto sigpause sigsuspend sigtimedwait sigwait \
    sigwaitinfo sleep splice start_c11 start_thread syscall system tee thrd_join thrd_sleep usleep vfork \
    vmsplice wait wait3 wait4 waitid waitpid write writev";
