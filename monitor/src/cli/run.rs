//! `taskleak run`: the daemon. A thread sweeps; the main thread serves what it found.

use std::{
    io::Read as _,
    os::{fd::AsFd as _, unix::net::UnixStream},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow};
use clap::Args;
use sd_notify::NotifyState;
use tokio::{
    net::{TcpListener, UnixListener},
    signal::unix::{SignalKind, signal},
    sync::{oneshot, watch},
};

use super::{Failure, permissions, snapshot::require_pids};
use crate::{
    config::{self, JudgeOptions, RunConfig, RunOptions, Watch},
    export::{
        http::{self, Asker, Order, Published, Token, token},
        json::Detail,
    },
    model::Snapshot,
    pipeline::Monitor,
    scheduling,
};

/// How long open connections may delay the end.
const GRACE: Duration = Duration::from_millis(300);

/// How often the state file is written.
const STORE_EVERY: Duration = Duration::from_secs(60);

/// After so many intervals without a finished sweep `/readyz` says so.
const STALE_INTERVALS: u32 = 3;

/// Watch, and export what is blocked: metrics, a JSON API and a page
#[derive(Args)]
pub struct RunCommand {
    #[command(flatten)]
    watch: Watch,
    #[command(flatten)]
    options: RunOptions,
    #[command(flatten)]
    judging: JudgeOptions,
    /// Read options from this TOML file; keys are the flags' names
    #[arg(long, env = "TASKLEAK_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Check flags, environment and file, and end
    #[arg(long)]
    config_check: bool,
}

type Publisher = watch::Sender<Arc<Published>>;

