//! How the books write what has parts: as JSON and fractions that people can read and query.
//!
//! Shared by every store, so that books can be moved between them as they are.

use std::borrow::Cow;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use smallvec::SmallVec;

use crate::access::record::{DrawEntry, OriginEntry};
use crate::policy::compiled::{CounterKey, Name, Scope};
use crate::units::{Amount, GrantId, Price, Quantities, Timestamp, ToolCalls, Unit};

/// A draw: `{"layer":"credits","amount":5,"unit":"credit","per":"account","balance":"wallet","grant":"grt_…"}`.
#[derive(Serialize, Deserialize)]
struct DrawText<'a> {
    #[serde(borrow)]
    layer: Cow<'a, str>,
    amount: Amount,
    unit: Unit,
    /// Where it differs from the amount.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    covers: Option<Amount>,
    per: Scope,
    /// `[key, start]` of each window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    windows: Option<SmallVec<[(KeyText, Timestamp); 2]>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    balance: Option<Cow<'a, str>>,
    /// None where the balance owes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    grant: Option<Cow<'a, str>>,
}

/// A key as 16 hexadecimal digits: as a number it would not survive readers that know only doubles.
struct KeyText(CounterKey);

impl Serialize for KeyText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:016x}", self.0.0))
    }
}

impl<'de> Deserialize<'de> for KeyText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let digits = Cow::<'de, str>::deserialize(deserializer)?;
        let key = u64::from_str_radix(&digits, 16).map_err(serde::de::Error::custom)?;
        Ok(Self(CounterKey(key)))
    }
}

/// Quantities; what is zero is left out.
#[derive(Serialize, Deserialize)]
struct QuantitiesText<'a> {
    #[serde(default, skip_serializing_if = "is_zero")]
    input_tokens: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    cached_input_tokens: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    cache_write_tokens: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    output_tokens: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    seconds: u64,
    #[serde(default, skip_serializing_if = "no_calls")]
    tool_calls: Cow<'a, ToolCalls>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
const fn is_zero(count: &u64) -> bool {
    *count == 0
}

fn no_calls(calls: &ToolCalls) -> bool {
    calls.is_empty()
}

/// Writes draws.
pub(super) fn of_draws(draws: &[DrawEntry]) -> Option<String> {
    let texts: SmallVec<[DrawText<'_>; 4]> = draws.iter().map(of_draw).collect();
    serde_json::to_string(texts.as_slice()).ok()
}

fn of_draw(draw: &DrawEntry) -> DrawText<'_> {
    let mut text = DrawText {
        layer: (&*draw.layer).into(),
        amount: draw.amount,
        unit: draw.unit,
        covers: (draw.covers != draw.amount).then_some(draw.covers),
        per: draw.scope,
        windows: None,
        balance: None,
        grant: None,
    };
    match &draw.origin {
        OriginEntry::Windows(windows) => {
            text.windows = Some(windows.iter().map(|(key, start)| (KeyText(*key), *start)).collect());
        }
        OriginEntry::Grant { balance, grant } => {
            text.balance = Some((&**balance).into());
            text.grant = Some(grant.to_string().into());
        }
        OriginEntry::Debt { balance } => text.balance = Some((&**balance).into()),
    }
    text
}

/// Reads draws; `None` where the text is not what was written.
pub fn to_draws(text: &str) -> Option<Vec<DrawEntry>> {
    to_draws_naming(text, &mut |name| Arc::from(name))
}

