//! What a task waits for, in tokio's words, and what that means. Pure.
//!
//! The names of tokio's modules and functions are those of 1.28 to 1.54. What is not in a table is called by the last two
//! parts of its path.

use crate::model::WaitClass;

/// What a future that awaits nothing else is, if it is one of those that every program has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaf {
    JoinHandle,
    Other,
}

/// Futures that are looked into no further.
const LEAVES: [(&str, &str); 10] = [
    ("tokio::runtime::task::join::JoinHandle", "JoinHandle"),
    ("tokio::time::sleep::Sleep", "Sleep"),
    ("tokio::time::interval::Interval", "Interval"),
    ("tokio::sync::batch_semaphore::Acquire", "Semaphore::acquire"),
    ("tokio::sync::oneshot::Receiver", "oneshot::Receiver"),
    ("tokio::sync::notify::Notified", "Notified"),
    ("tokio::sync::notify::OwnedNotified", "Notified"),
    ("core::future::pending::Pending", "future::pending"),
    (
        "tokio_util::sync::cancellation_token::WaitForCancellationFuture",
        "CancellationToken::cancelled",
    ),
    (
        "tokio_util::sync::cancellation_token::WaitForCancellationFutureOwned",
        "CancellationToken::cancelled",
    ),
];

/// Modules of tokio's, beginnings of their functions, and the type whose functions these are.
const TYPES: [(&str, &str, &str); 26] = [
    ("tokio::sync::mpsc::bounded", "recv", "mpsc::Receiver"),
    ("tokio::sync::mpsc::bounded", "", "mpsc::Sender"),
    ("tokio::sync::mpsc::unbounded", "recv", "mpsc::UnboundedReceiver"),
    ("tokio::sync::mpsc::unbounded", "", "mpsc::UnboundedSender"),
    ("tokio::sync::mutex", "", "Mutex"),
    ("tokio::sync::rwlock", "", "RwLock"),
    ("tokio::sync::semaphore", "", "Semaphore"),
    ("tokio::sync::batch_semaphore", "", "Semaphore"),
    ("tokio::sync::barrier", "", "Barrier"),
    ("tokio::sync::watch", "closed", "watch::Sender"),
    ("tokio::sync::watch", "", "watch::Receiver"),
    ("tokio::sync::broadcast", "closed", "broadcast::Sender"),
    ("tokio::sync::broadcast", "", "broadcast::Receiver"),
    ("tokio::sync::oneshot", "", "oneshot::Sender"),
    ("tokio::sync::once_cell", "", "OnceCell"),
    ("tokio::task::join_set", "", "JoinSet"),
    ("tokio::task::local", "", "LocalSet"),
    ("tokio::net::tcp::listener", "", "TcpListener"),
    ("tokio::net::tcp::stream", "", "TcpStream"),
    ("tokio::net::tcp::socket", "", "TcpSocket"),
    ("tokio::net::udp", "", "UdpSocket"),
    ("tokio::net::unix::listener", "", "UnixListener"),
    ("tokio::net::unix::stream", "", "UnixStream"),
    ("tokio::net::unix::datagram::socket", "", "UnixDatagram"),
    ("tokio::process", "", "process::Child"),
    ("tokio::signal::unix", "", "Signal"),
];

/// Modules in which tasks wait for the world.
const WORLD: [&str; 5] = [
    "tokio::net::",
    "tokio::io::",
    "tokio::fs::",
    "tokio::process::",
    "tokio::signal::",
];
/// Connections, files and processes.
const THINGS: [&str; 6] = [
    "h2::codec::Codec<",
    "hyper::proto::h1::io::Buffered<",
    "tokio::io::async_fd::AsyncFd<",
    "tokio::io::poll_evented::PollEvented<",
    "tokio::net::",
    "tokio::process::",
];
/// Modules in which tasks wait for a while, or do not wait.
const PASSING: [&str; 3] = [
    "tokio::time::",
    "tokio::task::yield_now",
    "tokio::task::coop::consume_budget",
];
/// Types that hold futures out of sight: some of them may be timers.
const COLLECTIONS: [&str; 4] = ["JoinAll", "SelectAll", "SelectOk", "TryJoinAll"];
/// One that has them in a list.
const LIST: &str = "futures_util::stream::futures_unordered::FuturesUnordered<";
const COPIES: &str = "tokio::io::util::";

