//! The table: medians, ratios and goals, as text. It measures nothing.

use crate::Outcome;
use std::fmt;

/// What a number of a row counts.
#[derive(Clone, Copy, PartialEq)]
pub enum Unit {
    Microseconds,
    Milliseconds,
    /// Millions of bytes.
    Megabytes,
    /// One time as a part of another.
    Share,
    /// Thousands a second: the only unit where more is better.
    ThousandsPerSecond,
}

impl Unit {
    fn name(self) -> &'static str {
        match self {
            Self::Microseconds => "us",
            Self::Milliseconds => "ms",
            Self::Megabytes => "MB",
            Self::Share => "x",
            Self::ThousandsPerSecond => "k/s",
        }
    }

    /// How many times better `ours` is.
    fn ratio(self, stock: f64, ours: f64) -> f64 {
        if self == Self::ThousandsPerSecond { ours / stock } else { stock / ours }
    }
}

/// What a row should reach.
#[derive(Clone, Copy)]
pub enum Goal {
    /// This many times better than stock.
    Times(f64),
    /// At most this, in the row's unit.
    AtMost(f64),
    /// Nothing: a line to read the others by.
    Reference,
}

struct Row {
    load: String,
    unit: Unit,
    goal: Goal,
    stock: Option<f64>,
    ours: Option<f64>,
}

impl Row {
    fn ratio(&self) -> Option<f64> {
        Some(self.unit.ratio(self.stock?, self.ours?))
    }

    fn goal_text(&self) -> String {
        match self.goal {
            Goal::Times(1.0) => "not worse".to_owned(),
            Goal::Times(times) => format!("{times}x"),
            Goal::AtMost(limit) => format!("<= {}", number(limit)),
            Goal::Reference => String::new(),
        }
    }

    /// Empty when there is no goal, or nothing to compare with.
    fn verdict(&self) -> &'static str {
        let reached = match self.goal {
            Goal::Times(times) => self.ratio().map(|ratio| ratio >= times),
            Goal::AtMost(limit) => self.ours.map(|ours| ours <= limit),
            Goal::Reference => None,
        };
        match reached {
            Some(true) => "met",
            Some(false) => "MISSED",
            None => "",
        }
    }
}

/// The rows so far.
pub struct Table {
    with_stock: bool,
    /// A smoke run: the amounts are not those that the goals were set for.
    quick: bool,
    rows: Vec<Row>,
    failures: Vec<String>,
}

impl Table {
    pub fn new(with_stock: bool, quick: bool) -> Self {
        Self { with_stock, quick, rows: Vec::new(), failures: Vec::new() }
    }

    /// Adds a row: one list of samples a side, ours last.
    pub fn add(&mut self, load: &str, unit: Unit, goal: Goal, samples: Vec<Outcome<Vec<f64>>>) {
        let mut medians: Vec<Option<f64>> = Vec::new();
        for outcome in samples {
            medians.push(match outcome {
                Ok(values) => median(values),
                Err(failure) => {
                    eprintln!("bench: {failure}");
                    self.failures.push(failure.to_string());
                    None
                }
            });
        }
        let ours = medians.pop().flatten();
        let row = Row { load: load.to_owned(), unit, goal, stock: medians.pop().flatten(), ours };
        eprintln!("{}", self.line(&row));
        self.rows.push(row);
    }

    /// The median of our side of a row that was measured.
    pub fn ours(&self, load: &str) -> Option<f64> {
        self.rows.iter().find(|row| row.load == load)?.ours
    }

    /// True when nothing failed. A missed goal is no failure: machines differ.
    pub fn is_complete(&self) -> bool {
        self.failures.is_empty()
    }

    fn line(&self, row: &Row) -> String {
        let cell = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), number);
        let mut line = format!("| {:<50} | {:>4} |", row.load, row.unit.name());
        if self.with_stock {
            let ratio = row.ratio().map_or_else(String::new, |ratio| format!("{}x", number(ratio)));
            line += &format!(" {:>8} | {:>8} | {:>7} |", cell(row.stock), cell(row.ours), ratio);
        } else {
            line += &format!(" {:>8} |", cell(row.ours));
        }
        line + &format!(" {:>9} | {:<6} |", row.goal_text(), if self.quick { "" } else { row.verdict() })
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = if self.with_stock {
            "| load (median)                                      | unit |    stock |   pmxcfs |   ratio |      goal |        |\n\
             | -------------------------------------------------- | ---- | -------- | -------- | ------- | --------- | ------ |"
        } else {
            "| load (median)                                      | unit |   pmxcfs |      goal |        |\n\
             | -------------------------------------------------- | ---- | -------- | --------- | ------ |"
        };
        writeln!(f, "\n{columns}")?;
        for row in &self.rows {
            writeln!(f, "{}", self.line(row))?;
        }
        if !self.with_stock {
            writeln!(f, "Goals like 3x are against the stock daemon: set STOCK=/path/to/a/stock/pmxcfs.")?;
        }
        for failure in &self.failures {
            writeln!(f, "FAILED {failure}")?;
        }
        Ok(())
    }
}

/// The middle one; the mean of the two middle ones of an even number.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    let lower = *values.get((values.len() - 1) / 2)?;
    Some(f64::midpoint(lower, upper))
}

/// Three digits that count.
fn number(value: f64) -> String {
    match value {
        v if v >= 99.95 => format!("{v:.0}"),
        v if v >= 9.995 => format!("{v:.1}"),
        v => format!("{v:.2}"),
    }
}
