//! All tasks of one process, looked at when they are asked for: `/debug/pprof/blocked`, `/debug/pprof/tasks` and
//! `/api/v1/stacks`. They are stacks: shown under the one rule for those.

use std::{
    io::{self, Write as _},
    os::unix::net::UnixStream,
    sync::{Arc, mpsc},
    time::Duration,
};

use axum::{
    body::Bytes,
    extract::{RawQuery, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use clap::ValueEnum as _;
use regex::RegexBuilder;
use tokio::sync::{Semaphore, oneshot};

use super::{Detail, Shared};
use crate::{
    export::stacks::{self, Choice, Format},
    model::{Kind, ProcessTasks},
};

/// Says that the process has ended meanwhile, and what is told is what was seen until then.
pub const PARTIAL: &str = "taskleak-partial";
/// The paths that take parameters.
pub const PATHS: [&str; 3] = ["/debug/pprof/blocked", "/debug/pprof/tasks", "/api/v1/stacks"];

/// Who asks while so many others wait is told to come again.
const MAX_WAITING: usize = 4;
/// Longest time that somebody waits.
const PATIENCE: Duration = Duration::from_secs(30);
/// What one expression may take when it is compiled, bytes: whoever can reach the socket writes it.
const MAX_REGEX: usize = 1 << 20;

/// What the thread that sweeps is asked between two passes.
pub enum Order {
    /// All tasks of the process with this pid, to be rendered so, for whoever still waits for them.
    Tasks(u32, Format, oneshot::Sender<io::Result<Option<ProcessTasks>>>),
    Stop,
}

/// Asks the thread that sweeps.
#[derive(Clone, Debug)]
pub struct Asker {
    orders: mpsc::Sender<Order>,
    /// A byte in it wakes that thread.
    wake: Arc<UnixStream>,
    room: Arc<Semaphore>,
}

impl Asker {
    /// The asker, the orders, and what becomes readable when there are some.
    ///
    /// # Errors
    /// When the system has no more sockets.
    pub fn new() -> io::Result<(Self, mpsc::Receiver<Order>, UnixStream)> {
        let (wake, woken) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        woken.set_nonblocking(true)?;
        let (orders, ordered) = mpsc::channel();
        let asker = Self {
            orders,
            wake: Arc::new(wake),
            room: Arc::new(Semaphore::new(MAX_WAITING)),
        };
        Ok((asker, ordered, woken))
    }

    /// Lets the thread end.
    pub fn stop(&self) {
        self.send(Order::Stop);
    }

    fn send(&self, order: Order) {
        // A thread that has ended does nothing more; a full socket has woken it already.
        let _ = self.orders.send(order);
        let _ = (&*self.wake).write(&[0]);
    }

    async fn tasks(&self, pid: u32, format: Format) -> Result<ProcessTasks, Refusal> {
        let _place = self.room.try_acquire().map_err(|_| Refusal::Busy)?;
        let (reply, told) = oneshot::channel();
        self.send(Order::Tasks(pid, format, reply));
        match tokio::time::timeout(PATIENCE, told).await {
            Ok(Ok(Ok(Some(tasks)))) => Ok(tasks),
            Ok(Ok(Ok(None))) => Err(Refusal::NoProcess(pid)),
            // With what it comes from: "failed" alone helps nobody.
            Ok(Ok(Err(error))) => Err(Refusal::Failed(format!(
                "no look: {:#}",
                anyhow::Error::from(error)
            ))),
            // Nobody is there any more who could read it.
            Ok(Err(_)) => Err(Refusal::Ending),
            Err(_) => Err(Refusal::Late),
        }
    }
}

/// Why there are no tasks.
enum Refusal {
    Bad(String),
    Hidden,
    NoProcess(u32),
    Busy,
    Ending,
    Late,
    Failed(String),
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, text) = match self {
            Self::Bad(text) => (StatusCode::BAD_REQUEST, text),
            Self::Hidden => (
                StatusCode::FORBIDDEN,
                "stacks are shown on the Unix socket only: start taskleak with --socket PATH, or with --expose-stacks"
                    .to_owned(),
            ),
            Self::NoProcess(pid) => (StatusCode::NOT_FOUND, format!("no process {pid} is watched")),
            Self::Busy => (
                StatusCode::SERVICE_UNAVAILABLE,
                "others are being told already: ask again in a moment".to_owned(),
            ),
            Self::Ending => (StatusCode::SERVICE_UNAVAILABLE, "the daemon is ending".to_owned()),
            Self::Late => (
                StatusCode::GATEWAY_TIMEOUT,
                format!("not read within {} s", PATIENCE.as_secs()),
            ),
            Self::Failed(text) => (StatusCode::INTERNAL_SERVER_ERROR, text),
        };
        (status, format!("{text}\n")).into_response()
    }
}

/// What is asked for.
struct Asked {
    pid: u32,
    choice: Choice,
    format: Format,
}

/// Blocked for the daemon's threshold, as a profile.
pub async fn blocked(State(shared): State<Shared>, RawQuery(query): RawQuery) -> Response {
    let asked = parse(query.as_deref(), &["pid"]).map(|asked| Asked {
        choice: Choice {
            blocked_after: Some(shared.settings.threshold),
            ..asked.choice
        },
        format: Format::Pprof,
        ..asked
    });
    answer(&shared, asked).await
}

/// All, as a profile.
pub async fn all(State(shared): State<Shared>, RawQuery(query): RawQuery) -> Response {
    let asked = parse(query.as_deref(), &["pid"]).map(|asked| Asked {
        format: Format::Pprof,
        ..asked
    });
    answer(&shared, asked).await
}

