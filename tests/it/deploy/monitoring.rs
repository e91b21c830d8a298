//! What Prometheus scrapes and alarms of, and what Grafana shows.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::{Value, json};

use super::{content, path, text, yaml};
use crate::harness::workspace;

const DASHBOARD: &str = "grafana/dashboards/overfall.json";
/// What Prometheus makes of a histogram.
const PARTS: [&str; 3] = ["_bucket", "_sum", "_count"];

fn promtool(words: &[&str]) -> Command {
    let mut command = Command::new("promtool");
    command.args(words);
    command
}

/// The alerts, each with its expression.
fn alerts() -> Vec<(String, String)> {
    let rules = yaml("prometheus/rules.yaml");
    let groups = rules["groups"].as_array().expect("groups");
    let rules = groups.iter().flat_map(|group| group["rules"].as_array().expect("rules"));
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    rules.map(|rule| (text(&rule["alert"]), text(&rule["expr"]))).collect()
}

/// Counters whose growth is an alarm by itself.
pub(super) fn counters_of_alarms() -> BTreeSet<String> {
    let mut counters = BTreeSet::new();
    for (_, expr) in alerts() {
        let names = named_in(&expr).into_iter().filter(|name| name.ends_with("_total"));
        counters.extend(names.filter(|name| !expr.contains(&format!("{name}{{"))));
    }
    counters
}

fn panels() -> Vec<Value> {
    let dashboard: Value = serde_json::from_str(&text(DASHBOARD)).expect("JSON");
    dashboard["panels"].as_array().expect("panels").clone()
}

/// What the panels ask, as Grafana fills it in.
fn questions() -> Vec<String> {
    let panels = panels();
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    targets
        .map(|target| target["expr"].as_str().expect("a question").replace("$__rate_interval", "1m"))
        .collect()
}

/// Metrics of the gateway that a text names.
fn named_in(text: &str) -> BTreeSet<String> {
    let is_part = |character: char| character.is_ascii_alphanumeric() || matches!(character, '_' | ':');
    let words = text.split(|character| !is_part(character));
    words.filter(|word| word.starts_with("overfall_")).map(str::to_owned).collect()
}

/// Metrics that the sources describe.
fn described() -> BTreeSet<String> {
    let sources = workspace::files()
        .into_iter()
        .filter(|file| file.starts_with("src") && file.extension().is_some_and(|end| end == "rs"));
    let texts = sources.map(|file| std::fs::read_to_string(workspace::root().join(file)).expect("a source"));
    let mut found = BTreeSet::new();
    for text in texts.filter(|text| text.contains("describe_")) {
        found.extend(text.split('"').filter(|word| named_in(word).contains(*word)).map(str::to_owned));
    }
    found
}

#[test]
fn prometheus_reads_its_files() {
    content(promtool(&["check", "config"]).arg(path("prometheus/prometheus.yaml")));
    content(promtool(&["check", "rules", "--lint-fatal"]).arg(path("prometheus/rules.yaml")));
    // Debian's build knows no Kubernetes: what finds the pods is left out, and what is made of them is checked.
    let there = text("prometheus/kubernetes.yaml");
    let finds = "    kubernetes_sd_configs:\n      - role: pod\n        namespaces: {names: [overfall]}\n";
    let here = there.replace(finds, "    static_configs: [{targets: [pod]}]\n");
    assert_ne!(there, here);
    assert_eq!(yaml("kubernetes/kustomization.yaml")["namespace"], "overfall");
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::copy(path("prometheus/rules.yaml"), folder.path().join("rules.yaml")).expect("copied");
    let file = folder.path().join("kubernetes.yaml");
    std::fs::write(&file, here).expect("written");
    content(promtool(&["check", "config"]).arg(file));
}

