//! The two policies of the simulation: numbers from which both the YAML that the real code reads and the auditor's own
//! arithmetic are made.

use super::auditor::Use;

/// A product.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Feature {
    /// Tokens, in credits.
    Codex,
    /// Seconds of video.
    Sora,
}

/// Something that is granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Balance {
    /// A user's, issued once by policy.
    Launch,
    /// An account's.
    Wallet,
}

/// Which service a call has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Tier {
    /// The ordinary one.
    #[default]
    Default,
    /// A better one.
    Priority,
    /// A slower one.
    Flex,
    /// One that no policy lists.
    Unlisted,
}

/// What a layer gives out of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layer {
    /// One or two windows.
    Window,
    /// A balance.
    Balance(Balance),
}

/// One policy. Money in micro-credits, time in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// Tenths of a micro-credit for a token of input.
    pub(super) input: u64,
    /// Tenths of a micro-credit for a token of output.
    pub(super) output: u64,
    /// Micro-credits for a second.
    pub(super) second: u64,
    /// Hundredths by which prices are multiplied in the tiers that are listed: priority, flex.
    pub(super) tiers: [u64; 2],
    /// What an account may spend on codex in [`CAP_MS`].
    pub(super) cap: u64,
    /// What a user may spend on sora in a day.
    pub(super) daily_cap: u64,
    /// The least output that a request is cut down to.
    pub(super) minimum: u64,
    /// The user's windows of codex: what each gives.
    pub(super) included: [u64; 2],
    /// The account's seconds of a day.
    pub(super) daily: u64,
    /// What policy issues to each user.
    pub(super) launch: u64,
    /// Forgiven in a month.
    pub(super) forgive: u64,
    /// What may be owed.
    pub(super) debt: u64,
    /// Requests of a user in flight.
    pub(super) places: usize,
    /// Videos of a user in flight.
    pub(super) jobs: usize,
}

/// Micro-credits in a credit.
pub(super) const CREDIT: u64 = 1_000_000;
/// How long the windows of codex are.
pub(super) const INCLUDED_MS: [i64; 2] = [600_000, 3_600_000];
/// A day.
pub(super) const DAY_MS: i64 = 86_400_000;
/// How long the window of the cap on codex is.
pub(super) const CAP_MS: i64 = 3_600_000;
/// How long after its issue the launch offer expires.
pub(super) const LAUNCH_MS: i64 = 3_600_000;
/// The requests that a user may make at once, and in [`BURST_MS`].
pub(super) const BURST: u64 = 8;
/// The rate's own time.
pub(super) const BURST_MS: i64 = 60_000;

/// The policies that a reload switches between.
pub(super) const RULES: [Rules; 2] = [
    Rules {
        input: 10_000_003,
        output: 20_000_007,
        second: 333_333,
        tiers: [200, 50],
        cap: 45 * CREDIT,
        daily_cap: 3 * CREDIT,
        minimum: 3,
        included: [30 * CREDIT, 70 * CREDIT],
        daily: 10,
        launch: 20 * CREDIT,
        forgive: 10 * CREDIT,
        debt: 15 * CREDIT,
        places: 4,
        jobs: 3,
    },
    Rules {
        input: 7_500_001,
        output: 31_000_009,
        second: 1_250_001,
        tiers: [175, 40],
        cap: 30 * CREDIT + 7,
        daily_cap: 9 * CREDIT,
        minimum: 5,
        included: [22 * CREDIT + 1, 90 * CREDIT],
        daily: 6,
        launch: 12 * CREDIT + 5,
        forgive: 4 * CREDIT,
        debt: 6 * CREDIT,
        places: 3,
        jobs: 4,
    },
];

impl Feature {
    /// In policy order.
    pub(super) const fn layers(self) -> &'static [Layer] {
        match self {
            Self::Codex => &[Layer::Window, Layer::Balance(Balance::Launch), Layer::Balance(Balance::Wallet)],
            Self::Sora => &[Layer::Window, Layer::Balance(Balance::Wallet)],
        }
    }

    /// The windows of its first layer: what each gives, and how long it is.
    pub(super) fn windows(self, rules: &Rules) -> Vec<(u64, i64)> {
        match self {
            Self::Codex => rules.included.into_iter().zip(INCLUDED_MS).collect(),
            Self::Sora => vec![(rules.daily, DAY_MS)],
        }
    }

    /// What may be spent in a window: that of an hour, or of a UTC day.
    pub(super) const fn cap(self, rules: &Rules) -> u64 {
        match self {
            Self::Codex => rules.cap,
            Self::Sora => rules.daily_cap,
        }
    }

    /// Its name in the policy.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Codex => "codex",
            Self::Sora => "sora",
        }
    }
}

