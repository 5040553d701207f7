//! Tasks that wait for what never comes.

use std::{
    future::{self, Future},
    pin::Pin,
    sync::{
        atomic::{AtomicBool, Ordering},
        Arc,
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{broadcast, mpsc, oneshot, watch, Barrier, Mutex, Notify, RwLock, Semaphore},
    task::JoinHandle,
};

/// Keeps what somebody waits for: never sent to, never closed.
fn keep<T>(value: T) {
    std::mem::forget(value);
}

pub fn start(name: &str, count: usize) -> bool {
    match name {
        "mpsc_recv" => (0..count).for_each(|_| {
            let (sender, receiver) = mpsc::channel(1);
            keep(sender);
            tokio::spawn(mpsc_recv(receiver));
        }),
        "unbounded_recv" => (0..count).for_each(|_| {
            let (sender, receiver) = mpsc::unbounded_channel();
            keep(sender);
            tokio::spawn(unbounded_recv(receiver));
        }),
        "mpsc_send" => {
            let (sender, receiver) = mpsc::channel(1);
            sender.try_send(0).unwrap();
            keep(receiver);
            (0..count).for_each(|_| {
                tokio::spawn(mpsc_send(sender.clone()));
            });
        }
        "oneshot" => (0..count).for_each(|_| {
            let (sender, receiver) = oneshot::channel();
            keep(sender);
            tokio::spawn(oneshot_recv(receiver));
        }),
        "watch" => {
            let (sender, receiver) = watch::channel(0);
            keep(sender);
            (0..count).for_each(|_| {
                tokio::spawn(watch_changed(receiver.clone()));
            });
        }
        "broadcast" => {
            let (sender, _) = broadcast::channel(1);
            (0..count).for_each(|_| {
                tokio::spawn(broadcast_recv(sender.subscribe()));
            });
            keep(sender);
        }
        "mutex" => {
            let lock = Arc::new(Mutex::new(0));
            keep(lock.clone().try_lock_owned().unwrap());
            (0..count).for_each(|_| {
                tokio::spawn(mutex_lock(lock.clone()));
            });
        }
        "rwlock" => {
            let lock = Arc::new(RwLock::new(0));
            keep(lock.clone().try_write_owned().unwrap());
            (0..count).for_each(|_| {
                tokio::spawn(rwlock_read(lock.clone()));
            });
        }
        "semaphore" => {
            let semaphore = Arc::new(Semaphore::new(0));
            (0..count).for_each(|_| {
                tokio::spawn(semaphore_acquire(semaphore.clone()));
            });
        }
        "notify" => {
            let notify = Arc::new(Notify::new());
            (0..count).for_each(|_| {
                tokio::spawn(notified(notify.clone()));
            });
        }
        "barrier" => {
            let barrier = Arc::new(Barrier::new(count + 1));
            (0..count).for_each(|_| {
                tokio::spawn(barrier_wait(barrier.clone()));
            });
        }
        "join" => (0..count).for_each(|_| {
            tokio::spawn(join_two());
        }),
        "select" => (0..count).for_each(|_| {
            let (sender, receiver) = mpsc::channel(1);
            keep(sender);
            tokio::spawn(select_two(receiver));
        }),
        "boxed" => (0..count).for_each(|_| {
            tokio::spawn(boxed(3));
        }),
        "dyn_future" => (0..count).for_each(|number| {
            tokio::spawn(dyn_future(number));
        }),
        "join_handle" => (0..count).for_each(|_| {
            let child = tokio::spawn(never());
            tokio::spawn(join_handle(child));
        }),
        "forgotten" => (0..count).for_each(|number| {
            tokio::spawn(forgotten(number));
        }),
        "tcp_read" => (0..count).for_each(|_| {
            tokio::spawn(tcp_read());
        }),
        "accept" => (0..count).for_each(|_| {
            tokio::spawn(accept());
        }),
        "local" => (0..count).for_each(|_| {
            let (sender, receiver) = oneshot::channel();
            keep(sender);
            tokio::task::spawn_local(local_oneshot(receiver));
        }),
        "leak" => (0..count).for_each(|_| {
            tokio::spawn(leak());
        }),
        "blocks" => (0..count).for_each(|_| two_blocks()),
        "twins" => (0..=count).for_each(|number| {
            tokio::spawn(twin(number == count));
        }),
        _ => return false,
    }
    true
}

fn two_blocks() {
    let (sender, mut receiver) = mpsc::channel::<u8>(1);
    keep(sender);
    tokio::spawn(async move {
        let value = receiver.recv().await;
        keep(value);
    });
    let (sender, receiver) = oneshot::channel::<u8>();
    keep(sender);
    tokio::spawn(async move {
        let value = receiver.await;
        keep(value);
    });
}

async fn mpsc_recv(mut receiver: mpsc::Receiver<u32>) -> u32 {
    let mut sum = 0;
    while let Some(value) = receiver.recv().await {
        sum += value;
    }
    sum
}

async fn unbounded_recv(mut receiver: mpsc::UnboundedReceiver<u32>) -> Option<u32> {
    receiver.recv().await
}

async fn mpsc_send(sender: mpsc::Sender<u32>) {
    sender.send(1).await.unwrap();
}

async fn oneshot_recv(receiver: oneshot::Receiver<u32>) -> u32 {
    receiver.await.unwrap()
}

async fn watch_changed(mut receiver: watch::Receiver<u32>) {
    receiver.changed().await.unwrap();
}

async fn broadcast_recv(mut receiver: broadcast::Receiver<u32>) -> u32 {
    receiver.recv().await.unwrap()
}

async fn mutex_lock(lock: Arc<Mutex<u32>>) {
    let mut guard = lock.lock().await;
    *guard += 1;
}

async fn rwlock_read(lock: Arc<RwLock<u32>>) -> u32 {
    *lock.read().await
}

async fn semaphore_acquire(semaphore: Arc<Semaphore>) {
    semaphore.acquire().await.unwrap().forget();
}

async fn notified(notify: Arc<Notify>) {
    notify.notified().await;
}

async fn barrier_wait(barrier: Arc<Barrier>) {
    barrier.wait().await;
}

async fn leaf(number: u32) -> u32 {
    let (sender, receiver) = oneshot::channel::<u32>();
    let value = receiver.await.unwrap_or(number);
    drop(sender);
    value
}

async fn join_two() -> u32 {
    let (one, two) = tokio::join!(leaf(1), leaf(2));
    one + two
}

async fn select_two(mut receiver: mpsc::Receiver<u32>) -> u32 {
    tokio::select! {
        value = receiver.recv() => value.unwrap_or(0),
        value = leaf(3) => value,
    }
}

fn boxed(depth: u32) -> Pin<Box<dyn Future<Output = u32> + Send>> {
    Box::pin(async move {
        match depth {
            0 => leaf(4).await,
            _ => boxed(depth - 1).await + 1,
        }
    })
}

trait Service: Send + Sync {
    fn call(&self) -> Pin<Box<dyn Future<Output = u32> + Send + '_>>;
}

struct Deaf;
struct Hollow;

impl Service for Deaf {
    fn call(&self) -> Pin<Box<dyn Future<Output = u32> + Send + '_>> {
        Box::pin(leaf(5))
    }
}

