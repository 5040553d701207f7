//! Processes, task by task: when each is born, waits, comes back and ends. Time in seconds.

use fastrand::Rng;

/// Waits from here on are counted as blocked.
pub const THRESHOLD: f64 = 60.0;
const DAY: f64 = 86_400.0;
const HOUR: f64 = 3600.0;

/// A live task.
#[derive(Clone, Copy, Debug)]
pub struct Task {
    pub id: u64,
    /// Since when it waits; `None` while it works.
    pub waits_since: Option<f64>,
    /// When it wakes up or ends; infinite for what does neither.
    until: f64,
    /// Whether it ends when its wait does.
    ends: bool,
}

/// What a process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A fixed number of workers; the one that was idle last works next.
    IdlePool,
    /// Workers are made when all are busy; the load rises for an hour and has peaks.
    GrowingPool,
    /// The same under a load that rises and falls with the day.
    Wave,
    /// The same, started anew every few hours.
    Restarts,
    /// Now and then some tens of tasks wait for minutes, and end.
    Bursts,
    /// Tasks come, wait for a slow backend, and go.
    Queue,
    /// Every hour some tens of tasks, for up to twenty minutes.
    Batch,
    /// A task a connection; connections come and go with the day, and talk every minute or so.
    Connections,
    /// Workers that are made when first needed, and then wait for good.
    WarmUp,
    LeakHourly,
    LeakMinutely,
    /// The same, from the start of its process on.
    LeakYoung,
    LeakSecondly,
    /// One a minute in the group of a pool under a wave.
    LeakUnderWave,
    /// Three a minute, two of which end after some minutes.
    LeakPartly,
    /// Ten at once, every half hour.
    LeakSteps,
    /// One a minute that never waits for long.
    LeakTicking,
}

impl Kind {
    pub const HEALTHY: [Self; 9] = [
        Self::IdlePool,
        Self::GrowingPool,
        Self::Wave,
        Self::Restarts,
        Self::Bursts,
        Self::Queue,
        Self::Batch,
        Self::Connections,
        Self::WarmUp,
    ];
    pub const LEAKS: [Self; 8] = [
        Self::LeakHourly,
        Self::LeakMinutely,
        Self::LeakYoung,
        Self::LeakSecondly,
        Self::LeakUnderWave,
        Self::LeakPartly,
        Self::LeakSteps,
        Self::LeakTicking,
    ];

    /// How long a leaking process does well before.
    pub fn healthy_for(self) -> f64 {
        match self {
            Self::LeakYoung => 0.0,
            _ if Self::LEAKS.contains(&self) => 2.0 * HOUR,
            _ => 0.0,
        }
    }

    /// How long a leak is watched at most.
    pub fn watched(self) -> f64 {
        match self {
            Self::LeakHourly => 2.0 * DAY,
            Self::LeakSteps | Self::LeakUnderWave => DAY,
            Self::LeakMinutely | Self::LeakYoung | Self::LeakTicking | Self::LeakPartly => 4.0 * HOUR,
            Self::LeakSecondly => HOUR,
            _ => DAY,
        }
    }
}

/// A pool of workers that wait for jobs.
struct Pool {
    least: usize,
    most: usize,
    /// The one that was idle longest works next, not the one that was idle last.
    fifo: bool,
    /// Seconds of work in a job.
    job: f64,
    /// Jobs a second at its busiest.
    rate: f64,
}

/// A simulated process.
pub struct Process {
    kind: Kind,
    random: Rng,
    pub tasks: Vec<Task>,
    next_id: u64,
    pool: Option<Pool>,
    /// When the next task (burst, leak) comes.
    next: f64,
    mean_wait: f64,
    mean_gap: f64,
    now: f64,
    phase: f64,
    restart_at: f64,
    /// When it was started.
    pub started: f64,
    unborn: usize,
}

