//! Runs drivers: many cases from one seed, each on its own, and a report that can be replayed.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant, SystemTime};

use ringkeeper::base::Rng;

/// One case takes microseconds to milliseconds; the machine may be busy.
const CASE_LIMIT: Duration = Duration::from_secs(20);

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
        if let Err(what) = run_case(driver, case) {
            return Some(Finding { case, what });
        }
        done += 1;
    }
    None
}

fn run_case(driver: Driver, case: u64) -> Result<(), String> {
    let started = Instant::now();
    let caught = catch_unwind(AssertUnwindSafe(|| (driver.case)(&mut Rng::new(case))));
    caught.map_err(|cause| {
        let text = cause.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| cause.downcast_ref::<&str>().copied());
        text.unwrap_or("a panic without text").to_owned()
    })?;
    let took = started.elapsed();
    if took > CASE_LIMIT { Err(format!("it took {took:?}")) } else { Ok(()) }
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
    let finding = match (setting("RK_FUZZ_SEED"), setting("RK_FUZZ_SECONDS")) {
        (Some(case), _) => run_case(driver, case).err().map(|what| Finding { case, what }),
        (None, None) => search(driver, 1, driver.budget, None),
        (None, Some(seconds)) => {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
            let seed = now.as_nanos() as u64;
            eprintln!("fuzz driver {}: {seconds} s from seed {seed}", driver.name);
            search(driver, seed, 0, Some(Duration::from_secs(seconds)))
        }
    };
    if let Some(finding) = finding {
        panic!("{}", message(driver, &finding));
    }
    let grown = address_space_kib() - before;
    assert!(grown < GROWTH_KIB_MAX, "fuzz driver {}: reserved {grown} KiB", driver.name);
}