impl Tier {
    /// Any of them.
    pub(super) const fn any(number: u32) -> Self {
        match number % 8 {
            0 => Self::Priority,
            1 => Self::Flex,
            2 => Self::Unlisted,
            _ => Self::Default,
        }
    }

    /// Its name.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Priority => "priority",
            Self::Flex => "flex",
            Self::Unlisted => "scale",
        }
    }
}

impl Balance {
    /// Its name in the policy.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Launch => "launch",
            Self::Wallet => "wallet",
        }
    }
}

impl Rules {
    /// What a use costs, in thousandths of micro-credits.
    pub(super) fn thousandths(&self, used: Use) -> u128 {
        let tenths = used.input * self.input + used.output * self.output + used.seconds * self.second * 10;
        let hundredths = match used.tier {
            Tier::Default => 100,
            Tier::Priority => self.tiers[0],
            Tier::Flex => self.tiers[1],
            Tier::Unlisted => self.tiers[0].max(self.tiers[1]).max(100),
        };
        u128::from(tenths) * u128::from(hundredths)
    }

    /// The policy as a file says it.
    pub(super) fn yaml(&self) -> String {
        let credits = |micros: u64| format!("{}.{:06}", micros / CREDIT, micros % CREDIT);
        let hundredths = |of: u64| format!("{}.{:02}", of / 100, of % 100);
        let tenths = |tenths: u64| format!("{}.{}", tenths / 10, tenths % 10);
        format!(
            r#"version: 1
prices:
  - {{model: "m", per_million_tokens: {{input: {input}, output: {output}}}, tiers: {{priority: {priority}, flex: {flex}}}}}
  - {{model: "v", per_second: {{720x1280: {second}}}}}
balances:
  wallet: {{per: account}}
  launch: {{per: user, issue: {{amount: {launch}, expires_after: 1h}}}}
features:
  codex: {{apis: [responses], unit: credit, overage: {{forgive: {forgive}, debt: {debt}}}, clamp: {{minimum_output_tokens: {minimum}}}}}
  sora: {{apis: [videos], unit: second}}
plans:
  plus:
    codex:
      guards:
        - {{name: in-flight, concurrent: {places}, per: user}}
        - {{name: burst, requests: {BURST}, every: 1m, burst: {BURST}, per: user}}
        - {{name: cap, spend: {cap}, every: 1h, per: account}}
      waterfall:
        - name: included
          kind: rate_limit
          per: user
          windows:
            - {{allow: {first}, every: 10m, starts: first_use}}
            - {{allow: {second_window}, every: 1h, starts: first_use}}
        - {{name: launch-offer, kind: promotion, balance: launch}}
        - {{name: credits, kind: prepaid, balance: wallet}}
    sora:
      guards:
        - {{name: jobs, concurrent: {jobs}, per: user}}
        - {{name: cap, spend: {daily_cap}, every: day, time_zone: UTC, per: user}}
      waterfall:
        - {{name: daily, kind: free_tier, per: account, windows: [{{allow: {daily}, every: day, starts: calendar, time_zone: UTC}}]}}
        - {{name: credits, kind: prepaid, balance: wallet}}
"#,
            input = tenths(self.input),
            output = tenths(self.output),
            second = credits(self.second),
            priority = hundredths(self.tiers[0]),
            flex = hundredths(self.tiers[1]),
            cap = credits(self.cap),
            daily_cap = credits(self.daily_cap),
            minimum = self.minimum,
            launch = credits(self.launch),
            forgive = credits(self.forgive),
            debt = credits(self.debt),
            places = self.places,
            first = credits(self.included[0]),
            second_window = credits(self.included[1]),
            jobs = self.jobs,
            daily = self.daily,
        )
    }
}
