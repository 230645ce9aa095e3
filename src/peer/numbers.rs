//! Numbers for the connections that this server makes.

use crate::base::LinkId;

/// Gives each connection that this server makes a number that no other one has. They are even;
/// the driver numbers those that arrive, with odd numbers.
#[derive(Debug, Default)]
pub struct LinkNumbers {
    next: u64,
}

impl LinkNumbers {
    /// The number of the next connection.
    pub fn next_dialed(&mut self) -> LinkId {
        self.next += 2;
        LinkId(self.next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_even_and_new() {
        let mut numbers = LinkNumbers::default();
        let given: Vec<_> = (0..3).map(|_| numbers.next_dialed()).collect();
        assert_eq!(given, [LinkId(2), LinkId(4), LinkId(6)]);
    }
}
