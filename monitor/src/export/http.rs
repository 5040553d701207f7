//! The web server of `run`: renders the last finished pass, once, and never observes by itself. All tasks of one process are
//! asked of the thread that sweeps (`tasks`).

mod connections;
mod tasks;
pub mod token;

use std::{
    collections::HashSet,
    fs, io,
    net::{IpAddr, SocketAddr},
    os::unix::fs::FileTypeExt as _,
    path::Path,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::{Bytes, HttpBody as _},
    extract::{Request, State},
    http::{HeaderMap, Method, StatusCode, header},
    middleware::{Next, from_fn, from_fn_with_state},
    response::{Html, IntoResponse, Response},
    routing::get,
    serve::Listener,
};
use rustix::fs::Mode;
use tokio::{
    net::{TcpListener, UnixListener},
    sync::watch,
};

use super::{
    html,
    json::{self, Detail},
    prometheus,
};
use crate::model::Snapshot;

pub use tasks::{Asker, Order, PARTIAL};
pub use token::Token;

/// A finished pass.
pub struct Published {
    snapshot: Snapshot,
    at: Instant,
    metrics: Rendered,
    names: Views,
    stacks: Views,
}

/// Made when it is first asked for, and shared by all who ask: a crowd costs no more than one.
type Rendered = OnceLock<Result<Bytes, String>>;

/// What differs by what may be shown.
#[derive(Default)]
struct Views {
    page: Rendered,
    json: Rendered,
}

impl Published {
    /// One that has finished just now.
    pub fn new(snapshot: Snapshot) -> Self {
        Self {
            snapshot,
            at: Instant::now(),
            metrics: Rendered::new(),
            names: Views::default(),
            stacks: Views::default(),
        }
    }

    fn metrics(&self) -> Result<Bytes, String> {
        self.metrics
            .get_or_init(|| text(prometheus::render_with_self(&self.snapshot)))
            .clone()
    }

    fn page(&self, detail: Detail) -> Result<Bytes, String> {
        let page = || Ok(html::render(&self.snapshot, detail).into());
        self.views(detail).page.get_or_init(page).clone()
    }

    fn json(&self, detail: Detail) -> Result<Bytes, String> {
        let json = || text(json::render(&self.snapshot, detail));
        self.views(detail).json.get_or_init(json).clone()
    }

    fn views(&self, detail: Detail) -> &Views {
        match detail {
            Detail::Names => &self.names,
            Detail::Stacks => &self.stacks,
        }
    }
}

fn text<E: ToString>(rendered: Result<String, E>) -> Result<Bytes, String> {
    rendered.map(Bytes::from).map_err(|error| error.to_string())
}

/// The last finished pass.
pub type Latest = watch::Receiver<Arc<Published>>;

const PROMETHEUS_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// How the server answers.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where all tasks of a process are asked for.
    pub asker: Asker,
    /// From when on a task is blocked.
    pub threshold: Duration,
    /// Names that a request may use for us beside addresses and `localhost`; `None`: any.
    pub hosts: Option<HashSet<String>>,
    /// An age of the last pass at which we are not ready any more.
    pub stale: Duration,
    pub detail: Detail,
    /// What who asks must show; `None`: nothing.
    pub token: Option<Token>,
}

#[derive(Clone)]
struct Shared {
    latest: Latest,
    settings: Arc<Settings>,
}

impl Shared {
    fn latest(&self) -> Arc<Published> {
        Arc::clone(&self.latest.borrow())
    }
}

/// Binds the address.
///
/// # Errors
/// When it is in use or not ours; the message says so with the address.
pub async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        let hint = match error.kind() {
            io::ErrorKind::AddrInUse => "is in use: stop what listens there, or choose another with --listen",
            io::ErrorKind::AddrNotAvailable => "is no address of this machine: choose another with --listen",
            io::ErrorKind::PermissionDenied => "is not permitted: choose a port above 1023 with --listen",
            _ => return io::Error::new(error.kind(), format!("{address}: {error}")),
        };
        io::Error::new(error.kind(), format!("{address} {hint}"))
    })
}

/// Binds a Unix socket that only its owner may connect to. One that nobody listens on any more is replaced.
///
/// # Errors
/// When somebody listens on it, when something else is there, or when it cannot be made.
pub fn bind_socket(path: &Path) -> io::Result<UnixListener> {
    let told = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    match fs::symlink_metadata(path) {
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(told(io::Error::other("is there, and is no socket")));
        }
        Ok(_) if std::os::unix::net::UnixStream::connect(path).is_ok() => {
            return Err(told(io::Error::other(
                "somebody listens on it: choose another with --socket",
            )));
        }
        Ok(_) => fs::remove_file(path).map_err(told)?,
        Err(_) => {}
    }
    // Before any other thread is there: the mask is the process's.
    let before = rustix::process::umask(Mode::RWXG | Mode::RWXO | Mode::XUSR);
    let bound = UnixListener::bind(path);
    rustix::process::umask(before);
    bound.map_err(told)
}

/// Serves until `stop` resolves and every connection has ended.
pub async fn serve<L: Listener>(
    listener: L,
    latest: Latest,
    settings: Settings,
    stop: impl Future<Output = ()>,
) {
    let shared = Shared {
        latest,
        settings: Arc::new(settings),
    };
    connections::serve(listener, router(shared), stop).await;
}

