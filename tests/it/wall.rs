//! The shape of the house: what a crate of one piece cannot leave to the compiler.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 80;

/// The modules, each with those it may name. What stands in nobody's list is the top: `cli`.
const ARROWS: &[(&str, &[&str])] = &[
    ("units", &[]),
    ("telemetry", &["units"]),
    ("policy", &["units"]),
    ("config", &["units", "policy", "telemetry", "idempotency"]),
    ("simulate", &["units", "telemetry"]),
    ("access", &["units", "policy"]),
    ("observe", &["units", "telemetry", "policy", "access"]),
    ("journal", &["units", "telemetry"]),
    ("ledger", &["units", "telemetry", "policy", "access"]),
    ("meter", &["units", "telemetry", "policy", "access", "journal", "ledger"]),
    (
        "settle",
        &["units", "telemetry", "policy", "config", "access", "observe", "journal", "ledger", "meter"],
    ),
    ("audit", &["units", "telemetry", "policy", "access", "journal", "ledger"]),
    ("idempotency", &["units", "telemetry"]),
    (
        "proxy",
        &[
            "units",
            "telemetry",
            "policy",
            "config",
            "access",
            "observe",
            "journal",
            "ledger",
            "meter",
            "settle",
            "idempotency",
        ],
    ),
    (
        "admin",
        &[
            "units",
            "telemetry",
            "policy",
            "config",
            "access",
            "journal",
            "ledger",
            "meter",
            "settle",
            "audit",
            "proxy",
        ],
    ),
];

/// What the core does without. `policy` reads files nowhere either: it is handed texts.
const FOREIGN_TO_THE_CORE: &[&str] = &[
    "tokio",
    "async",
    "await",
    "pingora",
    "hyper",
    "axum",
    "tower",
    "ureq",
    "http",
    "rusqlite",
    "redis",
    "metrics",
    "tracing",
    "Instant::now",
    "SystemTime",
    "f32",
    "f64",
    "std::fs",
    "std::net",
    "std::thread",
    "std::env",
    "rand",
];

/// Where one of those words is the point, and why.
const EXCEPTIONS: &[(&str, &str, &str)] =
    &[("src/policy/yaml.rs", "f64", "refuses the numbers that a YAML reader would round")];