/// What somebody waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// Until somebody wakes it.
    Open(String, WaitClass),
    /// It ends by itself.
    Passing,
}

pub fn leaf(name: &str) -> Option<Leaf> {
    let path = without_parameters(name);
    let (known, _) = LEAVES.iter().find(|(known, _)| *known == path)?;
    Some(if known.ends_with("JoinHandle") {
        Leaf::JoinHandle
    } else {
        Leaf::Other
    })
}

/// Whether a type has futures in it, out of sight.
pub fn is_collection(name: &str) -> bool {
    let path = without_parameters(name);
    COLLECTIONS
        .iter()
        .any(|known| path.rsplit("::").next() == Some(known))
}

/// Whether it has them in a list that can be followed.
pub fn is_list(name: &str) -> bool {
    name.starts_with(LIST)
}

/// Whether a trait object is a future.
pub fn is_future(name: &str) -> bool {
    let Some((_, object)) = name.split_once("dyn ") else {
        return false;
    };
    let path = object.split(['<', '>', ' ', ',', ')']).next().unwrap_or_default();
    [
        "core::future::future::Future",
        "futures_core::future::FusedFuture",
    ]
    .contains(&path)
}

/// Whether a trait object is a timer of hyper's, whoever made it.
pub fn is_timer(name: &str) -> bool {
    name.contains("hyper::rt::timer::Sleep")
}

/// Whether a type is a thing through which the world is talked to.
pub fn is_worlds(name: &str) -> bool {
    THINGS.iter().any(|thing| name.starts_with(thing))
}

/// What it means that a future is awaited, by its type or function.
pub fn meaning(name: &str) -> Meaning {
    let path = plain(name);
    if PASSING.iter().any(|part| path.starts_with(part)) || is_collection(name) {
        return Meaning::Passing;
    }
    let class = if WORLD.iter().any(|part| path.starts_with(part)) {
        WaitClass::External
    } else {
        WaitClass::Internal
    };
    let known = LEAVES.iter().find(|(known, _)| *known == path);
    let told = known
        .map(|(_, told)| (*told).to_owned())
        .or_else(|| of_method(&path))
        .or_else(|| of_copy(name, &path));
    Meaning::Open(told.unwrap_or_else(|| last_two(&path)), class)
}

/// `tokio::sync::mutex::lock` → `Mutex::lock`.
fn of_method(path: &str) -> Option<String> {
    TYPES.iter().find_map(|(module, function, of_type)| {
        let own = path.strip_prefix(module)?.strip_prefix("::")?;
        let method = own.rsplit("::").next()?;
        method
            .starts_with(function)
            .then(|| format!("{of_type}::{}", snake(method)))
    })
}

/// `tokio::io::util::read_exact::ReadExact<tokio::net::tcp::stream::TcpStream>` → `TcpStream::read_exact`.
fn of_copy(name: &str, path: &str) -> Option<String> {
    let (_, function) = path.strip_prefix(COPIES)?.rsplit_once("::")?;
    let (_, parameters) = name.split_once('<')?;
    let of_type = parameters.split([',', '>', '<']).next()?.trim();
    let of_type = of_type.trim_start_matches("&mut ").rsplit("::").next()?;
    Some(format!("{of_type}::{}", snake(function)))
}

/// `ReadExact` → `read_exact`.
fn snake(name: &str) -> String {
    let mut text = String::with_capacity(name.len() + 4);
    for (at, c) in name.char_indices() {
        if c.is_uppercase() && at > 0 {
            text.push('_');
        }
        text.extend(c.to_lowercase());
    }
    text
}

fn last_two(path: &str) -> String {
    let mut parts: Vec<&str> = path.rsplit("::").take(2).collect();
    parts.reverse();
    parts.join("::")
}

fn without_parameters(name: &str) -> &str {
    name.split('<').next().unwrap_or(name)
}

