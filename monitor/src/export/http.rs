//! The web server of `run`: renders the last finished pass, and never observes by itself.

use std::{
    collections::HashSet,
    fmt::Debug,
    fs, io,
    net::{IpAddr, SocketAddr},
    os::unix::fs::FileTypeExt as _,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    middleware::{Next, from_fn_with_state},
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

/// A finished pass.
pub struct Published {
    snapshot: Snapshot,
    at: Instant,
}

impl Published {
    /// One that has finished just now.
    pub fn new(snapshot: Snapshot) -> Self {
        Self {
            snapshot,
            at: Instant::now(),
        }
    }
}

/// The last finished pass.
pub type Latest = watch::Receiver<Arc<Published>>;

const PROMETHEUS_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// How the server answers.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Names that a request may use for us beside addresses and `localhost`; `None`: any.
    pub hosts: Option<HashSet<String>>,
    /// An age of the last pass at which we are not ready any more.
    pub stale: Duration,
    pub detail: Detail,
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

/// Serves until `stop` resolves.
///
/// # Errors
/// When the listener breaks.
pub async fn serve<L>(
    listener: L,
    latest: Latest,
    settings: Settings,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()>
where
    L: Listener<Addr: Debug>,
{
    let shared = Shared {
        latest,
        settings: Arc::new(settings),
    };
    axum::serve(listener, router(shared))
        .with_graceful_shutdown(stop)
        .await
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
        .fallback(|| async { (StatusCode::NOT_FOUND, "not found: see / for what there is\n") })
        .layer(from_fn_with_state(shared.clone(), check_host))
        .with_state(shared)
}

async fn page(State(shared): State<Shared>) -> Response {
    let page = html::render(&shared.latest().snapshot, shared.settings.detail);
    ([(header::CONTENT_SECURITY_POLICY, html::POLICY)], Html(page)).into_response()
}

fn fixed(kind: &'static str, text: &'static str) -> Response {
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}

async fn metrics(State(shared): State<Shared>) -> Response {
    match prometheus::render_with_self(&shared.latest().snapshot) {
        Ok(text) => ([(header::CONTENT_TYPE, PROMETHEUS_TEXT)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
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
    match json::render(&shared.latest().snapshot, shared.settings.detail) {
        Ok(text) => ([(header::CONTENT_TYPE, "application/json")], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
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
