//! The allocator's own memory. The program allocates with mimalloc; in tests of the library, which
//! do not, this has nothing to do.

use mimalloc as _;

unsafe extern "C" {
    fn mi_collect(force: bool);
}

/// Gives freed memory back to the system. The allocator does that by itself, but only when it is
/// asked for more. It goes through all its pages for that, so call it seldom.
pub fn give_back() {
    // SAFETY: mimalloc lets any thread call it at any time; it frees nothing that is in use.
    unsafe { mi_collect(true) }
}