/// A path without parameters, implementations (`{impl#3}`) and what is within a function (`{async block}`).
pub fn plain(name: &str) -> String {
    let mut depth = 0_i32;
    let kept: String = name
        .chars()
        .filter(|c| {
            match c {
                '<' => depth += 1,
                '>' => {
                    depth -= 1;
                    return false;
                }
                _ => {}
            }
            depth <= 0
        })
        .collect();
    let parts = kept.split("::").filter(|part| !part.starts_with('{'));
    parts.collect::<Vec<_>>().join("::")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn open(name: &str) -> Option<(String, WaitClass)> {
        match meaning(name) {
            Meaning::Open(told, class) => Some((told, class)),
            Meaning::Passing => None,
        }
    }

    #[test]
    fn waits_are_told_in_tokios_words() {
        let internal = [
            (
                "tokio::sync::mpsc::bounded::{impl#0}::recv<u32>",
                "mpsc::Receiver::recv",
            ),
            (
                "tokio::sync::mpsc::bounded::{impl#2}::send<u32>",
                "mpsc::Sender::send",
            ),
            (
                "tokio::sync::mutex::{impl#5}::lock::{async_fn#0}::{async block}<u32>",
                "Mutex::lock",
            ),
            ("tokio::sync::rwlock::{impl#3}::read<u32>", "RwLock::read"),
            ("tokio::sync::semaphore::{impl#1}::acquire", "Semaphore::acquire"),
            ("tokio::sync::oneshot::Receiver<u32>", "oneshot::Receiver"),
            ("tokio::sync::notify::Notified", "Notified"),
            (
                "tokio::sync::watch::{impl#3}::changed<u32>",
                "watch::Receiver::changed",
            ),
            ("tokio::runtime::task::join::JoinHandle<()>", "JoinHandle"),
            ("core::future::pending::Pending<()>", "future::pending"),
            ("app::jobs::Queue<u8>", "jobs::Queue"),
        ];
        for (name, expected) in internal {
            assert_eq!(
                open(name),
                Some((expected.to_owned(), WaitClass::Internal)),
                "{name}"
            );
        }
        let external = [
            (
                "tokio::net::tcp::listener::{impl#0}::accept",
                "TcpListener::accept",
            ),
            (
                "tokio::io::util::read_exact::ReadExact<tokio::net::tcp::stream::TcpStream>",
                "TcpStream::read_exact",
            ),
            (
                "tokio::io::util::read::Read<&mut tokio::net::unix::stream::UnixStream>",
                "UnixStream::read",
            ),
        ];
        for (name, expected) in external {
            assert_eq!(
                open(name),
                Some((expected.to_owned(), WaitClass::External)),
                "{name}"
            );
        }
    }

    #[test]
    fn timers_and_what_may_hold_some_end_by_themselves() {
        for name in [
            "tokio::time::sleep::Sleep",
            "tokio::time::interval::{impl#2}::tick",
            "tokio::time::timeout::Timeout<app::f>",
            "futures_util::future::join_all::JoinAll<app::f>",
        ] {
            assert_eq!(meaning(name), Meaning::Passing, "{name}");
        }
    }

    #[test]
    fn of_trait_objects_futures_are_futures() {
        let boxed = |of: &str| is_future(&format!("alloc::boxed::Box<{of}, alloc::alloc::Global>"));
        assert!(boxed(
            "(dyn core::future::future::Future<Output=()> + core::marker::Send)"
        ));
        assert!(boxed("dyn core::future::future::Future<Output=()>"));
        assert!(!boxed(
            "dyn hyper::rt::Executor<core::pin::Pin<alloc::boxed::Box<dyn core::future::future::Future<Output=()>>>>"
        ));
        assert!(!is_future("app::Future<u8>"));
    }

    #[test]
    fn leaves_are_known_by_their_types() {
        assert_eq!(
            leaf("tokio::runtime::task::join::JoinHandle<u8>"),
            Some(Leaf::JoinHandle)
        );
        assert_eq!(leaf("tokio::sync::notify::Notified"), Some(Leaf::Other));
        assert_eq!(leaf("std::thread::JoinHandle<u8>"), None);
    }

    proptest! {
        #[test]
        fn any_name_means_something(name in "(tokio::(io::util::|sync::|net::)?)?[a-zA-Z_<>{}#:, &é]{0,60}") {
            let _ = meaning(&name);
            let _ = leaf(&name);
        }
    }
}
