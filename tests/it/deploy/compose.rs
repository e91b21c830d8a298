//! The compose file.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;

use super::{content, gateway_ends_within, names_to_fill_in, path, seconds, text, texts, yaml};
use crate::harness::packages;

const FILE: &str = "compose/compose.yaml";

fn services() -> serde_json::Map<String, Value> {
    yaml(FILE)["services"].as_object().expect("services").clone()
}

/// The services that run the gateway.
fn gateways() -> Vec<Value> {
    let gateways = services().into_iter().filter(|(name, _)| name.starts_with("gateway-"));
    gateways.map(|(_, service)| service).collect()
}

#[test]
fn the_compose_file_is_one() {
    let checker = packages::checkers().join("check-jsonschema");
    content(Command::new(checker).args(["--builtin-schema", "vendor.compose-spec"]).arg(path(FILE)));
}

#[test]
fn what_is_mounted_exists_and_is_not_written_to() {
    for (name, service) in services() {
        for volume in service["volumes"].as_array().into_iter().flatten() {
            if let Some(named) = volume.as_str() {
                let named = named.split(':').next().expect("a name");
                assert!(yaml(FILE)["volumes"].get(named).is_some(), "{name}: {named}");
                continue;
            }
            let source = volume["source"].as_str().expect("a source");
            assert!(path("compose").join(source).exists(), "{name}: {source}");
            assert_eq!(volume["read_only"], true, "{name}: {source}");
        }
    }
}

#[test]
fn secrets_are_filled_in_and_have_no_defaults() {
    let text = text(FILE);
    let mut wanted = BTreeSet::new();
    for part in text.split("${").skip(1) {
        let inside = part.split('}').next().expect("an end");
        let Some((name, rest)) = inside.split_once(':') else { panic!("${{{inside}}} may be empty") };
        if rest.starts_with('?') {
            wanted.insert(name.to_owned());
        } else {
            assert_eq!(name, "OVERFALL_PORT", "{name} has a default");
        }
    }
    let given: BTreeSet<String> = names_to_fill_in("compose/.env.example").into_iter().collect();
    assert_eq!(wanted, given);
}

#[test]
fn clients_reach_the_proxy_and_nobody_else_is_reached_from_outside() {
    for (name, service) in services() {
        for port in service["ports"].as_array().map(Vec::as_slice).unwrap_or_default() {
            let port = port.as_str().expect("a port");
            assert!(name == "proxy" || port.starts_with("127.0.0.1:"), "{name} publishes {port}");
        }
    }
    assert_eq!(yaml(FILE)["networks"]["stores"]["internal"], true);
    for store in ["redis", "postgres"] {
        assert_eq!(services()[store]["networks"], serde_json::json!(["stores"]), "{store}");
    }
}

#[test]
fn each_gateway_has_a_folder_of_its_own_and_time_to_end() {
    let mut folders = BTreeSet::new();
    for gateway in gateways() {
        let data = gateway["volumes"][0].as_str().expect("a named volume").to_owned();
        assert!(data.ends_with(":/var/lib/overfall"), "{data}");
        assert!(folders.insert(data), "one process at a time in a folder");
        assert!(gateway.get("deploy").is_none() && gateway.get("scale").is_none());
        let grace = seconds(gateway["stop_grace_period"].as_str().expect("a time"));
        assert!(grace >= gateway_ends_within(), "{grace}");
    }
    assert!(folders.len() >= 2, "{folders:?}");
}

#[test]
fn redis_forgets_nothing() {
    let services = services();
    let words = texts(&services["redis"]["command"]);
    for pair in [["--appendonly", "yes"], ["--maxmemory-policy", "noeviction"]] {
        assert!(words.windows(2).any(|words| words == pair), "{pair:?}");
    }
}

#[test]
fn the_proxy_knows_every_gateway_and_its_configuration_is_one() {
    let mut configuration = text("compose/nginx.conf");
    let names: Vec<String> = services().keys().filter(|name| name.starts_with("gateway-")).cloned().collect();
    for name in &names {
        assert!(configuration.contains(&format!("server {name}:8080 ")), "{name}");
        // Names that only the containers' network knows would not resolve.
        configuration = configuration.replace(name, "127.0.0.1");
    }
    assert_eq!(configuration.matches("server 127.0.0.1:8080").count(), names.len());
    let folder = tempfile::tempdir().expect("a folder");
    let inside = |name: &str| folder.path().join(name).display().to_string();
    for (there, here) in [("/run/nginx.pid", "pid"), ("/tmp/body", "body")] {
        assert!(configuration.contains(there));
        configuration = configuration.replace(there, &inside(here));
    }
    std::fs::write(inside("nginx.conf"), configuration).expect("written");
    content(Command::new("nginx").args(["-t", "-q", "-c", &inside("nginx.conf")]));
}