impl Service for Hollow {
    fn call(&self) -> Pin<Box<dyn Future<Output = u32> + Send + '_>> {
        Box::pin(async {
            future::pending::<()>().await;
            0
        })
    }
}

async fn dyn_future(number: usize) -> u32 {
    let service: Box<dyn Service> = match number % 2 {
        0 => Box::new(Deaf),
        _ => Box::new(Hollow),
    };
    service.call().await
}

async fn never() {
    future::pending().await
}

/// Nobody has its handle, and nobody can wake it.
async fn forgotten(number: usize) {
    future::pending::<()>().await;
    std::hint::black_box(number);
}

async fn join_handle(child: JoinHandle<()>) {
    child.await.unwrap();
}

async fn tcp_read() -> usize {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (server, _) = listener.accept().await.unwrap();
    keep(server);
    client.write_all(b"anybody there?").await.unwrap();
    let mut answer = [0; 64];
    client.read(&mut answer).await.unwrap()
}

async fn accept() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (stream, _) = listener.accept().await.unwrap();
    keep(stream);
}

/// Makes a task five times a second that waits for ever.
async fn leak() {
    loop {
        tokio::time::sleep(Duration::from_millis(200)).await;
        tokio::spawn(leaked());
    }
}

async fn leaked() -> u32 {
    leaf(6).await
}

async fn local_oneshot(receiver: oneshot::Receiver<u32>) -> u32 {
    let local = std::rc::Rc::new(1);
    let value = receiver.await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    *local + value
}

/// Once it is set, twins that are to be busy are.
pub static BUSY: AtomicBool = AtomicBool::new(false);

/// Is stuck, or runs as often as it can from when it is told to: both are one type.
async fn twin(is_busy: bool) {
    if is_busy {
        while !BUSY.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        loop {
            tokio::task::yield_now().await;
        }
    }
    let (sender, receiver) = oneshot::channel::<u32>();
    keep(sender);
    let _ = receiver.await;
}
