//! Small numbers by which the kernel side knows what user space watches.

/// Numbers that are given back, and the first that was never given.
#[derive(Debug, Default)]
pub struct Numbers {
    free: Vec<u32>,
    next: u32,
}

impl Numbers {
    /// One that nobody has, below `limit`.
    pub fn take(&mut self, limit: u32) -> Option<u32> {
        self.free.pop().or_else(|| {
            let next = Some(self.next).filter(|next| *next < limit)?;
            self.next += 1;
            Some(next)
        })
    }

    pub fn give_back(&mut self, number: u32) {
        self.free.push(number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_back_is_given_again_and_no_more_than_there_are() {
        let mut numbers = Numbers::default();
        assert_eq!([(); 3].map(|()| numbers.take(2)), [Some(0), Some(1), None]);
        numbers.give_back(0);
        assert_eq!([(); 2].map(|()| numbers.take(2)), [Some(0), None]);
    }
}
