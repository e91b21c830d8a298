//! The policy file exactly as written: which keys there are, and what each may hold by itself. What belongs together
//! and what refers to what is for [`check`](super::check).

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator};

use super::compiled::{Api, LayerKind, Scope, WhenExhausted};
use super::decode::{At, Decode, List, Map, mismatch, record};
use super::problem::Sink;
use super::scalars::{
    Allowance, Count, Every, Factor, Instant, Length, Money, MoneyOrNone, Name, NameSpelling, Rate,
    SizeSpelling, Starts, Text, UpstreamSpelling,
};
use super::yaml::{Node, Value};
use crate::units::Unit;

record! {
    /// How much is allowed, and from where.
    Document with whole {
        /// Version of this grammar: 1.
        #[schemars(required, extend("const" = 1))]
        version: Option<At<Count>>,
        /// What use costs, in credits. The first row whose model matches the request's wins; a model without a row is refused.
        #[schemars(required)]
        prices: Option<List<Price>>,
        /// What is granted and does not refill.
        balances: Option<Map<NameSpelling, Balance>>,
        /// The metered products.
        #[schemars(required)]
        features: Option<Map<NameSpelling, Feature>>,
        /// What an account may do.
        #[schemars(required)]
        plans: Option<Map<NameSpelling, Plan>>,
    }
}

record! {
    /// The price of the models that match.
    #[schemars(extend("oneOf" = [{"required": ["per_million_tokens"]}, {"required": ["per_second"]}]))]
    Price with whole {
        /// Name of a model, or the beginning of one and a `*`.
        model: At<Text>,
        /// Credits for a million tokens.
        per_million_tokens: Option<TokenRates>,
        /// Credits for a second of video, by size.
        per_second: Option<Map<SizeSpelling, Rate>>,
        /// Credits for every request, once.
        per_request: Option<At<Rate>>,
        /// Credits for a call of a hosted tool, by its name.
        per_tool_call: Option<At<Map<UpstreamSpelling, Rate>>>,
        /// Multipliers by the tier in the response. `default` or none is 1; an unlisted one is the highest.
        tiers: Option<At<Map<UpstreamSpelling, Factor>>>,
        /// Multipliers for a long prompt.
        long_context: Option<At<LongContext>>,
    }
}

record! {
    /// Credits for a million tokens.
    TokenRates {
        /// Of the prompt.
        input: Rate,
        /// Of the part read from cache; the input rate if absent.
        cached_input: Option<Rate>,
        /// Of the part written to cache; the input rate if absent.
        cache_write: Option<Rate>,
        /// Of the answer.
        output: Rate,
    }
}

record! {
    /// Multipliers for a long prompt.
    LongContext {
        /// The longest prompt at the ordinary rates.
        over_input_tokens: Count,
        /// What the rates are multiplied by.
        multiply: Multipliers,
    }
}

record! {
    /// Multipliers of token rates.
    Multipliers {
        /// Of the input rate; 1 if absent.
        input: Option<Factor>,
        /// Of the rate for the part read from cache; that of input if absent.
        cached_input: Option<Factor>,
        /// Of the rate for the part written to cache; that of input if absent.
        cache_write: Option<Factor>,
        /// Of the output rate; 1 if absent.
        output: Option<Factor>,
    }
}

record! {
    /// Something granted that does not refill.
    Balance {
        /// Whose it is.
        per: Scope,
        /// What each owner gets once, by the first allowed draw.
        issue: Option<Issue>,
    }
}

record! {
    /// A grant that policy itself makes, once for ever.
    Issue {
        /// How many credits.
        amount: Money,
        /// Not before.
        from: Option<At<Instant>>,
        /// Not from here on.
        until: Option<At<Instant>>,
        /// How long after its issue it expires.
        expires_after: Option<Length>,
    }
}

record! {
    /// A metered product.
    Feature with whole {
        /// The routes that belong to it.
        #[schemars(required)]
        apis: Option<List<Api>>,
        /// What its window layers give in.
        #[schemars(required)]
        unit: Option<At<Unit>>,
        /// Bounds on use that can be drawn nowhere; without it 0 and 0.
        overage: Option<Overage>,
        /// Lowers `max_output_tokens` to what is affordable; absent: no clamp.
        clamp: Option<At<Clamp>>,
        /// What a stream does when nothing is left: `finish` runs on, and overage applies; `stop` ends it.
        when_exhausted: Option<At<WhenExhausted>>,
        /// Whether the Responses API is offered over WebSocket; not built yet.
        #[schemars(extend("const" = false))]
        websocket: Option<At<bool>>,
        /// How long holds live unless renewed.
        deadlines: Option<Deadlines>,
    }
}

