use super::*;

/// A frame a line, innermost first: `function @ module : file`, of which the last may be missing, and the function
/// may be `?`.
fn frames(text: &str) -> Vec<Frame> {
    let one = |(line, text): (usize, &str)| {
        let (function, place) = text.rsplit_once(" @ ").unwrap();
        let (module, file) = match place.split_once(" : ") {
            Some((module, file)) => (module, Some(file.to_owned())),
            None => (place, None),
        };
        Frame {
            function: Some(function.trim().to_owned()).filter(|function| function != "?"),
            line: file.is_some().then_some(line as u32 + 1),
            file,
            inlined: false,
            module: module.trim().to_owned(),
            offset: 0,
            guessed: false,
        }
    };
    text.lines()
        .filter(|line| !line.trim().is_empty())
        .enumerate()
        .map(one)
        .collect()
}

fn name(site: Option<Site>) -> String {
    site.map_or("none".to_owned(), |site| site.function)
}

/// (what it is, stack, block site, entry)
const STACKS: &[(&str, &str, &str, &str)] = &[
    (
        "C",
        "
        __futex_abstimed_wait_common @ libc.so.6 : ./nptl/futex-internal.c
        pthread_cond_wait @ libc.so.6
        wait_for_job @ server : /src/server.c
        worker @ server : /src/server.c
        start_thread @ libc.so.6
        clone3 @ libc.so.6",
        "wait_for_job",
        "worker",
    ),
    (
        "Go, an idle thread of the scheduler",
        "
        runtime.futex @ api : /go/src/runtime/sys_linux_amd64.s
        runtime.futexsleep @ api : /go/src/runtime/os_linux.go
        runtime.stopm @ api : /go/src/runtime/proc.go
        runtime.schedule @ api : /go/src/runtime/proc.go
        runtime.mcall @ api : /go/src/runtime/asm_amd64.s",
        "runtime.futex",
        "none",
    ),
    (
        "C, the main thread",
        "
        poll @ libc-2.31.so
        main @ server : /src/server.c
        __libc_start_call_main @ libc-2.31.so
        __libc_start_main @ libc-2.31.so
        _start @ server",
        "main",
        "main",
    ),
    (
        "C, an older libpthread",
        "
        __lll_lock_wait @ libpthread-2.28.so
        pthread_mutex_lock @ libpthread-2.28.so
        take @ server
        start_thread @ libpthread-2.28.so
        clone @ libc-2.28.so",
        "take",
        "take",
    ),
    (
        "C, with functions called like those of a library",
        "
        read @ libc.so.6
        read @ server
        __serve @ server
        core @ server
        start_thread @ libc.so.6",
        "read",
        "core",
    ),
    (
        "C++",
        "
        syscall @ libc.so.6
        std::__atomic_futex_unsigned_base::_M_futex_wait_until(unsigned int*) @ libstdc++.so.6.0.30
        std::shared_future<int>::get() const @ app : /usr/include/c++/12/future
        Pool::acquire(int) @ app : /src/pool.cc
        operator() @ app : /src/main.cc
        __invoke_impl<void, main()::<lambda()> > @ app : /usr/include/c++/12/bits/invoke.h
        std::thread::_State_impl<std::thread::_Invoker<int> >::_M_run() @ app
        ? @ libstdc++.so.6.0.30
        start_thread @ libc.so.6",
        "Pool::acquire",
        "operator()",
    ),
    (
        "C++ with boost",
        "
        pthread_cond_wait @ libc.so.6
        boost::condition_variable::wait(boost::unique_lock<boost::mutex>&) @ app
        void app::Queue<int>::pop(int&) @ app
        app::run() @ app
        start_thread @ libc.so.6",
        "app::Queue<int>::pop",
        "app::run",
    ),
    (
        "Rust",
        "
        syscall @ libc.so.6
        std::sys::pal::unix::futex::futex_wait @ app
        std::sync::poison::mutex::Mutex<T>::lock @ app
        app::pool::Pool::get::h0123456789abcdef @ app : /src/pool.rs
        app::serve::{{closure}} @ app : /src/main.rs
        __rust_begin_short_backtrace @ app
        <core::panic::unwind_safe::AssertUnwindSafe<F> as core::ops::function::FnOnce<()>>::call_once @ app
        core::ops::function::FnOnce::call_once{{vtable.shim}} @ app
        <alloc::boxed::Box<dyn core::ops::function::FnOnce<()>> as core::ops::function::FnOnce<()>>::call_once @ app
        <std::sys::thread::unix::Thread>::new::thread_start @ app
        start_thread @ libc.so.6
        clone3 @ libc.so.6",
        "app::pool::Pool::get",
        "app::serve::{{closure}}",
    ),
    (
        "Rust, the main thread",
        "
        read @ libc.so.6
        std::io::Read::read @ app
        <app::Input as std::io::Read>::read @ app
        app::main @ app
        std::rt::lang_start::{{closure}} @ app
        std::rt::lang_start_internal @ app
        std::rt::lang_start @ app
        main @ app
        __libc_start_call_main @ libc.so.6",
        "<app::Input as std::io::Read>::read",
        "app::main",
    ),
    (
        "an idle worker of tokio",
        "
        syscall @ libc.so.6
        std::sync::poison::condvar::Condvar::wait @ app
        tokio::loom::std::parking_lot::Condvar::wait @ app
        tokio::runtime::blocking::pool::Inner::run @ app
        std::sys::backtrace::__rust_begin_short_backtrace @ app
        start_thread @ libc.so.6",
        "tokio::loom::std::parking_lot::Condvar::wait",
        "tokio::runtime::blocking::pool::Inner::run",
    ),
    (
        "an idle worker of rayon, which waits by crossbeam",
        "
        syscall @ libc.so.6
        crossbeam_utils::sync::parker::Parker::park @ app
        rayon_core::sleep::Sleep::sleep @ app
        rayon_core::registry::main_loop @ app
        start_thread @ libc.so.6",
        "rayon_core::sleep::Sleep::sleep",
        "rayon_core::registry::main_loop",
    ),
    (
        "work in a pool",
        "
        syscall @ libc.so.6
        parking_lot::condvar::Condvar::wait @ app
        app::fetch @ app
        tokio::runtime::task::core::Core<T,S>::poll @ app
        start_thread @ libc.so.6",
        "app::fetch",
        "app::fetch",
    ),
    (
        "an idle worker of OpenMP",
        "
        syscall @ libc.so.6
        ? @ libgomp.so.1.0.0
        ? @ libgomp.so.1.0.0
        start_thread @ libc.so.6",
        "[libgomp.so.1.0.0]",
        "[libgomp.so.1.0.0]",
    ),
    (
        "Java",
        "
        pthread_cond_wait @ libc.so.6
        os::PlatformEvent::park() @ libjvm.so
        ? @ [java]
        ? @ [java]
        JavaCalls::call_helper(JavaValue*) @ libjvm.so
        thread_native_entry(Thread*) @ libjvm.so
        start_thread @ libc.so.6",
        "[java]",
        "[java]",
    ),
    (
        "Java, in a library of the JDK",
        "
        accept @ libc.so.6
        Java_sun_nio_ch_Net_accept @ libnio.so
        ? @ [java]
        start_thread @ libc.so.6",
        "[java]",
        "[java]",
    ),
    (
        "a library of the same name without Java",
        "
        poll @ libc.so.6
        libnet_open @ libnet.so.1
        main @ app
        __libc_start_main @ libc.so.6",
        "libnet_open",
        "main",
    ),
    (
        "Java's native code of one's own",
        "
        read @ libc.so.6
        Java_com_example_Device_wait @ libdevice.so
        ? @ [java]
        start_thread @ libc.so.6",
        "Java_com_example_Device_wait",
        "[java]",
    ),
    (
        "Python",
        "
        sem_wait @ libc.so.6
        PyThread_acquire_lock_timed @ python3.11
        ? @ python3.11
        _PyEval_EvalFrameDefault @ python3.11
        start_thread @ libc.so.6",
        "[python]",
        "[python]",
    ),
    (
        "Python within a program",
        "
        recv @ libc.so.6
        sock_recv @ _socket.cpython-311-x86_64-linux-gnu.so
        _PyEval_EvalFrameDefault @ server
        run_script @ server : /src/server.c
        start_thread @ libc.so.6",
        "sock_recv",
        "run_script",
    ),
    (
        "code made at run time",
        "
        futex_wait @ libc.so.6
        ? @ [jit]
        ? @ [jit]
        main @ luajit
        __libc_start_main @ libc.so.6",
        "[jit]",
        "main",
    ),
    (
        "a stripped program",
        "
        pthread_mutex_lock @ libc.so.6
        ? @ server
        ? @ libplugin.so.1
        start_thread @ libc.so.6",
        "[server]",
        "[libplugin.so.1]",
    ),
    ("nothing known", "? @ ", "[unknown]", "[unknown]"),
    (
        "a static program",
        "
        __futex_abstimed_wait_common @ server
        __new_sem_wait_slow64.constprop.0 @ server
        wait_for_job @ server : /src/server.c
        worker @ server : /src/server.c
        start_thread @ server
        __clone3 @ server",
        "wait_for_job",
        "worker",
    ),
    (
        "a static program without debug information",
        "
        read @ server
        pread64 @ server
        reader @ server
        _start @ server",
        "reader",
        "reader",
    ),
    (
        "a static program whose own functions are called like those of C",
        "
        __libc_read @ server
        read @ server : /src/io.c
        __serve @ server : /src/io.c
        start_thread @ server",
        "read",
        "__serve",
    ),
    (
        "musl",
        "
        sccp @ server
        __timedwait_cp @ server
        pthread_cond_timedwait @ server
        wait_for_job @ server
        start @ server
        __clone @ server",
        "wait_for_job",
        "wait_for_job",
    ),
    (
        "musl with debug information, and Rust",
        "
        __syscall6 @ app : /build/src_musl/arch/x86_64/syscall_arch.h
        syscall @ app : /build/src_musl/src/misc/syscall.c
        std::thread::park @ app
        app::wait @ app : /src/main.rs
        <std::sys::thread::unix::Thread>::new::thread_start @ app
        start @ app : /build/src_musl/src/thread/pthread_create.c
        __clone @ app : /build/src_musl/src/thread/x86_64/clone.s",
        "app::wait",
        "app::wait",
    ),
    (
        "a function called start that nothing of musl's calls",
        "
        read @ server
        start @ server
        run @ server
        _start @ server",
        "start",
        "run",
    ),
    (
        "a thread of the C library's own",
        "
        sigwaitinfo @ libc.so.6
        timer_helper_thread @ libc.so.6
        start_thread @ libc.so.6",
        "none",
        "none",
    ),
    ("no frames", "", "none", "none"),
];

