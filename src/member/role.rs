//! The role of a server.

use crate::base::{Instant, Now, invariant};
use crate::replica::{Effects, Input, Replica};

/// What a server is to the others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// There are no others: it leads, and what it has logged is committed.
    Alone,
    /// It takes up leadership as soon as all that is known is logged and applied. Requests wait.
    Claiming,
    /// Nobody leads. What is logged is committed all the same, and requests wait.
    Idle,
}

/// See [`crate::member`].
pub struct Member {
    replica: Replica,
    role: Role,
}

impl Member {
    /// A lone server, which leads from the start: a quorum of one, so what its log holds is
    /// committed. It may have transactions to log already: call [`Member::flush`] before waiting
    /// for the first time.
    pub fn alone(now: Now, mut replica: Replica) -> Member {
        commit_logged(now, &mut replica);
        replica.lead(now);
        Member { replica, role: Role::Alone }
    }

    /// Its role.
    pub fn role(&self) -> Role {
        self.role
    }

    /// The part that every server has.
    pub fn replica(&self) -> &Replica {
        &self.replica
    }

    /// The same, for four-letter words and snapshots on demand.
    pub fn replica_mut(&mut self) -> &mut Replica {
        &mut self.replica
    }

    /// Handles one input to completion.
    pub fn handle(&mut self, now: Now, input: Input<'_>, effects: &mut Effects) {
        match input {
            Input::Logged { zxid } => {
                self.replica.handle(now, Input::Logged { zxid }, effects);
                // A quorum of one.
                self.replica.handle(now, Input::Committed { zxid }, effects);
            }
            input => self.replica.handle(now, input, effects),
        }
        if self.role == Role::Claiming && self.replica.is_all_applied() {
            self.role = Role::Alone;
            self.replica.lead(now);
        }
    }

    /// Gives up leadership as a whole. Clients stay; their requests wait.
    pub fn resign(&mut self, effects: &mut Effects) {
        if self.role == Role::Alone {
            self.replica.resign(effects);
        }
        self.role = Role::Idle;
    }

    /// Takes leadership up again, as soon as the last term is wholly applied.
    pub fn claim(&mut self, now: Now, effects: &mut Effects) {
        if self.role == Role::Idle {
            self.role = Role::Claiming;
            self.handle(now, Input::Tick, effects);
        }
    }

    /// Begins a turn of the loop, see [`Replica::begin_turn`].
    pub fn begin_turn(&mut self) {
        self.replica.begin_turn();
    }

    /// What was prepared goes to the log. The driver calls this before it waits, and may do so at
    /// any time between two inputs.
    pub fn hand_over(&mut self, effects: &mut Effects) {
        self.replica.hand_over(effects);
    }

    /// Ends a turn and begins the next one: what was prepared goes to the log.
    pub fn flush(&mut self, effects: &mut Effects) {
        self.replica.flush(effects);
    }

    /// When [`Member::handle`] wants to be called at the latest, with `Input::Tick`.
    pub fn deadline(&self) -> Option<Instant> {
        self.replica.deadline()
    }

    /// Checks what must always hold; for simulation and tests.
    ///
    /// # Panics
    /// When it does not.
    pub fn check(&self) {
        assert_eq!(self.replica.is_leading(), self.role == Role::Alone, "a role and its leader");
        self.replica.check();
    }
}

/// Commits and applies all that a start has found in the log. There is no connection yet, so
/// nothing is to be done about it.
fn commit_logged(now: Now, replica: &mut Replica) {
    let (zxid, mut effects) = (replica.last_logged(), Effects::default());
    while !replica.is_all_applied() {
        // A turn applies as much as its budget allows.
        replica.begin_turn();
        replica.handle(now, Input::Committed { zxid }, &mut effects);
        invariant!(effects.list.is_empty(), "recovery has read every transaction of the tail");
    }
}