record! {
    /// Bounds on use that can be drawn nowhere.
    Overage {
        /// Forgiven per account, feature and UTC month; 0 if absent.
        forgive: Option<MoneyOrNone>,
        /// How far the waterfall's last balance may go below zero; 0 if absent.
        debt: Option<At<MoneyOrNone>>,
    }
}

record! {
    /// Lowering `max_output_tokens` to what is affordable.
    Clamp {
        /// Below this it is a block instead.
        minimum_output_tokens: Count,
    }
}

record! {
    /// How long holds live unless renewed.
    Deadlines {
        /// Of a request; 120s if absent.
        request: Option<Length>,
        /// Of a background response; 9h if absent.
        background: Option<Length>,
        /// Of a video job; 24h if absent.
        job: Option<Length>,
    }
}

/// What an account may do, by feature.
#[derive(Debug)]
pub(super) struct Plan {
    /// The plan it begins as.
    pub extends: Option<At<Name>>,
    /// Guards and waterfall by feature.
    pub features: Map<NameSpelling, PlanFeature>,
    /// Whether nothing of it was left out.
    pub whole: bool,
}

record! {
    /// What a plan says of a feature.
    PlanFeature with whole {
        /// Hard limits that no money passes. They merge by name with those of the plan it extends.
        guards: Option<List<Guard, 0>>,
        /// Sources in the order they are drawn. It replaces that of the plan it extends.
        waterfall: Option<List<Layer>>,
    }
}

record! {
    /// A hard limit: one of requests, tokens, concurrent, spend.
    #[schemars(extend("oneOf" = [
        {"required": ["requests", "every", "per"]},
        {"required": ["tokens", "every", "per"]},
        {"required": ["concurrent", "per"]},
        {"required": ["spend", "every", "per"]},
        {"required": ["off"]},
    ]))]
    Guard with whole {
        /// Its name.
        name: At<Name>,
        /// Removes the guard of this name from what the plan extends.
        off: Option<At<bool>>,
        /// Requests in every `every`.
        requests: Option<At<Count>>,
        /// Tokens in every `every`.
        tokens: Option<At<Count>>,
        /// Requests or jobs at the same time.
        concurrent: Option<At<Count>>,
        /// Credits drawn from balances in every `every`.
        spend: Option<At<Money>>,
        /// Over what time. For spend also a stretch of the calendar.
        every: Option<At<Every>>,
        /// How much fits at once; the amount if absent.
        burst: Option<At<Count>>,
        /// Where days, weeks and months begin; UTC if absent.
        time_zone: Option<At<Text>>,
        /// Whose it is.
        per: Option<At<Scope>>,
    }
}

record! {
    /// A source: windows, which refill by the clock, or a balance, which is granted.
    #[schemars(extend("oneOf" = [{"required": ["windows", "per"]}, {"required": ["balance"]}]))]
    Layer with whole {
        /// Its name.
        name: At<Name>,
        /// What it is called in reports.
        kind: LayerKind,
        /// Whose windows they are.
        per: Option<At<Scope>>,
        /// What the windows count: the feature's unit if absent, or `request`.
        unit: Option<At<Unit>>,
        /// Windows that all must have room.
        windows: Option<At<List<Window>>>,
        /// The balance it draws on.
        balance: Option<At<Name>>,
    }
}

record! {
    /// A limit over a time that begins again.
    Window {
        /// How much it gives each time, or `unlimited`.
        allow: At<Allowance>,
        /// How long it lasts.
        every: At<Every>,
        /// Whether it begins with the first use or by the calendar.
        starts: At<Starts>,
        /// Where days, weeks and months begin; UTC if absent.
        time_zone: Option<At<Text>>,
    }
}

impl Decode for Plan {
    fn decode(node: Node, problems: &mut Sink<'_>) -> Option<Self> {
        let Value::Map(mut entries) = node.value else {
            return mismatch(&node, "a mapping of features, and `extends`", problems);
        };
        let mut extends = None;
        let mut whole = true;
        if let Some(nth) = entries.iter().position(|entry| entry.key == "extends") {
            extends = At::decode(entries.remove(nth).node, problems);
            whole = extends.is_some();
        }
        Some(Self { extends, features: Map::of(entries, problems), whole })
    }
}

impl JsonSchema for Plan {
    fn schema_name() -> Cow<'static, str> {
        "Plan".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let extends = generator.subschema_for::<Name>();
        let mut schema = Map::<NameSpelling, PlanFeature>::json_schema(generator);
        schema.insert("description".into(), "What an account may do, by feature.".into());
        schema.insert("properties".into(), serde_json::json!({ "extends": extends }));
        schema.remove("minProperties");
        schema
    }
}