#[test]
fn the_core_knows_no_runtime_no_store_no_clock_and_no_float() {
    let mut found = Vec::new();
    for module in ["units", "policy", "access"] {
        for file in files_of(module) {
            let text = code_of(&file);
            for (line, code) in text.lines().enumerate() {
                for word in FOREIGN_TO_THE_CORE {
                    if has_word(code, word) && !is_exception(&file, word) {
                        found.push(format!("{}:{}: `{word}` in {}", file.display(), line + 1, code.trim()));
                    }
                }
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn arrows_between_modules_run_one_way() {
    let known: BTreeSet<&str> = ARROWS.iter().map(|(module, _)| *module).chain(["cli"]).collect();
    assert_eq!(
        modules(),
        known.iter().map(|module| (*module).to_owned()).collect(),
        "every module has its arrows"
    );
    let mut found = Vec::new();
    for (module, allowed) in ARROWS {
        for file in files_of(module) {
            for named in named_in(&code_of(&file)) {
                if named != *module && known.contains(&*named) && !allowed.contains(&&*named) {
                    found.push(format!("{}: {module} -> {named}", file.display()));
                }
            }
        }
    }
    found.dedup();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn a_file_has_one_idea_and_a_function_fits_a_screen() {
    let mut found = Vec::new();
    for file in sources() {
        let text = std::fs::read_to_string(&file).expect("a source file");
        let lines = text.lines().count();
        if lines > FILE_LINES_MAX {
            found.push(format!("{}: {lines} lines", file.display()));
        }
        for (line, name, length) in functions(&without_comments_and_texts(&text)) {
            if length > FUNCTION_LINES_MAX {
                found.push(format!("{}:{line}: {name} has {length} lines", file.display()));
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn nothing_is_left_to_be_done_later() {
    // Spelt so that this file does not find itself.
    let marks = [["TO", "DO"], ["FIX", "ME"], ["XX", "X:"], ["unimple", "mented!"], ["to", "do!("]]
        .map(|word| word.concat());
    let mut found = Vec::new();
    for file in sources() {
        let text = std::fs::read_to_string(&file).expect("a source file");
        for (line, content) in text.lines().enumerate() {
            if marks.iter().any(|mark| content.contains(mark)) {
                found.push(format!("{}:{}: {}", file.display(), line + 1, content.trim()));
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn the_wall_sees_what_it_is_for() {
    let core =
        "use std::sync::Arc; // tokio\nlet text = \"f64\"; let x: f64 = 1.0;\n/* async */ 'a' '\\'' async fn";
    let code = without_comments_and_texts(core);
    assert!(!has_word(&code, "tokio") && has_word(&code, "f64") && has_word(&code, "async"));
    assert!(!has_word("http_status", "http") && has_word("http::Uri", "http"));
    assert_eq!(
        named_in("use crate::{access::Hold, units};\nuse crate::policy::live; crate::proxy::run()"),
        ["access", "policy", "proxy", "units"].map(str::to_owned).into()
    );
    let two = "fn short() {}\nimpl X {\n    pub async fn longer(\n        a: u8,\n    ) -> u8 {\n        { a }\n    }\n}\n";
    assert_eq!(functions(two), [(1, "short".to_owned(), 0), (3, "longer".to_owned(), 1)]);
}

fn is_exception(file: &Path, word: &str) -> bool {
    EXCEPTIONS.iter().any(|(path, exception, _)| file.ends_with(path) && *exception == word)
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file of ours.
fn sources() -> Vec<PathBuf> {
    let mut files = Vec::new();
    for folder in ["src", "tests", "benches"] {
        collect(&root().join(folder), &mut files);
    }
    assert!(files.len() > 100, "only {} files were found", files.len());
    files
}

/// The files of one top-level module, its tests left out.
fn files_of(module: &str) -> Vec<PathBuf> {
    let mut files = vec![root().join(format!("src/{module}.rs"))];
    collect(&root().join("src").join(module), &mut files);
    files.retain(|file| {
        let parts: Vec<_> = file.iter().filter_map(|part| part.to_str()).collect();
        !parts.iter().any(|part| matches!(*part, "tests" | "tests.rs"))
    });
    files
}

/// The top-level modules, by their files.
fn modules() -> BTreeSet<String> {
    let entries = std::fs::read_dir(root().join("src")).expect("src");
    let names =
        entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("a plain name"));
    let files = names.filter_map(|name| name.strip_suffix(".rs").map(str::to_owned));
    // The simulation is a test, and runs all of them.
    files.filter(|name| !matches!(name.as_str(), "lib" | "main" | "simulation")).collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// A file's code, without its comments, texts and inline tests.
fn code_of(file: &Path) -> String {
    let text = std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let code = without_comments_and_texts(&text);
    match code.find("#[cfg(test)]\nmod tests {") {
        Some(tests) => code[..tests].to_owned(),
        None => code,
    }
}

/// The modules that `crate::…` names.
fn named_in(code: &str) -> BTreeSet<String> {
    let mut named = BTreeSet::new();
    for part in code.split("crate::").skip(1) {
        match part.strip_prefix('{') {
            Some(group) => named.extend(heads_of_group(group)),
            None => named.extend(head(part)),
        }
    }
    named
}

/// `access::Hold, units}` → `access`, `units`; what is nested deeper is not a top-level module.
fn heads_of_group(group: &str) -> Vec<String> {
    let mut depth = 0_usize;
    let mut heads = Vec::new();
    let mut start = 0;
    for (place, byte) in group.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' if depth == 0 => {
                heads.extend(head(&group[start..place]));
                break;
            }
            b'}' => depth -= 1,
            b',' if depth == 0 => {
                heads.extend(head(&group[start..place]));
                start = place + 1;
            }
            _ => {}
        }
    }
    heads
}

fn head(path: &str) -> Option<String> {
    let path = path.trim_start();
    let end = path.find(|sign: char| !sign.is_ascii_lowercase() && sign != '_').unwrap_or(path.len());
    (end > 0).then(|| path[..end].to_owned())
}

fn has_word(code: &str, word: &str) -> bool {
    let part_of_name =
        |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    code.match_indices(word).any(|(place, _)| {
        let before = place.checked_sub(1).and_then(|before| code.as_bytes().get(before));
        !part_of_name(before) && !part_of_name(code.as_bytes().get(place + word.len()))
    })
}

/// Blanks out comments, texts and character literals; lines stay where they are.
fn without_comments_and_texts(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = match &bytes[at..] {
            [b'/', b'/', ..] => line_end(bytes, at),
            [b'/', b'*', ..] => find(bytes, at + 2, b"*/"),
            [b'"', ..] => text_end(bytes, at + 1),
            [b'r', b'"' | b'#', ..] if !is_name(bytes, at) => raw_text_end(bytes, at).unwrap_or(at + 1),
            [b'\'', b'\\', ..] => find(bytes, at + 3, b"'"),
            [b'\'', _, b'\'', ..] => at + 3,
            _ => {
                at += 1;
                continue;
            }
        };
        for byte in &mut code[at..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end;
    }
    String::from_utf8(code).expect("whole characters are blanked out")
}

fn line_end(bytes: &[u8], from: usize) -> usize {
    bytes[from..].iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |length| from + length)
}

fn find(bytes: &[u8], from: usize, what: &[u8]) -> usize {
    let rest = bytes.get(from..).unwrap_or_default();
    rest.windows(what.len())
        .position(|window| window == what)
        .map_or(bytes.len(), |place| from + place + what.len())
}

fn text_end(bytes: &[u8], mut at: usize) -> usize {
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

fn raw_text_end(bytes: &[u8], at: usize) -> Option<usize> {
    let hashes = bytes[at + 1..].iter().take_while(|byte| **byte == b'#').count();
    (bytes.get(at + 1 + hashes) == Some(&b'"')).then(|| {
        let end = [&b"\""[..], &b"#".repeat(hashes)].concat();
        find(bytes, at + 2 + hashes, &end)
    })
}

fn is_name(bytes: &[u8], at: usize) -> bool {
    at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_')
}

/// Line and name of every function with a body, and the lines between its braces.
fn functions(code: &str) -> Vec<(usize, String, usize)> {
    let mut found = Vec::new();
    for (place, _) in code.match_indices("fn ") {
        if is_name(code.as_bytes(), place) {
            continue;
        }
        let rest = &code[place + 3..];
        let name: String = rest.chars().take_while(|sign| sign.is_alphanumeric() || *sign == '_').collect();
        let Some(open) = body_of(rest) else { continue };
        if name.is_empty() {
            continue;
        }
        let first = code[..place].matches('\n').count() + 1;
        let lines = rest[open..block_end(rest, open)].matches('\n').count().saturating_sub(1);
        found.push((first, name, lines));
    }
    found
}

/// Where a function's body opens; none where it is only declared.
fn body_of(rest: &str) -> Option<usize> {
    let mut depth = 0_i32;
    for (place, byte) in rest.bytes().enumerate() {
        match byte {
            b'(' | b'[' => depth += 1,
            b')' | b']' => depth -= 1,
            b'{' if depth == 0 => return Some(place),
            b';' if depth == 0 => return None,
            _ if depth < 0 => return None,
            _ => {}
        }
    }
    None
}

fn block_end(rest: &str, open: usize) -> usize {
    let mut depth = 0_usize;
    for (place, byte) in rest.bytes().enumerate().skip(open) {
        match byte {
            b'{' => depth += 1,
            b'}' => {
                depth -= 1;
                if depth == 0 {
                    return place + 1;
                }
            }
            _ => {}
        }
    }
    rest.len()
}
