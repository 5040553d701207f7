//! Connections, and how many of them, how long, and how much they may send: whoever can reach the port must not be able to
//! take our memory, or to keep others out for long.

use std::{io, pin::pin, sync::Arc, time::Duration};

use axum::{Router, serve::Listener};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::JoinSet,
    time::timeout,
};

/// More of them wait in the kernel's queue until one has ended.
const MAX_CONNECTIONS: usize = 256;
/// For the head of a request, and for the next one to begin on a connection that is kept.
const HEAD_WITHIN: Duration = Duration::from_secs(5);
/// Longest head of a request.
const MAX_HEAD: usize = 16 * 1024;
/// A connection is not kept for longer…
const LIFETIME: Duration = Duration::from_secs(60);
/// … and who has not read the answer by then does not get the rest of it.
const LAST_ANSWER: Duration = Duration::from_secs(10);

/// Serves until `stop` resolves and every connection has ended.
pub async fn serve<L: Listener>(mut listener: L, router: Router, stop: impl Future<Output = ()>) {
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let (closing, close) = watch::channel(());
    let mut connections = JoinSet::new();
    let mut stop = pin!(stop);
    loop {
        while connections.try_join_next().is_some() {}
        let next = async {
            // An error: it was closed, which nobody does.
            let place = Arc::clone(&room).acquire_owned().await.ok();
            (listener.accept().await.0, place)
        };
        let (stream, place) = tokio::select! {
            next = next => next,
            () = &mut stop => break,
        };
        connections.spawn(connection(stream, place, router.clone(), close.clone()));
    }
    drop(closing);
    while connections.join_next().await.is_some() {}
}

async fn connection<S>(
    stream: S,
    _place: Option<OwnedSemaphorePermit>,
    router: Router,
    mut close: watch::Receiver<()>,
) where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let service = TowerToHyperService::new(router);
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_WITHIN)
            .max_buf_size(MAX_HEAD)
            .serve_connection(TokioIo::new(stream), service)
    );
    // The sender never sends: it goes away.
    let ended = tokio::select! {
        result = &mut connection => Some(result),
        _ = timeout(LIFETIME, close.changed()) => None,
    };
    let ended = match ended {
        Some(result) => result.map_err(io::Error::other),
        None => {
            connection.as_mut().graceful_shutdown();
            match timeout(LAST_ANSWER, connection).await {
                Ok(result) => result.map_err(io::Error::other),
                Err(late) => Err(late.into()),
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!("a connection has ended: {error}");
    }
}
