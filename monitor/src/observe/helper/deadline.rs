//! Deadlines in which time does not count that a busy machine kept somebody from running: reads and writes that wait for the
//! other side no longer than that, as it is no target's fault, and work that takes no longer, as its result is to be the same.

use std::{
    fs::File,
    io::{self, ErrorKind, Read, Write},
    os::unix::{fs::FileExt as _, net::UnixStream},
    time::{Duration, Instant},
};

/// So many times a deadline is waited at most, however busy the machine is.
const MOST: u32 = 4;
/// A wait is not shorter than that.
const SHORTEST: Duration = Duration::from_millis(1);

/// How long a thread has waited for a CPU: the second number of its `schedstat` in /proc
/// (Documentation/scheduler/sched-stats.rst).
#[derive(Debug)]
pub struct Starvation(Option<File>);

impl Starvation {
    /// Of the first thread of a process. Where the kernel does not tell, it is never starved.
    pub fn of(pid: u32) -> Self {
        Self(File::open(format!("/proc/{pid}/schedstat")).ok())
    }

    /// Of this thread.
    fn own() -> Self {
        Self(File::open("/proc/thread-self/schedstat").ok())
    }

    pub fn so_far(&self) -> Duration {
        let read = || {
            let mut text = [0; 80];
            let length = self.0.as_ref()?.read_at(&mut text, 0).ok()?;
            let text = std::str::from_utf8(text.get(..length)?).ok()?;
            text.split(' ').nth(1)?.parse().ok()
        };
        Duration::from_nanos(read().unwrap_or(0))
    }
}

/// Time that work on this thread may take.
#[derive(Debug)]
pub struct Allowance {
    begun: Instant,
    length: Duration,
    starvation: Starvation,
    before: Duration,
}

impl Allowance {
    pub fn of(length: Duration) -> Self {
        let starvation = Starvation::own();
        Self {
            begun: Instant::now(),
            length,
            before: starvation.so_far(),
            starvation,
        }
    }

    pub fn is_over(&self) -> bool {
        let elapsed = self.begun.elapsed();
        elapsed > self.length && {
            let starved = self.starvation.so_far().saturating_sub(self.before);
            elapsed > allowed(self.length, starved)
        }
    }
}

/// A deadline of this length for who has been starved for so long.
fn allowed(length: Duration, starved: Duration) -> Duration {
    (length + starved).min(length * MOST)
}

/// A stream with a deadline for each piece that is read or written.
pub struct Deadline<'a, F> {
    stream: &'a mut UnixStream,
    length: Duration,
    /// How long the other side has been starved so far.
    starved: F,
    before: Duration,
}

impl<'a, F: Fn() -> Duration> Deadline<'a, F> {
    pub fn new(stream: &'a mut UnixStream, length: Duration, starved: F) -> Self {
        let before = starved();
        Self {
            stream,
            length,
            starved,
            before,
        }
    }

    fn keep(
        &mut self,
        mut piece: impl FnMut(&mut UnixStream, Duration) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let begun = Instant::now();
        let mut left = self.length;
        loop {
            match piece(self.stream, left.max(SHORTEST)) {
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    let starved = (self.starved)().saturating_sub(self.before);
                    left = allowed(self.length, starved).saturating_sub(begun.elapsed());
                    if left.is_zero() {
                        return Err(error);
                    }
                }
                done => return done,
            }
        }
    }
}

impl<F: Fn() -> Duration> Read for Deadline<'_, F> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.keep(|stream, left| {
            stream.set_read_timeout(Some(left))?;
            stream.read(bytes)
        })
    }
}

impl<F: Fn() -> Duration> Write for Deadline<'_, F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.keep(|stream, left| {
            stream.set_write_timeout(Some(left))?;
            stream.write(bytes)
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, process::Command, thread};

    use super::*;

    const LENGTH: Duration = Duration::from_millis(50);

    /// How long a read lasts that nobody answers, while the other side is starved for so much of each 50 ms.
    fn waited(starved: Duration) -> Duration {
        let (mut stream, _other) = UnixStream::pair().unwrap();
        let asked = Cell::new(0);
        let so_far = || {
            asked.set(asked.get() + 1);
            starved * (asked.get() - 1)
        };
        let begun = Instant::now();
        let mut deadline = Deadline::new(&mut stream, LENGTH, so_far);
        let error = deadline.read(&mut [0]).unwrap_err();
        assert!(matches!(
            error.kind(),
            ErrorKind::WouldBlock | ErrorKind::TimedOut
        ));
        begun.elapsed()
    }

    #[test]
    fn who_is_starved_is_waited_for_but_not_for_ever() {
        let patience = waited(Duration::ZERO);
        assert!(patience >= LENGTH && patience < LENGTH * 3, "{patience:?}");
        // 50 ms and then 50 ms for each 50 ms: up to 200.
        let patience = waited(LENGTH);
        assert!(patience >= LENGTH * MOST, "{patience:?}");
    }

    #[test]
    fn a_late_answer_of_the_starved_is_read() {
        let (mut stream, mut other) = UnixStream::pair().unwrap();
        let late = thread::spawn(move || {
            thread::sleep(LENGTH * 2);
            other.write_all(b"late").unwrap();
        });
        let begun = Instant::now();
        let mut bytes = [0; 4];
        Deadline::new(&mut stream, LENGTH, || begun.elapsed())
            .read_exact(&mut bytes)
            .unwrap();
        assert_eq!(&bytes, b"late");
        late.join().unwrap();
    }

    #[test]
    fn work_may_take_longer_on_a_busy_machine() {
        assert_eq!(allowed(LENGTH, Duration::ZERO), LENGTH);
        assert_eq!(allowed(LENGTH, LENGTH), LENGTH * 2);
        assert_eq!(allowed(LENGTH, LENGTH * 100), LENGTH * MOST);
        // Who sleeps is not kept from running.
        let allowance = Allowance::of(LENGTH);
        assert!(!allowance.is_over());
        thread::sleep(LENGTH * 2);
        assert!(allowance.is_over(), "{allowance:?}");
    }

    #[test]
    fn the_kernel_tells_how_long_a_process_had_to_wait() {
        // Two that want the same CPU all the time.
        let spin = || {
            let mut command = Command::new("taskset");
            command.args(["-c", "0", "sh", "-c", "while :; do :; done"]);
            command.spawn().unwrap()
        };
        let mut both = [spin(), spin()];
        let starvation = Starvation::of(both[0].id());
        let begun = Instant::now();
        while starvation.so_far() < LENGTH && begun.elapsed() < Duration::from_secs(20) {
            thread::sleep(LENGTH / 5);
        }
        let starved = starvation.so_far();
        for child in &mut both {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        assert!(starved >= LENGTH, "{starved:?}");
        // Of who is gone, and of nobody, nothing is known.
        assert_eq!(starvation.so_far(), Duration::ZERO);
        assert_eq!(Starvation::of(u32::MAX).so_far(), Duration::ZERO);
    }
}