/// Made-up series in which everything is well raise none, and others raise all.
#[test]
fn alarms_sound_when_they_should_and_only_then() {
    let cases = workspace::root().join("tests/it/deploy/alarms.yaml");
    content(promtool(&["test", "rules"]).arg(&cases));
    let cases: Value =
        serde_saphyr::from_str(&std::fs::read_to_string(cases).expect("cases")).expect("cases in YAML");
    let bad = &cases["tests"][1]["promql_expr_test"][0]["exp_samples"];
    let sounded: BTreeSet<String> = bad
        .as_array()
        .expect("alarms")
        .iter()
        .map(|sample| {
            sample["labels"].as_str().expect("labels").split('"').nth(1).expect("a name").to_owned()
        })
        .collect();
    assert_eq!(sounded, alerts().into_iter().map(|(name, _)| name).collect());
}

#[test]
fn only_metrics_that_there_are_are_asked_for() {
    let described = described();
    assert!(described.len() > 50, "{described:?}");
    let page = std::fs::read_to_string(workspace::root().join("docs/operations.md")).expect("a page");
    let asked = alerts().into_iter().map(|(_, expr)| expr).chain(questions());
    let asked = asked.chain([text("prometheus/adapter.yaml"), text("kubernetes/autoscaler.yaml")]);
    for text in asked {
        let names = named_in(&text);
        assert!(!names.is_empty() || text.contains("up{"), "{text}");
        for name in names {
            let base = PARTS.iter().find_map(|part| name.strip_suffix(part)).unwrap_or(&name);
            assert!([base, &name].iter().any(|name| described.contains(*name)), "{name} of {text}");
            assert!(page.contains(&format!("`{base}`")) || page.contains(&format!("`{base}{{")), "{base}");
        }
    }
}

#[test]
fn the_dashboard_asks_what_prometheus_understands() {
    let rules: Vec<Value> = questions()
        .iter()
        .enumerate()
        .map(|(number, expr)| json!({"record": format!("question:{number}"), "expr": expr}))
        .collect();
    assert!(rules.len() > 20, "{rules:?}");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("questions.yaml");
    let all = json!({"groups": [{"name": "questions", "rules": rules}]});
    std::fs::write(&file, all.to_string()).expect("written");
    content(promtool(&["check", "rules"]).arg(file));
    let panels = panels();
    let ids: BTreeSet<u64> = panels.iter().map(|panel| panel["id"].as_u64().expect("an id")).collect();
    assert_eq!(ids.len(), panels.len(), "each panel has an id of its own");
}

/// Compose mounts them where the provisioning looks, and scrapes what it starts.
#[test]
fn what_is_scraped_and_shown_is_what_compose_starts() {
    let compose = yaml("compose/compose.yaml");
    let services = compose["services"].as_object().expect("services");
    let provider = yaml("grafana/provisioning/dashboards/overfall.yaml");
    let folder = &provider["providers"][0]["options"]["path"];
    let mounts = services["grafana"]["volumes"].as_array().expect("volumes");
    assert!(
        mounts.iter().any(|mount| mount["target"] == *folder && mount["source"] == "../grafana/dashboards")
    );
    let source = yaml("grafana/provisioning/datasources/prometheus.yaml");
    assert_eq!(source["datasources"][0]["url"], "http://prometheus:9090");
    let scraped = yaml("prometheus/prometheus.yaml");
    let jobs = scraped["scrape_configs"].as_array().expect("jobs");
    let targets: BTreeSet<String> = jobs[0]["static_configs"][0]["targets"]
        .as_array()
        .expect("targets")
        .iter()
        .map(|target| target.as_str().expect("a target").trim_end_matches(":8081").to_owned())
        .collect();
    let gateways = services.keys().filter(|name| name.starts_with("gateway-")).cloned().collect();
    assert_eq!(targets, gateways);
    assert!(services.contains_key(jobs[1]["dns_sd_configs"][0]["names"][0].as_str().expect("a name")));
    for (name, expr) in alerts() {
        if let Some((_, rest)) = expr.split_once("job=\"") {
            let job = rest.split('"').next().expect("an end");
            assert!(jobs.iter().any(|known| known["job_name"] == job), "{name}: {job}");
        }
    }
}