#[test]
fn every_stack_has_its_site_and_its_entry() {
    for (what, stack, expected_site, expected_entry) in STACKS {
        let frames = frames(stack);
        assert_eq!(name(block_site(&frames)), *expected_site, "block site: {what}");
        assert_eq!(name(entry(&frames)), *expected_entry, "entry: {what}");
    }
}

#[test]
fn a_site_tells_its_line_and_an_entry_does_not() {
    let frames =
        frames("read @ libc.so.6\nfill @ app : /src/a.c\nrun @ app : /src/b.c\nstart_thread @ libc.so.6");
    let expected = Site {
        function: "fill".to_owned(),
        file: Some("/src/a.c".to_owned()),
        line: Some(2),
    };
    assert_eq!(block_site(&frames), Some(expected));
    let expected = Site {
        function: "run".to_owned(),
        file: Some("/src/b.c".to_owned()),
        line: None,
    };
    assert_eq!(entry(&frames), Some(expected));
}

#[test]
fn a_place_is_the_programs_before_it_is_a_librarys() {
    let told = |text: &str| match owner(&frames(text)) {
        Owner::Own(site) => format!("own {}", site.function),
        Owner::Library(site) => format!("library {}", site.function),
        Owner::Runtime => "runtime".to_owned(),
    };
    let pairs = [
        (
            "tokio::task::spawn::spawn @ app : /r/registry/src/x/tokio-1.54.1/src/task/spawn.rs
             hyper::serve @ app : /r/registry/src/x/hyper-1.2.3/src/serve.rs
             app::listen @ app : /src/app/main.rs
             app::main @ app : /src/app/main.rs",
            "own app::listen",
        ),
        (
            "tokio::task::spawn::spawn @ app : /r/registry/src/x/tokio-1.54.1/src/task/spawn.rs
             hyper::serve @ app : /r/registry/src/x/hyper-1.2.3/src/serve.rs",
            "library hyper::serve",
        ),
        ("tokio::task::spawn::spawn @ app", "runtime"),
        ("core::ops::function::FnOnce::call_once @ app", "runtime"),
        ("app::listen::{{closure}} @ app", "own app::listen::{{closure}}"),
        (
            "{async_fn#0}<app::Connection> @ app : /src/app/serve.rs
             app::main::{{closure}} @ app : /src/app/main.rs",
            "own app::main::{{closure}}",
        ),
        ("{async_fn#0} @ app : /src/app/serve.rs", "own {async_fn#0}"),
        ("", "runtime"),
    ];
    for (stack, expected) in pairs {
        assert_eq!(told(stack), expected, "{stack}");
    }
}
