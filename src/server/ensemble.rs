//! The options of a member of an ensemble, from its settings.

use std::time::Duration;

use crate::base::Epoch;
use crate::config::{EnsembleSettings, Settings};
use crate::log::Epochs;
use crate::member::{EnsembleOptions, Member};
use crate::pipeline::PrepareOptions;
use crate::replica::Replica;
use crate::sys::cpu;
use crate::wire::{TxnDigest, TxnHeader};

/// The member in its role at the start: alone, or in search of a leader.
/// `seed` is random.
pub(super) fn member(
    settings: &Settings,
    replica: Replica,
    epochs: Option<Epochs>,
    seed: u64,
) -> Member {
    let Some(ensemble) = &settings.ensemble else { return Member::alone(cpu::now(), replica) };
    let ms = |ms: u32| Duration::from_millis(u64::from(ms));
    let options = EnsembleOptions {
        sid: ensemble.sid,
        membership: ensemble.membership.clone(),
        // A recovery for a member always has some.
        epochs: epochs.unwrap_or(Epochs { accepted: Epoch(0), current: Epoch(0) }),
        tick: ms(settings.tick_ms),
        init_limit: ensemble.init_limit,
        sync_limit: ensemble.sync_limit,
        repeat_votes: (ms(ensemble.vote_repeat_ms_min), ms(ensemble.vote_repeat_ms_max)),
        backlog_bytes_max: BACKLOG_MAX,
        held_bytes_max: HELD_MAX,
        history_bytes_max: HISTORY_MAX,
        packet_bytes_max: PACKET_MAX,
        is_plain: false,
        is_patient: !ensemble.is_adaptive_timeout,
        seed,
    };
    Member::in_ensemble(cpu::now(), replica, options)
}

/// By which rules requests become transactions, here or at a leader of the ensemble.
pub(super) fn prepare_options(settings: &Settings) -> PrepareOptions {
    let Settings { nodes, storage, ensemble, .. } = settings;
    let is_create2_in_multi = |ensemble: &EnsembleSettings| ensemble.is_create2_in_multi;
    PrepareOptions {
        extended_types: nodes.is_extended_types,
        emulate_353_ttl: nodes.is_emulate_353_ttl,
        enforce_quota: nodes.is_enforce_quota,
        close_session_paths: storage.is_close_session_txn,
        create2_in_multi: ensemble.as_ref().is_none_or(is_create2_in_multi),
        txn_bytes_max: (settings.txn_size_max as usize).min(PACKET_MAX / 2) - TXN_FRAME,
    }
}

/// Bytes of a transaction beside its body: a header and a digest.
const TXN_FRAME: usize = TxnHeader::SIZE + TxnDigest::SIZE;

/// Bytes of transactions that may wait for the disk of a learner before it takes no more.
const BACKLOG_MAX: usize = 64 << 20;

/// Bytes of a learner's requests that may wait while an epoch follows another: of small ones, what
/// a learner forwards in a tenth of a second.
const HELD_MAX: usize = 16 << 20;

/// Bytes of transactions that a leader keeps in memory: a learner that is further behind gets them
/// from the log.
const HISTORY_MAX: usize = 64 << 20;

/// The largest packet of another member. Most are as large as a client's request at most; the end
/// of a session names all its ephemerals, and a learner names all its sessions in one packet.
const PACKET_MAX: usize = 64 << 20;
