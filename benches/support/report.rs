//! Figures: values against goals, as a table for people and as JSON for programs.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::json;

use super::settings::Settings;

/// One measured value, once in each round.
#[derive(Clone, Debug)]
pub(crate) struct Figure {
    section: &'static str,
    what: String,
    unit: &'static str,
    goal: Option<Goal>,
    values: Vec<f64>,
}

/// What a figure should be.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Goal {
    /// At most this, in the median.
    AtMost(f64),
    /// At least this, in the median.
    AtLeast(f64),
    /// This, every time.
    Exactly(f64),
}

impl Figure {
    /// A value without a goal, told to make sense of the others.
    pub(crate) fn told(
        section: &'static str,
        what: impl Into<String>,
        unit: &'static str,
        values: Vec<f64>,
    ) -> Self {
        Self { section, what: what.into(), unit, goal: None, values }
    }

    /// A value with a goal.
    pub(crate) fn aimed(
        section: &'static str,
        what: impl Into<String>,
        unit: &'static str,
        goal: Goal,
        values: Vec<f64>,
    ) -> Self {
        Self { goal: Some(goal), ..Self::told(section, what, unit, values) }
    }

    /// Whether the goal is met; `None` where there is none.
    fn met(&self) -> Option<bool> {
        let median = median(&self.values);
        // Nothing measured is nothing met: a comparison with NaN is false.
        self.goal.map(|goal| match goal {
            Goal::AtMost(most) => median <= most,
            Goal::AtLeast(least) => median >= least,
            Goal::Exactly(exact) => {
                !self.values.is_empty() && self.values.iter().all(|value| (value - exact).abs() < 1e-9)
            }
        })
    }

    fn spread(&self) -> (f64, f64) {
        let least = self.values.iter().copied().fold(f64::INFINITY, f64::min);
        (least, self.values.iter().copied().fold(f64::NEG_INFINITY, f64::max))
    }

    fn row(&self) -> [String; 5] {
        let (least, most) = self.spread();
        let value = format!("{} {}", shown(median(&self.values)), self.unit);
        let spread = if self.values.len() > 1 {
            format!("{} to {}", shown(least), shown(most))
        } else {
            String::new()
        };
        let verdict = match self.met() {
            None => "",
            Some(true) => "met",
            Some(false) => "NOT MET",
        };
        let goal = self.goal.map(|goal| goal.to_string()).unwrap_or_default();
        [self.what.clone(), goal, value.trim_end().to_owned(), spread, verdict.to_owned()]
    }

    fn json(&self) -> serde_json::Value {
        let (least, most) = self.spread();
        let goal = self.goal.map(|goal| match goal {
            Goal::AtMost(value) => json!({"at_most": value}),
            Goal::AtLeast(value) => json!({"at_least": value}),
            Goal::Exactly(value) => json!({"exactly": value}),
        });
        json!({
            "section": self.section, "what": self.what, "unit": self.unit, "goal": goal, "median": median(&self.values),
            "min": least, "max": most, "values": self.values, "met": self.met(),
        })
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtMost(value) => write!(f, "≤ {}", shown(*value)),
            Self::AtLeast(value) => write!(f, "≥ {}", shown(*value)),
            Self::Exactly(value) => write!(f, "= {}", shown(*value)),
        }
    }
}

/// Everything that a run has measured.
#[derive(Debug)]
pub(crate) struct Report {
    figures: Vec<Figure>,
    machine: String,
    date: String,
    quick: bool,
}

impl Report {
    /// Nothing measured yet.
    pub(crate) fn new(settings: &Settings) -> Self {
        let date = overfall::units::time::Clock::machine().now().to_string();
        Self { figures: Vec::new(), machine: machine(), date, quick: settings.quick }
    }

    /// Adds what a section has measured.
    pub(crate) fn add(&mut self, figures: Vec<Figure>) {
        self.figures.extend(figures);
    }

    /// Writes it as JSON below `target`, and says where.
    pub(crate) fn write(&self) -> anyhow::Result<PathBuf> {
        let folder =
            Path::new(env!("CARGO_TARGET_TMPDIR")).parent().context("no target folder")?.join("bench");
        std::fs::create_dir_all(&folder)?;
        let path = folder.join(if self.quick { "figures-quick.json" } else { "figures.json" });
        let figures: Vec<_> = self.figures.iter().map(Figure::json).collect();
        let all =
            json!({"machine": self.machine, "date": self.date, "quick": self.quick, "figures": figures});
        std::fs::write(&path, format!("{all:#}\n"))?;
        Ok(path)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n{}", self.machine, self.date)?;
        if self.quick {
            writeln!(f, "A quick run: it shows that everything runs, its values mean little.")?;
        }
        let head = ["", "goal", "median", "range", ""].map(str::to_owned);
        let rows: Vec<_> = self.figures.iter().map(|figure| (figure.section, figure.row())).collect();
        let width = |column: usize| {
            let all = rows.iter().map(|(_, row)| row).chain([&head]);
            all.map(|row| row[column].chars().count()).max().unwrap_or(0)
        };
        let widths: [usize; 5] = std::array::from_fn(width);
        let line = |f: &mut fmt::Formatter<'_>, row: &[String; 5]| {
            let [what, goal, value, spread, verdict] = row;
            let [text, wanted, found, range, _] = widths;
            let line =
                format!("  {what:<text$}  {goal:>wanted$}  {value:>found$}  {spread:>range$}  {verdict}");
            writeln!(f, "{}", line.trim_end())
        };
        line(f, &head)?;
        let mut section = "";
        for (of, row) in &rows {
            if *of != section {
                writeln!(f, "{of}")?;
                section = of;
            }
            line(f, row)?;
        }
        let missed = self.figures.iter().filter(|figure| figure.met() == Some(false)).count();
        let aimed = self.figures.iter().filter(|figure| figure.goal.is_some()).count();
        write!(f, "{} of {aimed} goals met", aimed - missed)
    }
}

/// The middle value, or the mean of the two in the middle; not a number where there is none.
pub(crate) fn median(values: &[f64]) -> f64 {
    quantile(values, 50)
}

/// The value below which so many hundredths lie.
pub(crate) fn quantile(values: &[f64], hundredths: usize) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    let place = last * hundredths;
    let (below, above) = (sorted[place / 100], sorted[place.div_ceil(100)]);
    if hundredths == 50 { f64::midpoint(below, above) } else { above }
}

/// As many digits as mean something.
fn shown(value: f64) -> String {
    match value.abs() {
        size if size >= 1000.0 => grouped(&format!("{value:.0}")),
        size if size >= 100.0 || value.fract() == 0.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 0.1 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

fn grouped(digits: &str) -> String {
    let (sign, digits) = digits.strip_prefix('-').map_or(("", digits), |rest| ("-", rest));
    let head = digits.len() % 3;
    let groups = digits.as_bytes()[head..].chunks(3).map(|group| String::from_utf8_lossy(group).into_owned());
    let parts: Vec<_> =
        Some(digits[..head].to_owned()).filter(|part| !part.is_empty()).into_iter().chain(groups).collect();
    format!("{sign}{}", parts.join(","))
}

/// What the figures were measured on.
fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_once(':').map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let memory_kib: u64 =
        field(&read("/proc/meminfo"), "MemTotal").trim_end_matches(" kB").parse().unwrap_or_default();
    let kernel = read("/proc/sys/kernel/osrelease");
    format!(
        "{cores} × {}, {} GiB, Linux {}",
        field(&read("/proc/cpuinfo"), "model name"),
        memory_kib.div_ceil(1 << 20),
        kernel.trim()
    )
}