impl Process {
    pub fn new(kind: Kind, seed: u64) -> Self {
        let mut random = Rng::with_seed(seed);
        let between = |random: &mut Rng, low: f64, high: f64| low * (high / low).powf(random.f64());
        let pool = |random: &mut Rng, least: usize| {
            let most = between(random, 8.0, 500.0) as usize;
            let job = between(random, 0.01, 20.0);
            Pool {
                least: least.min(most),
                most,
                fifo: random.bool(),
                job,
                rate: between(random, 0.05, 0.7) * most as f64 / job,
            }
        };
        let pool = match kind {
            Kind::IdlePool => Some(pool(&mut random, usize::MAX)),
            Kind::GrowingPool | Kind::Wave | Kind::Restarts | Kind::LeakUnderWave => {
                Some(pool(&mut random, 4))
            }
            _ => None,
        };
        let (mean_gap, mean_wait) = match kind {
            Kind::Bursts => (
                between(&mut random, HOUR, 8.0 * HOUR),
                between(&mut random, 60.0, 400.0),
            ),
            Kind::Queue => (
                between(&mut random, 1.0, 120.0),
                between(&mut random, 20.0, 600.0),
            ),
            Kind::Batch => (HOUR, between(&mut random, 120.0, 1200.0)),
            Kind::Connections => (
                between(&mut random, 5.0, 60.0),
                between(&mut random, 300.0, 1800.0),
            ),
            Kind::WarmUp => (between(&mut random, 4.0, 60.0), f64::INFINITY),
            Kind::LeakHourly => (HOUR, f64::INFINITY),
            Kind::LeakMinutely | Kind::LeakYoung | Kind::LeakTicking | Kind::LeakUnderWave => {
                (60.0, f64::INFINITY)
            }
            Kind::LeakSecondly => (1.0, f64::INFINITY),
            Kind::LeakPartly => (20.0, 200.0),
            Kind::LeakSteps => (HOUR / 2.0, f64::INFINITY),
            _ => (f64::INFINITY, 0.0),
        };
        let phase = random.f64();
        let mut process = Self {
            kind,
            tasks: Vec::new(),
            next_id: 0,
            pool,
            next: 0.0,
            mean_wait,
            mean_gap,
            now: 0.0,
            phase,
            restart_at: f64::INFINITY,
            started: 0.0,
            unborn: random.usize(8..64),
            random,
        };
        process.start(0.0);
        process
    }

    fn start(&mut self, now: f64) {
        self.tasks.clear();
        self.started = now;
        if self.kind == Kind::Restarts {
            self.restart_at = now + HOUR * (1.0 + 11.0 * self.random.f64());
        }
        let least = self.pool.as_ref().map_or(0, |pool| pool.least);
        for _ in 0..least {
            self.add(Some(now), f64::INFINITY, false);
        }
        // Leaks begin when whatever there is in a start is over.
        self.next = now + self.kind.healthy_for() + self.gap();
    }

    fn add(&mut self, waits_since: Option<f64>, until: f64, ends: bool) {
        self.next_id += 1;
        self.tasks.push(Task {
            id: self.next_id,
            waits_since,
            until,
            ends,
        });
    }

