//! The units of systemd.

use std::process::Command;

use super::{content, gateway_ends_within, names_to_fill_in, seconds, text, yaml};
use crate::harness::gateway::BINARY;

const UNITS: [&str; 2] = ["overfall.service", "overfall-settle.service"];
/// The most that `systemd-analyze security` may find, in tenths: 0 is shut, 100 is open.
const EXPOSURE_MAX: &str = "20";

/// The values of a setting.
fn of(unit: &str, setting: &str) -> Vec<String> {
    let text = text(&format!("systemd/{unit}"));
    let values = text.lines().filter_map(|line| line.strip_prefix(setting)?.strip_prefix('='));
    values.map(str::to_owned).collect()
}

#[test]
fn units_are_right_and_shut() {
    let folder = tempfile::tempdir().expect("a folder");
    for unit in UNITS {
        // It asks for the program that is started, which is not installed here.
        let there = "/usr/local/bin/overfall";
        let text = text(&format!("systemd/{unit}"));
        assert!(text.contains(there));
        let file = folder.path().join(unit);
        std::fs::write(&file, text.replace(there, BINARY)).expect("written");
        content(
            Command::new("systemd-analyze").args(["verify", "--man=no", "--recursive-errors=one"]).arg(&file),
        );
        content(
            Command::new("systemd-analyze")
                .args(["security", "--offline=true", "--no-pager", "--threshold", EXPOSURE_MAX])
                .arg(&file),
        );
    }
}

#[test]
fn a_gateway_keeps_its_folder_and_has_time_to_end() {
    let folder = format!("/var/lib/{}", of("overfall.service", "StateDirectory")[0]);
    assert_eq!(yaml("fleet/overfall.yaml")["stores"]["data"], folder);
    let grace = seconds(&of("overfall.service", "TimeoutStopSec")[0]);
    assert!(grace >= gateway_ends_within(), "{grace}");
    assert_eq!(of("overfall.service", "KillSignal"), Vec::<String>::new(), "SIGTERM ends it in order");
}

#[test]
fn secrets_stand_in_a_file_that_names_all_of_them() {
    let given = names_to_fill_in("systemd/secrets.env.example");
    for unit in UNITS {
        assert_eq!(of(unit, "EnvironmentFile"), ["/etc/overfall/secrets.env"]);
        assert_eq!(of(unit, "Environment"), Vec::<String>::new(), "no secret in a unit: anybody may read it");
    }
    let deployment = text("fleet/overfall.yaml");
    for name in &given {
        assert!(deployment.contains(&format!("{{env: {name}}}")), "{name}");
    }
    assert_eq!(deployment.matches("{env: ").count(), given.len());
}
