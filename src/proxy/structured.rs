//! A strict reader of RFC 9651 lists, to hold what we write against. It knows the item types that we use.

/// One member: its bare item as written, and its parameters in order.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) item: String,
    pub(super) parameters: Vec<(String, String)>,
}

impl Member {
    /// A parameter's value as written, quotes included.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(one, _)| one == name).map(|(_, value)| value.as_str())
    }
}

/// The members of a list, or where it is none.
pub(super) fn list(text: &str) -> Result<Vec<Member>, String> {
    let mut rest = text;
    let mut members = Vec::new();
    loop {
        members.push(member(&mut rest)?);
        rest = rest.trim_start_matches([' ', '\t']);
        if rest.is_empty() {
            return Ok(members);
        }
        rest = rest.strip_prefix(',').ok_or_else(|| format!("no comma at {rest:?}"))?;
        rest = rest.trim_start_matches([' ', '\t']);
    }
}

fn member(rest: &mut &str) -> Result<Member, String> {
    let item = bare_item(rest)?;
    let mut parameters: Vec<(String, String)> = Vec::new();
    while let Some(after) = rest.strip_prefix(';') {
        *rest = after.trim_start_matches(' ');
        let key = take(rest, |at, c| {
            c.is_ascii_lowercase() || c == '*' || at > 0 && (c.is_ascii_digit() || "_-.".contains(c))
        });
        *rest = rest.strip_prefix('=').ok_or_else(|| format!("parameter {key:?} without a value"))?;
        if key.is_empty() || parameters.iter().any(|(known, _)| *known == key) {
            return Err(format!("parameter {key:?} is empty or stands twice"));
        }
        parameters.push((key, bare_item(rest)?));
    }
    Ok(Member { item, parameters })
}

fn bare_item(rest: &mut &str) -> Result<String, String> {
    match rest.chars().next() {
        Some('"') => string(rest),
        Some(c) if c.is_ascii_digit() || c == '-' => {
            let digits = take(rest, |at, c| c.is_ascii_digit() || at == 0 && c == '-');
            let count = digits.trim_start_matches('-').len();
            if (1..=15).contains(&count) { Ok(digits) } else { Err(format!("{digits:?} is no integer")) }
        }
        Some(c) if c.is_ascii_alphabetic() || c == '*' => {
            Ok(take(rest, |_, c| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~:/".contains(c)))
        }
        other => Err(format!("no item begins with {other:?}")),
    }
}

fn string(rest: &mut &str) -> Result<String, String> {
    let end = rest[1..].find('"').ok_or("a string without an end")? + 2;
    let (text, after) = rest.split_at(end);
    let plain = text.bytes().all(|byte| (0x20..0x7f).contains(&byte) && byte != b'\\');
    *rest = after;
    if plain { Ok(text.to_owned()) } else { Err(format!("{text:?} needs an escape or is not ASCII")) }
}

fn take(rest: &mut &str, belongs: impl Fn(usize, char) -> bool) -> String {
    let end = rest.char_indices().find(|(at, c)| !belongs(*at, *c)).map_or(rest.len(), |(at, _)| at);
    let (taken, after) = rest.split_at(end);
    *rest = after;
    taken.to_owned()
}

#[test]
fn the_reader_itself_is_strict() {
    let members = list(r#"included;unit=credit;take="8";reset=3600, "a b";q=1"#).unwrap();
    assert_eq!(members[0].item, "included");
    assert_eq!(members[0].parameter("take"), Some("\"8\""));
    assert_eq!(members[1].item, "\"a b\"");
    for wrong in ["", "a,", "a;", "a;B=1", "a;b=\"x", "a;b=1234567890123456", "a b", "a;b=1;b=2", "a;b=é"] {
        assert!(list(wrong).is_err(), "{wrong}");
    }
}
