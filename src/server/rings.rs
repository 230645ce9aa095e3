//! Whether the kernel lets this process have its rings: tried before a start touches anything, and
//! by `ringkeeper check`, so that both say the same.

use std::io;

use crate::config::{Finding, Settings, Verdict};
use crate::sys::cpu;
use crate::sys::ring::{Ring, RingFeatures, RingOptions};

use super::topology::{CoreOptions, Topology};

/// Exit code of a server without rings: Apache's for what it did not expect.
const NO_RING: u8 = 1;

/// What the ring of a worker is set up with.
pub(super) fn ring_options(settings: &Settings, has_sockets: bool) -> RingOptions {
    RingOptions {
        entries: settings.ring.uring_entries,
        multishot: has_sockets && settings.ring.uring_multishot != Some(false),
        buffers: 256,
        buffer_size: 16 * 1024,
    }
}

/// Which stages run where.
pub(super) fn plan(settings: &Settings) -> io::Result<Topology> {
    let cores = CoreOptions {
        network: settings.ring.network_cpus.clone(),
        pipeline: settings.ring.pipeline_cpu,
        log: settings.ring.log_cpu,
        network_threads: settings.ring.network_threads,
    };
    Ok(Topology::plan(&cores, &cpu::allowed_cpus()?))
}

/// What `ringkeeper.uring.multishot=on` asks for and a ring for clients lacks.
pub(super) fn missing_multishot(
    is_required: bool,
    has_front: bool,
    features: RingFeatures,
) -> Option<&'static str> {
    let has_both = features.multishot_accept && features.multishot_recv;
    (is_required && has_front && !has_both).then_some(
        "this kernel lacks multishot accept or receive: set it to auto, or use Linux 6.0 or later",
    )
}

/// Sets up the rings of all workers at once, and gives them back.
pub(super) fn preflight(settings: &Settings) -> Option<Finding> {
    let refused = |key: &'static str, what| {
        let verdict = Verdict::Refused { exit_code: NO_RING };
        Some(Finding { key: key.into(), what, hint: String::new(), verdict })
    };
    // If the CPUs cannot be read, the start says so.
    let topology = plan(settings).ok()?;
    let mut rings = Vec::new();
    for worker in &topology.workers {
        let has_front = worker.front.is_some();
        let ring = match Ring::new(ring_options(settings, has_front)) {
            Ok(ring) => ring,
            Err(e) => return refused("", e.to_string()),
        };
        let is_required = settings.ring.uring_multishot == Some(true);
        if let Some(what) = missing_multishot(is_required, has_front, ring.features()) {
            return refused("ringkeeper.uring.multishot", what.to_owned());
        }
        rings.push(ring);
    }
    None
}
