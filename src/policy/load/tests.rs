use super::*;

const EXAMPLE: &str = include_str!("../../../config/policy.yaml");

#[test]
fn the_policy_that_we_ship_loads() {
    if let Err(problems) = parse("config/policy.yaml", EXAMPLE) {
        panic!("{problems}");
    }
}
