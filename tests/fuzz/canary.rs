//! Drivers that are wrong on purpose: the harness finds each and says how to replay it.

use std::time::{Duration, Instant};

use ringkeeper::base::Rng;
use ringkeeper::wire::put_buffer;

use super::harness::{Driver, message, run_case, search};
use super::input::{bytes, input};

fn valid(rng: &mut Rng) -> Vec<u8> {
    let mut out = Vec::new();
    put_buffer(&mut out, Some(&bytes(rng, 40)));
    out
}

/// Trusts its length field.
fn trusting(rng: &mut Rng) {
    let (bytes, _) = input(rng, valid);
    let Some((head, rest)) = bytes.split_first_chunk::<4>() else { return };
    let len = i32::from_be_bytes(*head);
    if len > 0 {
        let body = &rest[..len as usize];
        assert!(body.len() <= rest.len());
    }
}

/// Reads one byte less than there is: right about most lengths, wrong about one.
fn off_by_one(rng: &mut Rng) {
    let (bytes, is_valid) = input(rng, valid);
    if is_valid {
        let body = &bytes[4..bytes.len() - usize::from(bytes.len() == 20)];
        let mut again = Vec::new();
        put_buffer(&mut again, Some(body));
        assert_eq!(again, bytes, "what is decoded is encoded again");
    }
}

#[test]
fn a_decoder_that_trusts_lengths_or_loses_a_byte_is_caught() {
    let drivers = [("trusting", trusting as fn(&mut Rng)), ("off_by_one", off_by_one)];
    let found = drivers.map(|(name, case)| {
        let driver = Driver { name, budget: 5_000, case };
        let first = search(driver, 1, driver.budget, None);
        // The same seed finds the same case.
        (driver, first.clone(), first == search(driver, 1, driver.budget, None))
    });
    for (driver, finding, replays) in found {
        let finding = finding.unwrap_or_else(|| panic!("{} is not caught", driver.name));
        assert!(replays, "{finding:?} does not replay");
        let text = message(driver, &finding);
        assert!(text.contains(driver.name), "{text}");
        assert!(text.contains(&format!("RK_FUZZ_SEED={}", finding.case)), "{text}");
    }
}

/// Takes its time.
fn slow(_: &mut Rng) {
    let started = Instant::now();
    while started.elapsed() < Duration::from_millis(50) {
        std::hint::spin_loop();
    }
}

#[test]
fn a_case_that_takes_long_is_caught() {
    let driver = Driver { name: "slow", budget: 1, case: slow };
    let found = run_case(driver, 1, Duration::from_millis(1));
    assert!(found.is_err_and(|what| what.starts_with("it took")));
    assert_eq!(run_case(driver, 1, Duration::from_secs(60)), Ok(()));
}
