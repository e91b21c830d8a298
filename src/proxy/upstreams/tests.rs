use super::super::upstream::tests::settings;
use super::*;

#[test]
fn a_request_goes_to_the_first_usable_upstream_and_to_each_once() {
    use Goal::{Any, Only};
    use Same::{Again, Never};
    let all = [true; 4];
    for (usable, goal, tried, same, chosen) in [
        (all, Any, vec![], Never, Some(0)),
        (all, Any, vec![0], Never, Some(1)),
        (all, Any, vec![0], Again, Some(1)),
        (all, Any, vec![0, 1], Never, Some(2)),
        (all, Any, vec![0, 1, 2], Again, None),
        ([false, true, false, true], Any, vec![], Never, Some(1)),
        ([false, true, false, true], Any, vec![1], Never, Some(3)),
        ([false; 4], Any, vec![], Again, None),
        ([true, false, false, false], Any, vec![0], Never, None),
        ([true, false, false, false], Any, vec![0], Again, Some(0)),
        ([true, false, false, false], Any, vec![0, 0], Again, None),
        ([false; 4], Any, vec![0], Again, None),
        (all, Only(2), vec![], Never, Some(2)),
        (all, Only(2), vec![2], Never, None),
        (all, Only(2), vec![2], Again, Some(2)),
        (all, Only(2), vec![2, 2], Again, None),
        ([true, true, false, true], Only(2), vec![], Again, None),
    ] {
        let found = choose(4, goal, &tried, same, |place| usable[place]);
        assert_eq!(found, chosen, "{usable:?} {goal:?} {tried:?} {same:?}");
    }
}

#[test]
fn what_was_made_at_an_upstream_is_there_alone() {
    let list = |names: &[&str]| {
        let settings: Vec<_> = names.iter().map(|name| settings(name, "http://127.0.0.1:1")).collect();
        Upstreams::new(&settings).expect("upstreams")
    };
    let (one, two) = (list(&["a"]), list(&["a", "b"]));
    for (upstreams, name, goal) in [
        (&two, Some("b"), Some(Goal::Only(1))),
        (&two, Some("a"), Some(Goal::Only(0))),
        (&two, Some("gone"), None),
        (&two, None, Some(Goal::Only(0))),
        (&one, Some("gone"), Some(Goal::Only(0))),
        (&one, None, Some(Goal::Only(0))),
    ] {
        assert_eq!(upstreams.goal_of(name), goal, "{name:?}");
    }
}

#[test]
fn no_upstream_and_a_name_used_twice_are_errors() {
    assert!(matches!(Upstreams::new(&[]), Err(SettingsError::None)));
    let twice = [settings("a", "http://127.0.0.1:1"), settings("a", "http://127.0.0.1:2")];
    assert!(matches!(Upstreams::new(&twice), Err(SettingsError::Twice { .. })));
}

#[tokio::test]
async fn an_upstream_that_keeps_failing_is_passed_over_and_one_report_counts_once() {
    let list = [settings("a", "http://127.0.0.1:1"), settings("b", "http://127.0.0.1:2")];
    let upstreams = Upstreams::new(&list).expect("upstreams");
    for _ in 0..list[0].breaker.failures {
        let mut way = Way::default();
        upstreams.enter(&mut way, Goal::Any).expect("a way");
        assert_eq!(upstreams.present(&way).map(|upstream| &**upstream.name()), Some("a"));
        upstreams.failed(&mut way);
        upstreams.failed(&mut way);
        upstreams.succeeded(&mut way);
    }
    let mut way = Way::default();
    upstreams.enter(&mut way, Goal::Any).expect("a way");
    assert_eq!(name_of(upstreams.present(&way)).as_deref(), Some("b"));
    assert!(!upstreams.is_open(Goal::Only(0)) && upstreams.is_open(Goal::Any) && upstreams.is_any_up());
}
