//! Clocks, read only by the drivers; what decides gets times as arguments.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Nanoseconds since 1970 on the wall clock.
pub fn wall_ns() -> i64 {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_nanos()).unwrap_or(i64::MAX),
        Err(before) => -i64::try_from(before.duration().as_nanos()).unwrap_or(i64::MAX),
    }
}

/// Times of files are 64 bits of nanoseconds since 1970 that wrap, and stand for the years 1901 to 2486: from ext4's first
/// second on.
const EARLIEST_NS: i128 = (i32::MIN as i128) * NS_PER_S;
const LATEST_NS: i128 = EARLIEST_NS + u64::MAX as i128;
const NS_PER_S: i128 = 1_000_000_000;

/// The nearest time that can be kept.
pub fn file_time(seconds: i64, nanoseconds: u32) -> i64 {
    let ns = i128::from(seconds) * NS_PER_S + i128::from(nanoseconds);
    ns.clamp(EARLIEST_NS, LATEST_NS) as i64 // wraps
}

/// Seconds since 1970, and the nanoseconds that follow them.
pub fn parts_of_file_time(time: i64) -> (i64, u32) {
    let ns = i128::from(time);
    let ns = if ns < EARLIEST_NS { ns + (1 << 64) } else { ns };
    (ns.div_euclid(NS_PER_S) as i64, ns.rem_euclid(NS_PER_S) as u32)
}

/// The later one of two times of files.
pub fn later(one: i64, other: i64) -> i64 {
    if parts_of_file_time(one) < parts_of_file_time(other) { other } else { one }
}

/// A moment on the monotonic clock after which an operation gives up.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(pub Instant);

impl Deadline {
    pub fn after(duration: Duration) -> Deadline {
        Deadline(Instant::now() + duration)
    }

    /// What is left; zero when it has passed.
    pub fn left(&self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }

    pub fn passed(&self) -> bool {
        self.left().is_zero()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_files_reach_from_1901_to_2486_and_what_is_beyond_is_the_nearest() {
        let first = i64::from(i32::MIN);
        for (seconds, nanoseconds) in [(first, 0), (-1, 999_999_999), (0, 0), (15_032_385_535, 7), (16_299_260_425, 5)]
        {
            assert_eq!(parts_of_file_time(file_time(seconds, nanoseconds)), (seconds, nanoseconds));
        }
        assert_eq!(parts_of_file_time(file_time(i64::MIN, 5)), (first, 0));
        assert_eq!(parts_of_file_time(file_time(i64::MAX, 5)).0, 16_299_260_425);
        assert_eq!(file_time(1, 5), 1_000_000_005, "as it was, wherever it could be told before");
        assert_eq!(parts_of_file_time(-500_000_000), (-1, 500_000_000), "nanoseconds count up also before 1970");
    }

    #[test]
    fn the_later_time_is_the_later_also_where_the_number_wraps() {
        let (now, far) = (file_time(1_800_000_000, 0), file_time(15_032_385_535, 0));
        assert!(far < 0 && later(now, far) == far && later(far, now) == far);
        assert_eq!(later(-5, now), now);
    }
}
