//! Runs drivers: many cases from one seed, each on its own, and a report that can be replayed.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant, SystemTime};

use ringkeeper::base::Rng;

/// Processor time of one case, which takes microseconds to milliseconds.
const CASE_LIMIT: Duration = Duration::from_secs(2);
/// Time after which a case is taken not to end at all, however busy the machine is.
const HANG_LIMIT: Duration = Duration::from_secs(120);

/// Growth of the address space while a driver runs: far above what tests beside it need, below
/// what a reservation by the largest count takes (2^31 - 1 elements of more than 4 bytes).
const GROWTH_KIB_MAX: u64 = 8 << 20;

/// A driver: its name in `fuzz::`, cases in a normal run, and one case.
#[derive(Clone, Copy)]
pub struct Driver {
    /// Path of its test below `fuzz::`.
    pub name: &'static str,
    /// Cases when no time is given.
    pub budget: u64,
    /// Runs one case; a panic is a finding.
    pub case: fn(&mut Rng),
}

/// A case that failed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// Seed of the case alone.
    pub case: u64,
    /// What it says.
    pub what: String,
}

/// Runs up to `budget` cases, or for `time` if that is given, from `seed`.
pub fn search(driver: Driver, seed: u64, budget: u64, time: Option<Duration>) -> Option<Finding> {
    let started = Instant::now();
    let mut seeds = Rng::new(seed);
    let mut done = 0;
    while time.map_or(done < budget, |time| started.elapsed() < time) {
        let case = seeds.next_u64();
        if let Err(what) = run_case(driver, case, CASE_LIMIT) {
            return Some(Finding { case, what });
        }
        done += 1;
    }
    None
}

/// Runs one case, which may take `limit` of processor time.
pub fn run_case(driver: Driver, case: u64, limit: Duration) -> Result<(), String> {
    let started = Instant::now();
    run_once(driver, case)?;
    if started.elapsed() <= limit {
        return Ok(());
    }
    // The case, or only the machine was busy: a case does the same again, and takes as long.
    let before = processor_time();
    run_once(driver, case)?;
    let took = processor_time() - before;
    if took > limit { Err(format!("it took {took:?}")) } else { Ok(()) }
}

fn run_once(driver: Driver, case: u64) -> Result<(), String> {
    RUNNING.with(|running| running.store(case, Ordering::Relaxed));
    let caught = catch_unwind(AssertUnwindSafe(|| (driver.case)(&mut Rng::new(case))));
    caught.map_err(|cause| {
        let text = cause.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| cause.downcast_ref::<&str>().copied());
        text.unwrap_or("a panic without text").to_owned()
    })
}

thread_local! {
    /// The case that this thread is at.
    static RUNNING: Arc<AtomicU64> = Arc::new(AtomicU64::new(0));
}

/// Ends the process with a report if this thread stays at one case, until the returned guard is
/// dropped.
fn watch_for_hangs(driver: Driver) -> Sender<()> {
    let running = RUNNING.with(Arc::clone);
    let (done, ended) = channel();
    std::thread::spawn(move || {
        let mut last = running.load(Ordering::Relaxed);
        while ended.recv_timeout(HANG_LIMIT) == Err(RecvTimeoutError::Timeout) {
            let case = running.load(Ordering::Relaxed);
            if case == last {
                let what = format!("it does not end within {HANG_LIMIT:?}");
                eprintln!("{}", message(driver, &Finding { case, what }));
                std::process::abort();
            }
            last = case;
        }
    });
    done
}

/// What this thread has had of a processor.
fn processor_time() -> Duration {
    let line = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(line.split_whitespace().next().unwrap().parse().unwrap())
}

fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|e| panic!("{name}={text}: {e}")))
}

fn address_space_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmPeak:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

/// The message of a failed run.
pub fn message(driver: Driver, finding: &Finding) -> String {
    let Finding { case, what } = finding;
    let name = driver.name;
    format!(
        "fuzz driver {name}, case seed {case}: {what}\n\
         replay: RK_FUZZ_SEED={case} cargo test --test all fuzz::{name}"
    )
}

/// The test of a driver.
pub fn run(driver: Driver) {
    let before = address_space_kib();
    let watched = watch_for_hangs(driver);
    let finding = match (setting("RK_FUZZ_SEED"), setting("RK_FUZZ_SECONDS")) {
        (Some(case), _) => {
            run_case(driver, case, CASE_LIMIT).err().map(|what| Finding { case, what })
        }
        (None, None) => search(driver, 1, driver.budget, None),
        (None, Some(seconds)) => {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
            let seed = now.as_nanos() as u64;
            eprintln!("fuzz driver {}: {seconds} s from seed {seed}", driver.name);
            search(driver, seed, 0, Some(Duration::from_secs(seconds)))
        }
    };
    drop(watched);
    if let Some(finding) = finding {
        panic!("{}", message(driver, &finding));
    }
    let grown = address_space_kib() - before;
    assert!(grown < GROWTH_KIB_MAX, "fuzz driver {}: reserved {grown} KiB", driver.name);
}