    fn exponential(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.random.f64()).ln()
    }

    fn gap(&mut self) -> f64 {
        match self.kind {
            Kind::Batch | Kind::LeakSteps => self.mean_gap,
            Kind::WarmUp => self.exponential(self.mean_gap / self.unborn.max(1) as f64 * 8.0),
            Kind::Connections => {
                let load = self.day();
                self.exponential(self.mean_gap / load)
            }
            _ => self.exponential(self.mean_gap),
        }
    }

    /// Load of the hour, from 0.1 to 1.
    fn day(&self) -> f64 {
        let angle = (self.now / DAY + self.phase) * std::f64::consts::TAU;
        0.55 + 0.45 * angle.sin()
    }

    /// On to `now`.
    pub fn advance(&mut self, now: f64) {
        if now >= self.restart_at {
            self.start(now);
        }
        let step = now - self.now;
        self.now = now;
        self.wake(now);
        self.work(now, step);
        while self.next <= now {
            let at = self.next;
            self.arrive(at);
            self.next = at + self.gap();
        }
    }

    fn wake(&mut self, now: f64) {
        let talks = self.kind == Kind::Connections;
        let mut index = 0;
        while let Some(task) = self.tasks.get_mut(index) {
            if task.until <= now {
                if task.ends {
                    self.tasks.swap_remove(index);
                    continue;
                }
                task.waits_since = Some(task.until);
                task.until = f64::INFINITY;
            }
            // It answers, and waits for the next request.
            if talks && self.random.f64() < 0.15 {
                task.waits_since = Some(now);
            }
            index += 1;
        }
    }

    /// Gives the jobs of a step to workers.
    fn work(&mut self, now: f64, step: f64) {
        let Some(pool) = &self.pool else { return };
        let load = match self.kind {
            Kind::GrowingPool | Kind::Restarts => {
                (0.2 + now / HOUR).min(1.0) * (0.5 + 0.5 * self.random.f64())
            }
            Kind::Wave | Kind::LeakUnderWave => self.day() * (0.8 + 0.4 * self.random.f64()),
            _ => 0.3 + 0.2 * self.random.f64(),
        };
        let (rate, job, most, fifo) = (pool.rate * load, pool.job, pool.most, pool.fifo);
        // Of jobs shorter than a step only the workers that they keep busy at once are told: as many as arrive in the
        // time of one.
        let (jobs, lasts) = if job < step {
            (self.poisson(rate * job), step)
        } else {
            (self.poisson(rate * step), job)
        };
        for _ in 0..jobs {
            let idle = self
                .tasks
                .iter_mut()
                .filter(|task| !task.ends && task.waits_since.is_some() && task.until.is_infinite());
            let since = |task: &&mut Task| task.waits_since.unwrap_or(0.0);
            let chosen = if fifo {
                idle.min_by(|a, b| since(a).total_cmp(&since(b)))
            } else {
                idle.max_by(|a, b| since(a).total_cmp(&since(b)))
            };
            let until = now
                + if job < step {
                    lasts * 0.5
                } else {
                    -lasts * (1.0 - self.random.f64()).ln()
                };
            if let Some(task) = chosen {
                task.waits_since = None;
                task.until = until;
            } else if self.tasks.len() < most {
                self.add(None, until, false);
            }
        }
    }

    fn poisson(&mut self, mean: f64) -> usize {
        if mean > 50.0 {
            // As good as normal.
            let sum: f64 = (0..12).map(|_| self.random.f64()).sum::<f64>() - 6.0;
            return (mean + sum * mean.sqrt()).max(0.0) as usize;
        }
        let limit = (-mean).exp();
        let (mut product, mut count) = (1.0, 0);
        loop {
            product *= self.random.f64();
            if product <= limit {
                return count;
            }
            count += 1;
        }
    }

    fn arrive(&mut self, at: f64) {
        match self.kind {
            Kind::Bursts => {
                let spread = 10.0 + 200.0 * self.random.f64();
                for _ in 0..self.random.usize(10..80) {
                    let begins = at + spread * self.random.f64();
                    let lasts = self.mean_wait + self.exponential(self.mean_wait);
                    self.add(Some(begins), begins + lasts, true);
                }
            }
            Kind::Batch => {
                for _ in 0..self.random.usize(10..60) {
                    let begins = at + 30.0 * self.random.f64();
                    let lasts = self.mean_wait * (0.5 + self.random.f64());
                    self.add(Some(begins), begins + lasts, true);
                }
            }
            Kind::Queue | Kind::Connections => {
                let lasts = self.exponential(self.mean_wait);
                self.add(Some(at), at + lasts, true);
            }
            Kind::WarmUp => {
                if self.unborn > 0 {
                    self.unborn -= 1;
                    self.leak(at);
                }
            }
            Kind::LeakPartly => {
                if self.random.f64() < 1.0 / 3.0 {
                    self.leak(at);
                } else {
                    let lasts = self.exponential(self.mean_wait);
                    self.add(Some(at), at + lasts, true);
                }
            }
            Kind::LeakSteps => (0..10).for_each(|_| self.leak(at)),
            Kind::LeakTicking => self.add(None, f64::INFINITY, true),
            _ => self.leak(at),
        }
    }

    /// A task that waits for ever. (One that ends: nobody gives it a job.)
    fn leak(&mut self, at: f64) {
        self.add(Some(at), f64::INFINITY, true);
    }

    /// Tasks that have waited for the threshold.
    pub fn blocked(&self) -> usize {
        let old = |task: &&Task| {
            task.waits_since
                .is_some_and(|since| self.now - since >= THRESHOLD)
        };
        self.tasks.iter().filter(old).count()
    }
}