/// What `taskleak stacks` prints.
pub async fn chosen(State(shared): State<Shared>, RawQuery(query): RawQuery) -> Response {
    let known = ["pid", "format", "kind", "site", "blocked_after", "each"];
    answer(&shared, parse(query.as_deref(), &known)).await
}

async fn answer(shared: &Shared, asked: Result<Asked, Refusal>) -> Response {
    match try_answer(shared, asked).await {
        Ok(response) => response,
        Err(refusal) => refusal.into_response(),
    }
}

async fn try_answer(shared: &Shared, asked: Result<Asked, Refusal>) -> Result<Response, Refusal> {
    if shared.settings.detail != Detail::Stacks {
        return Err(Refusal::Hidden);
    }
    let Asked { pid, choice, format } = asked?;
    let told = shared.settings.asker.tasks(pid, format).await?;
    let mut headers = HeaderMap::new();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static(format.content_type()),
    );
    if told.is_gone {
        headers.insert(PARTIAL, HeaderValue::from_static("true"));
    }
    // Of a hundred thousand tasks that takes a while: others are answered meanwhile.
    let rendered = tokio::task::spawn_blocking(move || stacks::render(&told, &choice, format));
    let failed = |error: String| Refusal::Failed(error);
    let rendered = rendered.await.map_err(|error| failed(error.to_string()))?;
    let rendered = rendered.map_err(|error| failed(error.to_string()))?;
    Ok((headers, Bytes::from(rendered)).into_response())
}

/// `known`: the parameters that there are here. Who misspells one must not be told something else.
fn parse(query: Option<&str>, known: &[&str]) -> Result<Asked, Refusal> {
    let mut pid = None;
    let mut asked = Asked {
        pid: 0,
        choice: Choice::default(),
        format: Format::Text,
    };
    for (key, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        let wrong = |what: &str| Refusal::Bad(format!("`{value}` is no {what}"));
        if !known.contains(&&*key) {
            let known = known.join(", ");
            return Err(Refusal::Bad(format!(
                "there is no parameter `{key}`; there are: {known}"
            )));
        }
        match &*key {
            "pid" => {
                let number = value.parse().ok().filter(|pid| *pid > 0);
                pid = Some(number.ok_or_else(|| wrong("pid"))?);
            }
            "format" => asked.format = Format::from_str(&value, false).map_err(|_| wrong("format"))?,
            "kind" => {
                let kind = Kind::from_str(&value, false).map_err(|_| wrong("kind of task"))?;
                asked.choice.kinds.push(kind);
            }
            "site" => {
                let regex = RegexBuilder::new(&value).size_limit(MAX_REGEX).build();
                let regex = regex.map_err(|_| wrong("regular expression"))?;
                asked.choice.sites.push(regex);
            }
            "blocked_after" => {
                let span = humantime::parse_duration(&value).map_err(|_| wrong("duration"))?;
                asked.choice.blocked_after = Some(span);
            }
            _ => asked.choice.each = true,
        }
    }
    asked.pid = pid.ok_or_else(|| Refusal::Bad("which process? ask with ?pid=PID".to_owned()))?;
    Ok(asked)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [&str; 6] = ["pid", "format", "kind", "site", "blocked_after", "each"];

    fn status(query: &str, known: &[&str]) -> u16 {
        match parse(Some(query), known) {
            Ok(_) => 200,
            Err(refusal) => refusal.into_response().status().as_u16(),
        }
    }

    #[test]
    fn what_is_asked_for_is_understood_or_refused() {
        for (query, expected) in [
            ("pid=7", 200),
            (
                "pid=7&format=pprof&kind=thread&kind=goroutine&site=%5Emain&blocked_after=5m&each=1",
                200,
            ),
            ("", 400),
            ("pid=", 400),
            ("pid=0", 400),
            ("pid=-1", 400),
            ("pid=7x", 400),
            ("pid=99999999999", 400),
            ("pid=7&format=xml", 400),
            ("pid=7&kind=fibre", 400),
            ("pid=7&site=a(", 400),
            ("pid=7&site=(a{1000}){1000}", 400),
            ("pid=7&blocked_after=soon", 400),
            ("pid=7&seconds=30", 400),
            ("PID=7", 400),
        ] {
            assert_eq!(status(query, &ALL), expected, "{query}");
        }
        assert_eq!(status("pid=7&format=text", &["pid"]), 400);
    }

    /// The thread that sweeps ends before the daemon's last connections do.
    #[test]
    fn who_asks_a_daemon_that_is_ending_is_told_so() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build();
        let runtime = runtime.unwrap();
        let status = |asker: &Asker| match runtime.block_on(asker.tasks(7, Format::Text)) {
            Ok(_) => 200,
            Err(refusal) => refusal.into_response().status().as_u16(),
        };
        let (asker, orders, _woken) = Asker::new().unwrap();
        let ending = std::thread::spawn(move || {
            let order = orders.recv().unwrap();
            assert!(matches!(order, Order::Tasks(7, Format::Text, _)));
        });
        assert_eq!(status(&asker), 503, "it was asked already");
        ending.join().unwrap();
        assert_eq!(status(&asker), 503, "nobody is there");
        asker.stop();
    }

    #[test]
    fn patterns_are_taken_as_they_were_meant() {
        let Ok(asked) = parse(Some("pid=7&site=a%2Bb&site=c+d&blocked_after=1m30s"), &ALL) else {
            panic!("refused");
        };
        let sites: Vec<&str> = asked.choice.sites.iter().map(|site| site.as_str()).collect();
        assert_eq!(sites, ["a+b", "c d"]);
        assert_eq!(asked.choice.blocked_after, Some(Duration::from_secs(90)));
    }
}