fn router(shared: Shared) -> Router {
    Router::new()
        .route("/", get(page))
        .route("/style.css", get(|| async { fixed("text/css", html::STYLE) }))
        .route(
            "/page.js",
            get(|| async { fixed("text/javascript", html::SCRIPT) }),
        )
        .route("/metrics", get(metrics))
        .route("/healthz", get(|| async { "alive\n" }))
        .route("/readyz", get(ready))
        .route("/api/v1/snapshot", get(snapshot))
        .route("/api/v1/stacks", get(tasks::chosen))
        .route("/debug/pprof/blocked", get(tasks::blocked))
        .route("/debug/pprof/tasks", get(tasks::all))
        .fallback(|| async { (StatusCode::NOT_FOUND, "not found: see / for what there is\n") })
        .layer(from_fn(check_request))
        .layer(from_fn_with_state(shared.clone(), check_token))
        .layer(from_fn_with_state(shared.clone(), check_host))
        .with_state(shared)
}

async fn page(State(shared): State<Shared>) -> Response {
    let page = shared.latest().page(shared.settings.detail).map(Html);
    ([(header::CONTENT_SECURITY_POLICY, html::POLICY)], or_500(page)).into_response()
}

fn or_500(rendered: Result<impl IntoResponse, String>) -> Response {
    match rendered {
        Ok(rendered) => rendered.into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

fn fixed(kind: &'static str, text: &'static str) -> Response {
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}

async fn metrics(State(shared): State<Shared>) -> Response {
    let metrics = shared.latest().metrics();
    or_500(metrics.map(|text| ([(header::CONTENT_TYPE, PROMETHEUS_TEXT)], text)))
}

async fn ready(State(shared): State<Shared>) -> (StatusCode, String) {
    let age = shared.latest().at.elapsed();
    if age < shared.settings.stale {
        (StatusCode::OK, "ready\n".to_owned())
    } else {
        (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("the last sweep ended {} s ago\n", age.as_secs()),
        )
    }
}

async fn snapshot(State(shared): State<Shared>) -> Response {
    let json = shared.latest().json(shared.settings.detail);
    or_500(json.map(|text| ([(header::CONTENT_TYPE, "application/json")], text)))
}

/// Who asks for less than everything must not take everything for it.
async fn check_request(request: Request, next: Next) -> Response {
    let has_parameters = request.uri().query().is_some_and(|query| !query.is_empty());
    if has_parameters && !tasks::PATHS.contains(&request.uri().path()) {
        let help = "there are no parameters: ask without `?`\n";
        return (StatusCode::BAD_REQUEST, help).into_response();
    }
    // Of another method the router says that it is not allowed.
    if matches!(*request.method(), Method::GET | Method::HEAD) && !request.body().is_end_stream() {
        let help = "a request has no body here\n";
        return (StatusCode::PAYLOAD_TOO_LARGE, help).into_response();
    }
    next.run(request).await
}

/// Whether we live is told to everybody: the kubelet has no token.
async fn check_token(State(shared): State<Shared>, request: Request, next: Next) -> Response {
    let is_open = matches!(request.uri().path(), "/healthz" | "/readyz");
    let token = shared.settings.token.as_ref();
    if is_open || token.is_none_or(|token| token.is_shown(request.headers())) {
        return next.run(request).await;
    }
    let help = "not permitted: show the token of --token-file (Authorization: Bearer TOKEN)\n";
    let challenge = [(header::WWW_AUTHENTICATE, "Bearer realm=\"taskleak\"")];
    (StatusCode::UNAUTHORIZED, challenge, help).into_response()
}

/// Against DNS rebinding: a page that lets its own name point to us sends that name in `Host`. An address
/// cannot be made to point elsewhere.
async fn check_host(State(shared): State<Shared>, request: Request, next: Next) -> Response {
    let hosts = shared.settings.hosts.as_ref();
    if hosts.is_none_or(|hosts| is_known_host(request.headers(), hosts)) {
        return next.run(request).await;
    }
    let help = "this host name is not allowed: use an address, or start taskleak with --allow-host NAME\n";
    (StatusCode::MISDIRECTED_REQUEST, help).into_response()
}

fn is_known_host(headers: &HeaderMap, allowed: &HashSet<String>) -> bool {
    let Some(host) = headers.get(header::HOST) else {
        return true;
    };
    let Ok(host) = host.to_str() else { return false };
    if host.parse::<SocketAddr>().is_ok() || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok() {
        return true;
    }
    let name = host
        .rsplit_once(':')
        .map_or(host, |(name, _)| name)
        .to_ascii_lowercase();
    name == "localhost" || allowed.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Health;

    #[test]
    fn who_asks_second_gets_what_was_made_for_the_first() {
        let published = Published::new(Snapshot {
            taken_at: std::time::UNIX_EPOCH,
            observed: Duration::ZERO,
            processes: Vec::new(),
            health: Health::default(),
        });
        let place = |rendered: Result<Bytes, String>| rendered.unwrap().as_ptr();
        assert_eq!(place(published.metrics()), place(published.metrics()));
        for render in [Published::json, Published::page] {
            let of = |detail| place(render(&published, detail));
            assert_eq!(of(Detail::Names), of(Detail::Names));
            assert_eq!(of(Detail::Stacks), of(Detail::Stacks));
            assert_ne!(of(Detail::Names), of(Detail::Stacks));
        }
    }

    #[test]
    fn only_addresses_localhost_and_allowed_names_pass() {
        let allowed = HashSet::from(["node7".to_owned()]);
        let passes = |host: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, host.parse().unwrap());
            is_known_host(&headers, &allowed)
        };
        for host in [
            "127.0.0.1:9435",
            "10.1.2.3",
            "[::1]:9435",
            "[::1]",
            "localhost:9435",
            "LOCALHOST",
            "Node7:9435",
        ] {
            assert!(passes(host), "{host}");
        }
        for host in ["evil.example:9435", "evil.example", "127.0.0.1.evil.example", ""] {
            assert!(!passes(host), "{host}");
        }
    }
}
