//! What is to be seen of a scenario from outside.

/// As taskleak classes a wait: for the world, or for its own program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    External,
    Internal,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Each of its threads waits for good.
    Blocked {
        /// The system call (`page_fault` where there is none).
        reason: &'static str,
        class: Class,
    },
    /// None of its threads is ever to be counted.
    Healthy,
}

/// What `NAME=COUNT` starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scenario {
    pub name: &'static str,
    pub expect: Expect,
    /// The function of its own that makes the blocking call; empty where a library's own thread waits.
    pub block_site: &'static str,
    /// Threads for each one of the count.
    pub threads_each: usize,
    /// How many of its threads, whatever the count, wait with a timeout that is renewed for ever: for good,
    /// and yet not to be told from a ticker by the wait alone. So it is in JDK 17; a newer one may wait
    /// without.
    pub renewed: usize,
    /// The wait has a timeout, but one of a day or more: it counts as none.
    pub long_timeout: bool,
}

impl Scenario {
    pub(crate) const fn leak(
        name: &'static str,
        reason: &'static str,
        class: Class,
        block_site: &'static str,
    ) -> Self {
        let expect = Expect::Blocked { reason, class };
        Self {
            name,
            expect,
            block_site,
            threads_each: 1,
            renewed: 0,
            long_timeout: false,
        }
    }

    pub(crate) const fn healthy(name: &'static str, block_site: &'static str) -> Self {
        Self {
            name,
            expect: Expect::Healthy,
            block_site,
            threads_each: 1,
            renewed: 0,
            long_timeout: false,
        }
    }

    pub(crate) const fn with_long_timeout(self) -> Self {
        Self {
            long_timeout: true,
            ..self
        }
    }

    pub(crate) const fn in_pairs(self) -> Self {
        Self {
            threads_each: 2,
            ..self
        }
    }

    pub(crate) const fn with_renewed(self, renewed: usize) -> Self {
        Self { renewed, ..self }
    }

    /// The name of its threads: what the kernel keeps of the scenario's.
    pub fn comm(&self) -> &'static str {
        const KEPT: usize = 15;
        self.name.get(..KEPT).unwrap_or(self.name)
    }

    /// The function that its threads start in, without its module. Python and Java have functions of these
    /// names too, or the like, but run them in an interpreter: no native frame carries them.
    pub fn entry(&self) -> String {
        let kind = match self.expect {
            Expect::Blocked { .. } => "leak",
            Expect::Healthy => "idle",
        };
        format!("{kind}_{}", self.name)
    }

    /// How many threads are to be counted as blocked when `count` are asked for.
    pub fn blocked(&self, count: usize) -> usize {
        match self.expect {
            Expect::Blocked { .. } => (count * self.threads_each).saturating_sub(self.renewed),
            Expect::Healthy => 0,
        }
    }
}