impl RunCommand {
    pub fn execute(&self) -> Result<ExitCode> {
        let (mut watch, mut options, mut judging) =
            (self.watch.clone(), self.options.clone(), self.judging.clone());
        if let Some(path) = &self.config {
            config::merge_file(path, &mut watch, &mut options, &mut judging).map_err(Failure::from)?;
        }
        let config = options.check(&watch, &judging).map_err(Failure::from)?;
        if self.config_check {
            println!("The configuration is fine.");
            return Ok(ExitCode::SUCCESS);
        }
        let token = config
            .token_file
            .as_deref()
            .map(token::read)
            .transpose()
            .map_err(Failure::from)?;
        check_watchdog(config.interval)?;
        permissions::check()?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        // Before the probes: a port in use is the commonest mistake.
        let listener = runtime.block_on(http::bind(config.listen))?;
        let socket = config.socket.as_deref().map(|path| {
            let _inside = runtime.enter();
            http::bind_socket(path)
        });
        let socket = socket.transpose()?;
        let mut monitor = Monitor::start(config.monitor.clone()).map_err(Failure::from)?;
        if let Some(path) = &config.state_file {
            monitor
                .load_state(path)
                .map_err(|error| cannot_keep(path, &error))?;
        }
        let first = monitor.pass().context("the first sweep failed")?;
        require_pids(&monitor, &first)?;
        // Better now than when it is needed.
        if let Some(path) = &config.state_file {
            monitor
                .store_state(path)
                .map_err(|error| cannot_keep(path, &error))?;
        }
        let served = runtime.block_on(serve(monitor, first, (listener, token), socket, &config));
        if let Some(path) = &config.socket {
            let _ = std::fs::remove_file(path);
        }
        served?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Sweeps and serves until a signal comes or the sweeping fails.
async fn serve(
    monitor: Monitor,
    first: Snapshot,
    (listener, token): (TcpListener, Option<Token>),
    socket: Option<UnixListener>,
    config: &RunConfig,
) -> Result<()> {
    // Before anybody is told that we are ready, and may want us to end.
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let address = listener.local_addr()?;
    tracing::info!(
        "watching {} processes; http://{address}/ shows what is blocked",
        first.processes.len()
    );
    let (publish, latest) = watch::channel(Arc::new(Published::new(first)));
    let (asker, orders, woken) = Asker::new()?;
    let (failed, failure) = oneshot::channel();
    let interval = config.interval;
    let state_file = config.state_file.clone();
    let sweeper = std::thread::Builder::new()
        .name("sweeper".to_owned())
        .spawn(move || {
            let _ = scheduling::give_way();
            let orders = Orders { orders, woken };
            if let Err(error) = sweep(monitor, &publish, interval, state_file.as_deref(), &orders) {
                let _ = failed.send(error);
            }
        })?;
    let (stop_serving, serving_stopped) = watch::channel(());
    let stopped_serving = || {
        let mut stopped = serving_stopped.clone();
        async move {
            // An error: the sender is gone.
            let _ = stopped.changed().await;
        }
    };
    let settings = http::Settings {
        asker: asker.clone(),
        threshold: config.monitor.threshold,
        hosts: Some(
            config
                .allowed_hosts
                .iter()
                .map(|host| host.to_ascii_lowercase())
                .collect(),
        ),
        stale: config.interval * STALE_INTERVALS + GRACE,
        detail: config.detail,
        token,
    };
    let mut servers = tokio::task::JoinSet::new();
    if let Some(socket) = socket {
        // Who may open it may see everything.
        let settings = http::Settings {
            hosts: None,
            token: None,
            detail: Detail::Stacks,
            ..settings.clone()
        };
        servers.spawn(http::serve(socket, latest.clone(), settings, stopped_serving()));
    }
    servers.spawn(http::serve(listener, latest, settings, stopped_serving()));
    tell_systemd(NotifyState::Ready);
    let ended = tokio::select! {
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        failure = failure => Err(failure.unwrap_or_else(|_| anyhow!("the sweeping thread has ended unexpectedly"))),
    };
    tell_systemd(NotifyState::Stopping);
    asker.stop();
    drop(stop_serving);
    let _ = tokio::time::timeout(GRACE, servers.join_all()).await;
    sweeper
        .join()
        .map_err(|_| anyhow!("the sweeping thread panicked"))?;
    ended
}

/// Does nothing when systemd has not started us (`Type=notify`).
fn tell_systemd(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!("systemd cannot be told how we are: {error}");
    }
}

/// The watchdog hears of each sweep: it must have the patience for some.
fn check_watchdog(interval: Duration) -> Result<(), Failure> {
    match sd_notify::watchdog_enabled() {
        Some(patience) if patience < interval * STALE_INTERVALS => Err(Failure::Usage(format!(
            "systemd's watchdog waits {} only: set WatchdogSec= of the unit to {STALE_INTERVALS} times the interval ({}) \
             or more",
            humantime::format_duration(patience),
            humantime::format_duration(interval),
        ))),
        _ => Ok(()),
    }
}

fn cannot_keep(path: &Path, error: &std::io::Error) -> Failure {
    Failure::Usage(format!(
        "the state file {} cannot be kept: {error}",
        path.display()
    ))
}

/// What others ask of the thread that sweeps.
struct Orders {
    orders: mpsc::Receiver<Order>,
    /// Readable when there are some.
    woken: UnixStream,
}

impl Orders {
    /// Waits for so long, and does meanwhile what is asked. Whether the next pass is to be made.
    fn serve_for(&self, monitor: &mut Monitor, span: Duration) -> Result<bool> {
        let until = Instant::now() + span;
        while monitor.wait(
            until.saturating_duration_since(Instant::now()),
            Some(self.woken.as_fd()),
        )? {
            // It does not block, and what it says is in the orders.
            let _ = (&self.woken).read(&mut [0; 64]);
            while let Ok(order) = self.orders.try_recv() {
                match order {
                    Order::Stop => return Ok(false),
                    Order::Tasks(_, _, reply) if reply.is_closed() => {}
                    Order::Tasks(pid, format, reply) => {
                        let mut told = monitor.tasks(pid);
                        if let Ok(Some(told)) = told.as_mut()
                            && format.has_modules()
                        {
                            monitor.tell_modules(told);
                        }
                        // Nobody may wait any more.
                        let _ = reply.send(told);
                    }
                }
            }
        }
        Ok(true)
    }
}

fn sweep(
    mut monitor: Monitor,
    publish: &Publisher,
    interval: Duration,
    state_file: Option<&Path>,
    orders: &Orders,
) -> Result<()> {
    let mut stored = Instant::now();
    let store = |monitor: &Monitor| {
        if let Some(path) = state_file
            && let Err(error) = monitor.store_state(path)
        {
            tracing::warn!("{:#}", cannot_keep(path, &error));
        }
    };
    // A regular interval could keep step with a program's own and never see it run.
    while orders.serve_for(&mut monitor, interval.mul_f64(0.9 + 0.2 * fastrand::f64()))? {
        let snapshot = monitor.pass().context("a sweep failed")?;
        publish.send_replace(Arc::new(Published::new(snapshot)));
        tell_systemd(NotifyState::Watchdog);
        if stored.elapsed() >= STORE_EVERY {
            store(&monitor);
            stored = Instant::now();
        }
    }
    store(&monitor);
    Ok(())
}
