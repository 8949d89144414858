//! Date and time as text, in UTC.

/// Seconds since 1970 as date and time in UTC.
pub fn utc(seconds: u32) -> String {
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = date(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Seconds since 1970 as date and time in UTC, for file names: digits and one hyphen.
pub fn utc_for_name(seconds: u32) -> String {
    let digits = utc(seconds).replace('T', "_");
    let kept: String = digits.chars().filter(|c| c.is_ascii_digit() || *c == '_').collect();
    kept.replace('_', "-")
}

/// Year, month and day of a day since 1970. Years begin in March here, so that the leap day is the last.
fn date(days: u32) -> (u32, u32, u32) {
    // Days since 1 March of the year 0, and from there in 400 years, 4 years and so on.
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (era * 400 + year_of_era + u32::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        for (seconds, shown) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_700_000_000, "2023-11-14T22:13:20Z"),
            (u32::MAX, "2106-02-07T06:28:15Z"),
        ] {
            assert_eq!(utc(seconds), shown);
        }
        assert_eq!(utc_for_name(1_700_000_000), "20231114-221320");
    }
}
