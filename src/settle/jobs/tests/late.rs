//! Truths that come after the deadline.

use super::*;
use crate::access::record::{MadeRecord, MadeVideo, Record};
use crate::ledger::sqlite::SqliteBooks;

/// I6, I8, I12: a truth after the deadline is a correction, made once, and the audit proves the books with it.
#[tokio::test]
async fn a_truth_after_the_deadline_corrects_what_the_deadline_charged() {
    let usage = |input: u64, output: u64| json!({"input_tokens": input, "output_tokens": output});
    for (kind, late, charged, truth, grade) in [
        (JobKind::Video, video("completed", &json!("8")), "0", "20", Grade::Exact),
        (JobKind::Video, video("failed", &json!("8")), "0", "0", Grade::Exact),
        (JobKind::Response, response("completed", &usage(12, 30)), "10", "42", Grade::Exact),
        (JobKind::Response, response("cancelled", &usage(3, 0)), "10", "3", Grade::Exact),
        (JobKind::Response, response("failed", &Value::Null), "10", "10", Grade::Estimated),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let rig = Rig::new(folder.path()).await;
        let resource = late["id"].as_str().unwrap().to_owned();
        let decision = rig.begin(1, kind, &resource).await;
        rig.clock.advance(HOUR);
        rig.meter.sweep().await.unwrap();
        assert!(rig.jobs.learn(kind, &late).await.unwrap().is_none(), "the books do not have its end yet");
        let row = rig.booked(decision).await;
        assert_eq!((row.outcome, row.revision), (Outcome::Expired, 1));
        assert_eq!(row.charge.charged.to_string(), charged);
        let running = json!({"id": resource, "status": "in_progress"});
        assert!(rig.jobs.learn(kind, &running).await.unwrap().is_none());
        assert!(!rig.jobs.is_ended(&resource), "nobody knows its end");
        rig.jobs.learn(kind, &late).await.unwrap().unwrap().await.unwrap();
        assert!(rig.jobs.learn(kind, &late).await.unwrap().is_none(), "once");
        let row = rig.booked(decision).await;
        assert_eq!((row.revision, row.grade), (2, grade), "{late}");
        assert_eq!(row.charge.charged.to_string(), truth, "{late}");
        let left = rig.ledger.grants(ACCOUNT).await.unwrap()[0].remaining;
        let expected: Credits = truth.parse().unwrap();
        assert_eq!("1000".parse::<Credits>().unwrap().checked_sub(left), Some(expected), "I12");
        let path = folder.path().join("ledger.sqlite");
        let books = SqliteBooks::open(&path).unwrap();
        let read = |text: &str| load::parse("p", text).ok().map(Arc::new);
        let scope = crate::audit::Scope::default();
        let report = crate::audit::audit(&books, &read, scope, &mut |_| {}).unwrap();
        assert!(report.violations.is_empty(), "{late}: {:?}", report.violations);
    }
}

/// A deadline that one process has seen, and a truth that the next one sees: the same correction, once.
#[tokio::test]
async fn a_truth_that_comes_after_a_restart_corrects_what_a_deadline_charged_before_it() {
    for kind in [JobKind::Video, JobKind::Response] {
        let folder = tempfile::tempdir().unwrap();
        let rig = Rig::new(folder.path()).await;
        let usage = json!({"input_tokens": 12, "output_tokens": 30});
        let (id, late, truth) = match kind {
            JobKind::Video => ("video_1", video("completed", &json!("8")), "20"),
            JobKind::Response => ("resp_1", response("completed", &usage), "42"),
        };
        let decision = rig.begin(1, kind, id).await;
        if kind == JobKind::Video {
            let video = Some(MadeVideo { model: "film".into(), seconds: 8, size: None });
            let resource = Resource { id: id.into(), upstream: None };
            let made = MadeRecord { resource, account: ACCOUNT, user: USER, made_at: rig.clock.now(), video };
            rig.ledger.apply(vec![Record::Made(made)]).await.unwrap();
        }
        rig.clock.advance(HOUR);
        rig.meter.sweep().await.unwrap();
        assert_eq!(rig.booked(decision).await.outcome, Outcome::Expired);
        let rig = rig.restarted().await;
        assert!(rig.jobs.is_ended(id), "the meter does not have it open");
        assert_eq!(rig.jobs.find_late().await.unwrap(), 1);
        assert_eq!(rig.jobs.find_late().await.unwrap(), 0, "it is known");
        assert!(!rig.jobs.is_ended(id));
        rig.script.objects.lock().unwrap().insert(id.to_owned(), late.clone());
        rig.clock.advance(Span::from_seconds(61));
        watch_until(&rig, || rig.jobs.is_ended(id)).await;
        let row = rig.booked(decision).await;
        assert_eq!((row.revision, row.charge.charged.to_string().as_str()), (2, truth));
        let rig = rig.restarted().await;
        assert_eq!(rig.jobs.find_late().await.unwrap(), 0, "its truth is known");
        assert!(rig.jobs.learn(kind, &late).await.unwrap().is_none());
    }
}

#[tokio::test]
async fn a_job_that_is_long_past_its_deadline_is_not_looked_for() {
    let folder = tempfile::tempdir().unwrap();
    let rig = Rig::new(folder.path()).await;
    let decision = rig.begin(1, JobKind::Response, "resp_1").await;
    rig.clock.advance(HOUR);
    rig.meter.sweep().await.unwrap();
    rig.booked(decision).await;
    rig.clock.advance(LATE_FOR);
    assert_eq!(rig.restarted().await.jobs.find_late().await.unwrap(), 1);
    rig.clock.advance(Span::from_ms(1));
    assert_eq!(rig.restarted().await.jobs.find_late().await.unwrap(), 0);
}

#[tokio::test]
async fn the_watcher_asks_on_after_the_deadline_and_lets_go_a_week_later() {
    let folder = tempfile::tempdir().unwrap();
    let rig = Rig::new(folder.path()).await;
    let decision = rig.begin(1, JobKind::Video, "video_1").await;
    rig.begin(2, JobKind::Video, "video_2").await;
    rig.clock.advance(HOUR);
    assert_eq!(rig.meter.sweep().await.unwrap().voided, 2);
    rig.booked(decision).await;
    let asked = || rig.script.asked.load(Ordering::SeqCst);
    watch_until(&rig, || asked() == 2).await;
    rig.script.objects.lock().unwrap().insert("video_1".to_owned(), video("completed", &json!("8")));
    rig.clock.advance(Span::from_seconds(61));
    watch_until(&rig, || rig.jobs.is_ended("video_1")).await;
    assert_eq!(rig.booked(decision).await.charge.charged.to_string(), "20");
    assert!(!rig.jobs.is_ended("video_2"));
    rig.clock.advance(LATE_FOR);
    watch_until(&rig, || rig.jobs.is_ended("video_2")).await;
}
