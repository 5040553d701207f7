//! A web server of axum's that is asked by itself, over connections that stay: `hang=N` asks so often what is never answered,
//! `idle=N` opens so many connections, has one answer on each, and asks nothing more; `slow=N` asks what is answered in an
//! hour. `gather=N` starts so many tasks that wait for three of what is never answered at once, in a list, and `naps=N` so
//! many that wait for three sleeps so; `wide=N` starts so many whose type has a name of 100 KB. Says `ready`, and stays.

use std::{
    env,
    future,
    io::{Read as _, Write as _},
    marker::PhantomData,
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use axum::{routing::get, Router};
use futures_util::{stream::FuturesUnordered, StreamExt as _};
use tokio::{net::TcpListener, sync::oneshot};

/// Waits for an answer that nobody gives.
async fn report() -> String {
    let (sender, receiver) = oneshot::channel::<String>();
    std::mem::forget(sender);
    query(receiver).await
}

async fn query(answer: oneshot::Receiver<String>) -> String {
    answer.await.unwrap()
}

async fn slow() -> &'static str {
    tokio::time::sleep(Duration::from_secs(3600)).await;
    "at last\n"
}

async fn gather() {
    let mut all: FuturesUnordered<_> = (0..3).map(|_| report()).collect();
    while all.next().await.is_some() {}
}

async fn naps() {
    let mut all: FuturesUnordered<_> = (0..3).map(|_| slow()).collect();
    while all.next().await.is_some() {}
}

/// Each has a name that is twice as long as the one before.
mod wide {
    pub type A = (u64, u64);
    pub type B = (A, A);
    pub type C = (B, B);
    pub type D = (C, C);
    pub type E = (D, D);
    pub type F = (E, E);
    pub type G = (F, F);
    pub type H = (G, G);
    pub type I = (H, H);
    pub type J = (I, I);
    pub type K = (J, J);
    pub type L = (K, K);
    pub type M = (L, L);
}

async fn wide<T>(_: PhantomData<T>) {
    report().await;
}

async fn fine() -> &'static str {
    "fine\n"
}

/// A connection with this request on it, which is kept.
fn ask(server: SocketAddr, path: &str, is_answered: bool) {
    let mut stream = TcpStream::connect(server).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: here\r\n\r\n").unwrap();
    if is_answered {
        let mut answer = [0; 1024];
        let length = stream.read(&mut answer).unwrap();
        assert!(answer[..length].ends_with(b"fine\n"));
    }
    std::mem::forget(stream);
}

#[tokio::main]
async fn main() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = listener.local_addr().unwrap();
    let routes = Router::new()
        .route("/report", get(report))
        .route("/slow", get(slow))
        .route("/fine", get(fine));
    tokio::spawn(async move { axum::serve(listener, routes).await });
    let runtime = tokio::runtime::Handle::current();
    let asked = tokio::task::spawn_blocking(move || {
        for argument in env::args().skip(1) {
            let (name, count) = argument.split_once('=').unwrap();
            let count: usize = count.parse().unwrap();
            let (path, is_answered) = match name {
                "hang" => ("/report", false),
                "slow" => ("/slow", false),
                "idle" => ("/fine", true),
                "gather" => {
                    (0..count).for_each(|_| drop(runtime.spawn(gather())));
                    continue;
                }
                "wide" => {
                    (0..count).for_each(|_| drop(runtime.spawn(wide(PhantomData::<wide::M>))));
                    continue;
                }
                "naps" => {
                    (0..count).for_each(|_| drop(runtime.spawn(naps())));
                    continue;
                }
                _ => panic!("there is no {name}"),
            };
            for _ in 0..count {
                ask(server, path, is_answered);
            }
        }
    });
    asked.await.unwrap();
    // Every connection has been served by then.
    tokio::time::sleep(Duration::from_millis(300)).await;
    println!("ready");
    future::pending::<()>().await;
}
