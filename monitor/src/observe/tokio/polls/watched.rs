//! How long a task was seen not to be polled. Pure.

/// A task that is watched, or was until its function was left alone for a while. What is found out then is not lost: times
/// in which it was watched and not polled add up, and what lies between them is not counted.
pub struct Watched {
    pub id: u64,
    /// CLOCK_MONOTONIC ns, as all times here: what is known of it begins there.
    begun: u64,
    /// ns for which it was watched since then, the last time aside.
    before: u64,
    watch: Option<Watch>,
}

#[derive(Clone, Copy)]
struct Watch {
    /// It was not polled since then.
    since: u64,
    /// The place of its poll function in the file.
    offset: u64,
}

impl Watched {
    pub const fn new(id: u64, offset: u64, now: u64) -> Self {
        Self {
            id,
            begun: now,
            before: 0,
            watch: Some(Watch { since: now, offset }),
        }
    }

    /// It is watched again.
    pub const fn resume(&mut self, offset: u64, now: u64) {
        self.watch = Some(Watch { since: now, offset });
    }

    /// It was polled.
    pub fn polled(&mut self, at: u64) {
        if at <= self.begun {
            return;
        }
        (self.begun, self.before) = (at, 0);
        if let Some(watch) = &mut self.watch {
            watch.since = watch.since.max(at);
        }
    }

    /// It is not watched any more. Whether it was polled until now must have been told.
    pub fn rest(&mut self, now: u64) {
        if let Some(watch) = self.watch.take() {
            self.before += now.saturating_sub(watch.since);
        }
    }

    pub const fn is_watched(&self) -> bool {
        self.watch.is_some()
    }

    /// Since when it is watched, and was not polled.
    pub fn since(&self) -> Option<u64> {
        self.watch.map(|watch| watch.since)
    }

    /// The place of the function in which it is watched.
    pub fn offset(&self) -> Option<u64> {
        self.watch.map(|watch| watch.offset)
    }

    /// ns for which it was watched and not polled; `same_since`: its bytes have not changed since then. `None` when
    /// nothing is known.
    pub fn unpolled(&self, same_since: u64, now: u64) -> Option<u64> {
        let before = Some(self.before).filter(|_| same_since <= self.begun);
        let lately = self
            .watch
            .map(|watch| now.saturating_sub(watch.since.max(same_since)));
        match (before, lately) {
            (None, None) => None,
            (before, lately) => Some(before.unwrap_or(0) + lately.unwrap_or(0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_in_which_it_was_watched_add_up() {
        let mut watched = Watched::new(1, 8, 100);
        assert_eq!(watched.unpolled(50, 130), Some(30));
        watched.rest(150);
        assert_eq!(
            (watched.unpolled(50, 900), watched.is_watched()),
            (Some(50), false)
        );
        watched.resume(8, 1_000);
        assert_eq!(watched.unpolled(50, 1_020), Some(70));
        watched.rest(1_030);
        watched.rest(1_090);
        assert_eq!(watched.unpolled(50, 2_000), Some(80));
    }

    #[test]
    fn a_poll_begins_all_anew() {
        let mut watched = Watched::new(1, 8, 100);
        // Of the task that lay there before.
        watched.polled(90);
        assert_eq!(watched.unpolled(0, 150), Some(50));
        watched.polled(160);
        assert_eq!(watched.unpolled(0, 200), Some(40));
        watched.rest(200);
        watched.resume(8, 300);
        watched.polled(320);
        assert_eq!(watched.unpolled(0, 330), Some(10));
    }

    #[test]
    fn so_does_a_change_of_its_bytes() {
        let mut watched = Watched::new(1, 8, 100);
        watched.rest(200);
        assert_eq!(watched.unpolled(100, 250), Some(100));
        assert_eq!(watched.unpolled(240, 250), None);
        watched.resume(8, 300);
        assert_eq!(watched.unpolled(240, 350), Some(50));
        assert_eq!(watched.unpolled(340, 350), Some(10));
    }
}
