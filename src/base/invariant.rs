//! Rules of the state machines that are checked wherever they run.

/// Asserts a rule of a state machine, in release builds too: a server whose state is wrong must end
/// before it tells anybody. The message says what the rule means.
macro_rules! invariant {
    ($holds:expr, $($meaning:tt)+) => {
        assert!($holds, $($meaning)+)
    };
}

pub(crate) use invariant;
