//! What is wrong with a file: every problem at once, each where it stands, with what would be right.
//!
//! Nothing stops at the first problem. Checks report to a [`Sink`] and go on with what they understood; whoever asked
//! gets a value or all [`Problems`], never both. At most [`MAX_SHOWN`] are kept, the rest is counted.

use std::fmt;

use serde::Serialize;

/// Problems kept of one file.
pub const MAX_SHOWN: usize = 100;
const EXCERPT_CHARS: usize = 160;
const QUOTED_CHARS: usize = 80;

/// One thing wrong in a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// Where in the document, as in `plans.plus.codex.waterfall[0].windows[1]`. Empty for the document itself.
    pub path: String,
    /// What stands there.
    pub found: String,
    /// What may stand there.
    pub allowed: String,
    /// What was probably meant, or how to go on.
    pub hint: Option<String>,
    #[serde(skip)]
    excerpt: Excerpt,
}

/// All that is wrong in a file, in the order of its lines. Never empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problems {
    /// The file, as the caller named it.
    pub file: String,
    /// The first [`MAX_SHOWN`].
    pub problems: Vec<Problem>,
    /// How many more there are.
    pub omitted: usize,
}

/// Where a value stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    pub line: usize,
    pub column: usize,
    pub length: usize,
    pub path: String,
}

/// The line of a problem and what of it to underline.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Excerpt {
    line: String,
    indent: usize,
    length: usize,
}

/// Collects the problems of one text.
#[derive(Debug)]
pub(crate) struct Sink<'a> {
    lines: Vec<&'a str>,
    problems: Vec<Problem>,
}

impl Problem {
    /// Adds what was probably meant.
    pub(crate) fn hint(&mut self, hint: impl Into<String>) {
        self.hint = Some(hint.into());
    }
}

impl<'a> Sink<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        // A carriage return by itself ends a line, too (YAML 1.2, section 5.4).
        let lines = text.lines().flat_map(|line| line.split('\r')).collect();
        Self { lines, problems: Vec::new() }
    }

    /// Takes note of a problem; the answer takes its hint.
    pub(crate) fn report(
        &mut self,
        at: &Place,
        found: impl Into<String>,
        allowed: impl Into<String>,
    ) -> &mut Problem {
        let line = self.lines.get(at.line.saturating_sub(1)).copied().unwrap_or_default();
        self.problems.push(Problem {
            line: at.line.max(1),
            column: at.column.max(1),
            path: at.path.clone(),
            found: found.into(),
            allowed: allowed.into(),
            hint: None,
            excerpt: Excerpt::of(line, at),
        });
        let last = self.problems.len() - 1;
        &mut self.problems[last]
    }

    /// Whether nothing was reported.
    pub(crate) fn is_clean(&self) -> bool {
        self.problems.is_empty()
    }

    /// What was reported, each problem once: a part that several plans inherit is checked in each of them.
    pub(crate) fn into_problems(self, file: &str) -> Problems {
        let mut problems = self.problems;
        problems.sort_by_key(|problem| (problem.line, problem.column));
        let mut shown: Vec<Problem> = Vec::new();
        let mut omitted = 0;
        for problem in problems {
            let again = shown.iter().rev().take_while(|known| known.line == problem.line).any(|known| {
                (known.column, &known.path, &known.found) == (problem.column, &problem.path, &problem.found)
            });
            match (again, shown.len() < MAX_SHOWN) {
                (true, _) => {}
                (false, true) => shown.push(problem),
                (false, false) => omitted += 1,
            }
        }
        Problems { file: file.to_owned(), problems: shown, omitted }
    }
}

impl Excerpt {
    /// The part of the line around the place, without what a terminal would obey.
    fn of(line: &str, at: &Place) -> Self {
        let column = at.column.saturating_sub(1);
        let skipped = if column + 40 > EXCERPT_CHARS { column.saturating_sub(40) } else { 0 };
        let shown = line.chars().skip(skipped).take(EXCERPT_CHARS);
        let shown: String = shown.map(|char| if char.is_control() { ' ' } else { char }).collect();
        let shown = shown.trim_end().to_owned();
        let indent = column - skipped;
        let room = shown.chars().count().saturating_sub(indent);
        Self { line: shown, indent, length: at.length.min(room).max(1) }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (nth, problem) in self.problems.iter().enumerate() {
            let Problem { line, column, path, found, allowed, hint, excerpt } = problem;
            if nth > 0 {
                f.write_str("\n")?;
            }
            let margin = " ".repeat(line.to_string().len());
            writeln!(f, "{}:{line}:{column}: {found}", self.file)?;
            writeln!(f, "{margin} |")?;
            writeln!(f, "{line} | {}", excerpt.line)?;
            writeln!(f, "{margin} | {}{}", " ".repeat(excerpt.indent), "^".repeat(excerpt.length))?;
            if !path.is_empty() {
                writeln!(f, "{margin} = at: {path}")?;
            }
            writeln!(f, "{margin} = allowed: {allowed}")?;
            if let Some(hint) = hint {
                writeln!(f, "{margin} = hint: {hint}")?;
            }
        }
        if self.omitted > 0 {
            writeln!(f, "\nand {} more", self.omitted)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// Text in backticks, tame.
pub(crate) fn quoted(text: &str) -> String {
    format!("`{}`", tame(text))
}

/// Text of the file, cut short and with what a terminal would obey written out.
pub(crate) fn tame(text: &str) -> String {
    let mut tame = String::new();
    for char in text.chars().take(QUOTED_CHARS) {
        match char {
            '"' | '\'' | '\\' => tame.push(char),
            _ => tame.extend(char.escape_debug()),
        }
    }
    if text.chars().nth(QUOTED_CHARS).is_some() {
        tame.push('…');
    }
    tame
}

/// `a, b, c`.
pub(crate) fn listed<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    words.into_iter().collect::<Vec<_>>().join(", ")
}

/// The candidate that a misspelt word is nearest to, if one is near.
pub(crate) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word: Vec<char> = word.to_lowercase().chars().take(QUOTED_CHARS).collect();
    let near = |candidate: &&str| 1 + word.len().max(candidate.len()) / 4;
    let measured = candidates.into_iter().map(|candidate| (distance(&word, candidate), candidate));
    let (_, candidate) =
        measured.filter(|(distance, candidate)| *distance <= near(candidate)).min_by_key(|(d, _)| *d)?;
    Some(candidate)
}

/// How many characters to change, add, drop or swap with their neighbour.
fn distance(word: &[char], candidate: &str) -> usize {
    let candidate: Vec<char> = candidate.chars().collect();
    let mut rows: Vec<Vec<usize>> = vec![(0..=candidate.len()).collect()];
    for (i, char) in word.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, other) in candidate.iter().enumerate() {
            let change = rows[i][j] + usize::from(char != other);
            let mut least = change.min(rows[i][j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *char == candidate[j - 1] && word[i - 1] == *other {
                least = least.min(rows[i - 1][j - 1] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[word.len()][candidate.len()]
}