/// Reads draws; what they name is made by `name`, so that many texts can share their names.
pub(super) fn to_draws_naming(text: &str, name: &mut dyn FnMut(&str) -> Name) -> Option<Vec<DrawEntry>> {
    let draws: SmallVec<[DrawText<'_>; 4]> = serde_json::from_str(text).ok()?;
    draws.into_iter().map(|draw| to_draw(draw, name)).collect()
}

fn to_draw(text: DrawText<'_>, name: &mut dyn FnMut(&str) -> Name) -> Option<DrawEntry> {
    let origin = match (text.windows, text.balance, text.grant) {
        (Some(windows), None, None) => {
            OriginEntry::Windows(windows.into_iter().map(|(KeyText(key), start)| (key, start)).collect())
        }
        (None, Some(balance), Some(grant)) => {
            OriginEntry::Grant { balance: name(&balance), grant: grant.parse::<GrantId>().ok()? }
        }
        (None, Some(balance), None) => OriginEntry::Debt { balance: name(&balance) },
        _ => return None,
    };
    Some(DrawEntry {
        layer: name(&text.layer),
        amount: text.amount,
        unit: text.unit,
        covers: text.covers.unwrap_or(text.amount),
        scope: text.per,
        origin,
    })
}

/// Writes quantities.
pub(super) fn of_quantities(quantities: &Quantities) -> Option<String> {
    serde_json::to_string(&QuantitiesText {
        input_tokens: quantities.input_tokens,
        cached_input_tokens: quantities.cached_input_tokens,
        cache_write_tokens: quantities.cache_write_tokens,
        output_tokens: quantities.output_tokens,
        seconds: quantities.seconds,
        tool_calls: Cow::Borrowed(&quantities.tool_calls),
    })
    .ok()
}

/// Reads quantities; `None` where the text is not what was written.
pub fn to_quantities(text: &str) -> Option<Quantities> {
    let text: QuantitiesText<'_> = serde_json::from_str(text).ok()?;
    Some(Quantities {
        input_tokens: text.input_tokens,
        cached_input_tokens: text.cached_input_tokens,
        cache_write_tokens: text.cache_write_tokens,
        output_tokens: text.output_tokens,
        seconds: text.seconds,
        tool_calls: text.tool_calls.into_owned(),
    })
}

/// Writes a price as `numerator/denominator` micro-credits.
pub(super) fn of_price(price: Price) -> String {
    let (numerator, denominator) = price.parts();
    format!("{numerator}/{denominator}")
}

/// Reads a price; `None` where the text is not what was written.
pub(super) fn to_price(text: &str) -> Option<Price> {
    let (numerator, denominator) = text.split_once('/')?;
    let (numerator, denominator) = (numerator.parse::<u128>().ok()?, denominator.parse::<u128>().ok()?);
    let parts = [("numerator", numerator), ("denominator", denominator)];
    let parts = serde::de::value::MapDeserializer::<_, serde::de::value::Error>::new(parts.into_iter());
    Price::deserialize(parts).ok().filter(|price| price.parts().1 != 0)
}

/// Reads a word of a closed set, such as a unit or an outcome.
pub fn to_word<T: DeserializeOwned>(word: &str) -> Option<T> {
    let word: serde::de::value::StrDeserializer<'_, serde::de::value::Error> =
        serde::de::IntoDeserializer::into_deserializer(word);
    T::deserialize(word).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::record::{Grade, Outcome};
    use crate::ledger::rows::UpdateKind;

    fn draws() -> Vec<DrawEntry> {
        let draw = |layer: &str, covers: u64, origin| DrawEntry {
            layer: layer.into(),
            amount: Amount::clamped(5),
            unit: Unit::Credit,
            covers: Amount::clamped(covers),
            scope: Scope::User,
            origin,
        };
        let windows =
            vec![(CounterKey(u64::MAX), Timestamp::from_ms(-1)), (CounterKey(2), Timestamp::from_ms(3))];
        let grant = GrantId::from_bytes([0xab; 16]);
        vec![
            draw("included", 9, OriginEntry::Windows(windows)),
            draw("credits", 5, OriginEntry::Grant { balance: "wallet".into(), grant }),
            draw("credits", 5, OriginEntry::Debt { balance: "wallet".into() }),
        ]
    }

    #[test]
    fn draws_are_written_for_people_and_read_back_as_they_were() {
        let text = of_draws(&draws()).unwrap();
        assert!(text.starts_with(
            r#"[{"layer":"included","amount":5,"unit":"credit","covers":9,"per":"user","windows":[["ffffffffffffffff",-1],"#
        ));
        assert!(
            text.ends_with(
                r#"{"layer":"credits","amount":5,"unit":"credit","per":"user","balance":"wallet"}]"#
            )
        );
        assert_eq!(to_draws(&text), Some(draws()));
        assert_eq!(to_draws(&text.replace("\"balance\":\"wallet\",", "")), None);
        assert_eq!(to_draws("{}"), None);
    }

    #[test]
    fn quantities_leave_out_what_is_zero() {
        let quantities = Quantities {
            output_tokens: 7,
            tool_calls: smallvec::smallvec![("web_search".into(), 2)],
            ..Quantities::default()
        };
        let text = of_quantities(&quantities).unwrap();
        assert_eq!(text, r#"{"output_tokens":7,"tool_calls":[["web_search",2]]}"#);
        assert_eq!(to_quantities(&text), Some(quantities));
        assert_eq!(to_quantities("{}"), Some(Quantities::default()));
    }

    #[test]
    fn prices_are_fractions() {
        let price = Price::times(3, "43.75".parse().unwrap()).unwrap();
        assert_eq!(of_price(price), "525/4");
        assert_eq!(to_price("525/4"), Some(price));
        for text in ["525", "525/0", "-1/4", "525/4/2", ""] {
            assert_eq!(to_price(text), None, "{text}");
        }
    }

    #[test]
    fn words_are_read_as_they_are_written() {
        for outcome in Outcome::ALL {
            assert_eq!(to_word(outcome.as_str()), Some(outcome));
        }
        assert_eq!(to_word(Grade::Floor.as_str()), Some(Grade::Floor));
        assert_eq!(to_word(Unit::InputToken.as_str()), Some(Unit::InputToken));
        assert_eq!(to_word(UpdateKind::Expiry.as_str()), Some(UpdateKind::Expiry));
        assert_eq!(to_word::<UpdateKind>("theft"), None);
    }
}
