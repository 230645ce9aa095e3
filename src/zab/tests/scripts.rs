//! One rule at a time: what is told to a machine, and what it wants done.

use std::sync::Arc;
use std::time::Duration;

use crate::base::{Epoch, LinkId, Now, Rng, ServerId, SessionId, Xid, Zxid};
use crate::log::{Batch, EpochFile};
use crate::quorum::{Ensemble, Membership};
use crate::wire::quorum::{
    AuthIds, EpochAnswer, FAREWELL, Features, Forwarded, LearnerInfo, NEXT_EPOCH, Packet,
    PacketKind, leader_info, proposals,
};
use crate::wire::{OpCode, Reader, TxnDigest, TxnHeader, TxnType, put_i32};

use super::super::{
    Effect, Effects, History, LeadInput, Leading, LeadingEnd, LeadingOptions, LearnInput,
    LearnerEnd, Learning, LearningOptions, Standing,
};

mod leader;
mod learner;

const TICK: Duration = Duration::from_millis(100);

fn z(epoch: i32, counter: u32) -> Zxid {
    Zxid::new(Epoch(epoch), counter)
}

fn after(ticks: u32) -> Now {
    Now { mono: Now::default().mono + TICK * ticks, wall_ms: 0 }
}

fn entry(zxid: Zxid) -> Vec<u8> {
    let (session, cxid, kind) = (SessionId(1), Xid(0), TxnType::Error);
    let mut out = Vec::new();
    TxnHeader { session, cxid, zxid, time_ms: 0, kind }.encode_into(&mut out);
    put_i32(&mut out, -101);
    out
}

fn batch(zxids: &[Zxid]) -> Arc<Batch> {
    let mut batch = Batch::new();
    for &zxid in zxids {
        batch.entry().extend_from_slice(&entry(zxid));
        batch.finish_entry(zxid);
    }
    Arc::new(batch)
}

/// What a machine wants done, a line each, and packets as kind and zxid.
fn told(effects: &mut Effects) -> Vec<String> {
    let Effects { bytes, list } = std::mem::take(effects);
    let mut lines = Vec::new();
    for effect in list {
        match effect {
            Effect::Send { link, start, end } => {
                let mut reader = Reader::new(&bytes[start..end]);
                while reader.remaining() > 0 {
                    let packet = Packet::decode_from(&mut reader).unwrap();
                    lines.push(format!("{}: {:?} {:x}", link.0, packet.kind, packet.zxid.0));
                }
            }
            Effect::StoreEpoch(file, epoch) => lines.push(format!("store {file:?} {}", epoch.0)),
            Effect::Append { batch, .. } => {
                let last = batch.last_zxid().unwrap();
                lines.push(format!("append {} up to {last}", batch.len()));
            }
            Effect::Committed(zxid) => lines.push(format!("committed {zxid}")),
            Effect::Serve(epoch) => lines.push(format!("serve {}", epoch.0)),
            Effect::EndLearning(end) => lines.push(format!("end: {end}")),
            Effect::EndLeading(end) => lines.push(format!("end: {end}")),
            Effect::Close { link, reason } => {
                lines.push(format!("{}: closed {}", link.0, reason.unwrap_or_default()));
            }
            Effect::Refuse { link, reason, .. } => {
                lines.push(format!("{}: closed {reason}", link.0));
            }
            Effect::KeepAlive { .. } => {}
            Effect::Truncate(zxid) => lines.push(format!("truncate {zxid}")),
            other => lines.push(format!("{other:?}")),
        }
    }
    lines
}
