//! Accounts, users, keys, and what else is kept beside the books.

use super::{Shared, booked, with_account};
use crate::access::reason::{Block, Reason};
use crate::access::record::{
    EndRecord, Ending, JobKind, JobRecord, MadeRecord, MadeVideo, Outcome, Record, Resource,
};
use crate::ledger::LedgerError;
use crate::ledger::rows::{AccountStatus, BlockRow, Owned, Owner, Page, VideosFrom};
use crate::ledger::samples::{POLICY, Sample, credits, grant_id};
use crate::units::{DecisionId, KeyId, Quantities, Span, Timestamp};

/// Names tell people apart.
pub(crate) async fn names_are_unique_where_they_must_be(ledger: Shared) {
    let (sample, other) = (with_account(&ledger, 1).await, with_account(&ledger, 2).await);
    let mut renamed = Sample::new(3).account;
    renamed.name = sample.account.name.clone();
    let mut again = sample.user.clone();
    again.id = Sample::new(3).user.id;
    ledger.add_key(&sample.key(1)).await.unwrap();
    let mut taken = other.account.clone();
    taken.name = sample.account.name.clone();
    for result in [
        ledger.add_account(&sample.account).await,
        ledger.add_account(&renamed).await,
        ledger.change_account(&taken).await,
        ledger.add_user(&sample.user).await,
        ledger.add_user(&again).await,
        ledger.add_key(&sample.key(1)).await,
    ] {
        assert!(matches!(result, Err(LedgerError::Exists { .. })), "{result:?}");
    }
    taken.name = "another".into();
    taken.plan = "enterprise".into();
    taken.status = AccountStatus::Suspended;
    ledger.change_account(&taken).await.unwrap();
    assert_eq!(ledger.accounts(Some(sample.account.id), Page(9)).await.unwrap(), [taken]);
}

/// What belongs to nothing is refused.
pub(crate) async fn what_does_not_exist_is_missing(ledger: Shared) {
    let sample = Sample::new(1);
    for result in [ledger.change_account(&sample.account).await, ledger.add_user(&sample.user).await] {
        assert!(matches!(result, Err(LedgerError::Missing { .. })), "{result:?}");
    }
    ledger.add_account(&sample.account).await.unwrap();
    for result in
        [ledger.add_key(&sample.key(1)).await, ledger.revoke_key(KeyId::MIN, Timestamp::from_ms(1)).await]
    {
        assert!(matches!(result, Err(LedgerError::Missing { .. })), "{result:?}");
    }
    assert_eq!(ledger.grant(grant_id(1)).await.unwrap(), None);
    assert_eq!(ledger.decision(DecisionId::MIN).await.unwrap(), None);
    assert_eq!(ledger.block(DecisionId::MIN).await.unwrap(), None);
    assert_eq!(ledger.owner_of("resp_1").await.unwrap(), None);
    assert_eq!(ledger.balance_updates(sample.account.id, None, Page(9)).await.unwrap(), []);
}

/// Every page begins where the one before it ended.
pub(crate) async fn directories_are_read_in_pages(ledger: Shared) {
    let mut samples = Vec::new();
    for n in [3, 1, 2] {
        samples.push(with_account(&ledger, n).await);
    }
    let first = ledger.accounts(None, Page(2)).await.unwrap();
    let second = ledger.accounts(Some(first[1].id), Page(2)).await.unwrap();
    let ids: Vec<_> = first.iter().chain(&second).map(|account| account.id.as_bytes()[0]).collect();
    assert_eq!(ids, [1, 2, 3]);
    assert_eq!(ledger.accounts(None, Page(0)).await.unwrap(), []);

    let account = samples[0].account.id;
    let mut user = samples[0].user.clone();
    (user.id, user.name) = (Sample::new(9).user.id, "grace".into());
    ledger.add_user(&user).await.unwrap();
    let first = ledger.users(account, None, Page(1)).await.unwrap();
    assert_eq!(first, [samples[0].user.clone()]);
    assert_eq!(ledger.users(account, Some(first[0].id), Page(9)).await.unwrap(), [user]);

    for n in [2, 1] {
        ledger.add_key(&samples[0].key(n)).await.unwrap();
    }
    let first = ledger.keys(account, None, Page(1)).await.unwrap();
    assert_eq!(first, [samples[0].key(1)]);
    assert_eq!(ledger.keys(account, Some(first[0].id), Page(9)).await.unwrap(), [samples[0].key(2)]);
    assert_eq!(ledger.keys(samples[1].account.id, None, Page(9)).await.unwrap(), []);
}

/// The first revocation is the one that is told.
pub(crate) async fn a_key_is_revoked_once(ledger: Shared) {
    let sample = with_account(&ledger, 1).await;
    let mut key = sample.key(1);
    ledger.add_key(&key).await.unwrap();
    for at in [7, 8] {
        ledger.revoke_key(key.id, Timestamp::from_ms(at)).await.unwrap();
    }
    key.revoked_at = Some(Timestamp::from_ms(7));
    assert_eq!(ledger.keys(sample.account.id, None, Page(9)).await.unwrap(), [key]);
}

/// I14: an owned resource belongs to the account that made it.
pub(crate) async fn what_was_made_upstream_has_one_owner(ledger: Shared) {
    let (mut sample, mut other) = (with_account(&ledger, 1).await, with_account(&ledger, 2).await);
    let mut end = sample.end(&[], 1);
    end.ending.resource = Some(Resource { id: "resp_1".into(), upstream: Some("backup".into()) });
    let ended_at = end.ended_at;
    let mut theirs = other.end(&[], 1);
    theirs.ending.resource = Some(Resource { id: "resp_1".into(), upstream: None });
    ledger.apply(vec![Record::End(Box::new(end)), Record::End(Box::new(theirs))]).await.unwrap();
    let owner = Owner {
        account: sample.account.id,
        user: sample.user.id,
        made_at: ended_at,
        what: Owned::Response { context_tokens: 120 },
        upstream: Some("backup".into()),
    };
    assert_eq!(ledger.owner_of("resp_1").await.unwrap(), Some(owner));
    for _ in 0..2 {
        ledger.disown("resp_1").await.unwrap();
        assert_eq!(ledger.owner_of("resp_1").await.unwrap(), None);
    }
}

/// I14: what is made in the background is owned from the moment that it is made, and listed to whom has made it.
pub(crate) async fn a_users_videos_are_listed_in_order_from_any_place(ledger: Shared) {
    let (sample, other) = (with_account(&ledger, 1).await, with_account(&ledger, 2).await);
    let made = |who: &Sample, id: &str, at: i64, video: bool| MadeRecord {
        resource: Resource { id: id.into(), upstream: Some("second".into()) },
        account: who.account.id,
        user: who.user.id,
        made_at: Timestamp::from_ms(at),
        video: video.then(|| MadeVideo { model: "sora-2".into(), seconds: 8, size: Some("720x1280".into()) }),
    };
    let all = [("b", 7, true), ("a", 7, true), ("c", 3, true), ("d", 9, true), ("e", 5, false)];
    for _ in 0..2 {
        let mut batch: Vec<_> =
            all.iter().map(|(id, at, video)| Record::Made(made(&sample, id, *at, *video))).collect();
        batch.extend([made(&other, "f", 4, true), made(&other, "a", 1, true)].map(Record::Made));
        assert_eq!(
            ledger.apply(batch).await.unwrap(),
            booked(0),
            "again is a no-op, and nothing is numbered"
        );
    }
    let list = async |user, after: Option<(i64, &str)>, newest_first, page| {
        let after = after.map(|(at, id)| (Timestamp::from_ms(at), id.into()));
        let videos = ledger.videos_of(user, VideosFrom { after, newest_first }, Page(page)).await.unwrap();
        videos.iter().map(|(id, _)| id.to_string()).collect::<String>()
    };
    let user = sample.user.id;
    assert_eq!(list(user, None, true, 9).await, "dbac");
    assert_eq!(list(user, None, false, 9).await, "cabd");
    assert_eq!(list(user, Some((7, "b")), true, 1).await, "a");
    assert_eq!(list(user, Some((7, "a")), false, 9).await, "bd");
    assert_eq!(list(user, Some((3, "c")), true, 9).await, "");
    assert_eq!(list(other.user.id, None, true, 9).await, "f", "the first who made it stays");
    let owner = ledger.owner_of("b").await.unwrap().unwrap();
    assert_eq!((owner.user, owner.made_at), (user, Timestamp::from_ms(7)));
    assert_eq!(owner.upstream.as_deref(), Some("second"));
    assert!(matches!(owner.what, Owned::Video(MadeVideo { seconds: 8, .. })), "{owner:?}");
    assert_eq!(ledger.owner_of("e").await.unwrap().unwrap().what, Owned::Character);
    ledger.disown("b").await.unwrap();
    assert_eq!(list(user, None, true, 9).await, "dac");
}

/// I14, I7: what a job makes has its owner before it is made, however often that is told, and not again after its end.
pub(crate) async fn a_job_belongs_to_its_account_from_its_beginning(ledger: Shared) {
    let (mut sample, other) = (with_account(&ledger, 1).await, with_account(&ledger, 2).await);
    let mut end = sample.end(&[], 1);
    let job = JobRecord {
        decision: end.decision,
        account: sample.account.id,
        user: sample.user.id,
        kind: JobKind::Response,
        resource: Resource { id: "resp_1".into(), upstream: Some("second".into()) },
        began_at: Timestamp::from_ms(1),
        expires_at: Timestamp::from_ms(2),
    };
    let theirs = JobRecord { account: other.account.id, user: other.user.id, ..job.clone() };
    let owner = |context_tokens| Owner {
        account: sample.account.id,
        user: sample.user.id,
        made_at: Timestamp::from_ms(1),
        what: Owned::Response { context_tokens },
        upstream: Some("second".into()),
    };
    for job in [&job, &theirs, &job] {
        let applied = ledger.apply(vec![Record::Job(job.clone())]).await.unwrap();
        assert_eq!(applied, booked(0), "it is no part of the sequence");
        assert_eq!(ledger.owner_of("resp_1").await.unwrap(), Some(owner(0)));
    }
    end.ending.resource = Some(job.resource.clone());
    ledger.apply(vec![Record::Job(job.clone()), Record::End(Box::new(end))]).await.unwrap();
    assert_eq!(ledger.owner_of("resp_1").await.unwrap(), Some(owner(120)));
    ledger.disown("resp_1").await.unwrap();
    ledger.apply(vec![Record::Job(job)]).await.unwrap();
    assert_eq!(ledger.owner_of("resp_1").await.unwrap(), None, "it ended, and what it made is deleted");
}

/// I14: whose a thing is is forgotten the oldest first and a few at a time; what an open job makes stays, and the books.
pub(crate) async fn what_was_made_long_ago_is_nobodys_but_while_its_job_is_open(ledger: Shared) {
    let mut sample = with_account(&ledger, 1).await;
    let (old, young) = (sample.end(&[], 1), sample.end(&[], 1));
    let [old_id, young_id] = [&old, &young].map(|end| end.ending.resource.clone().unwrap().id);
    let (before, decision) = (young.ended_at, old.decision);
    let end = sample.end(&[], 1);
    let made = |id: &str, at: i64| MadeRecord {
        resource: Resource { id: id.into(), upstream: None },
        account: sample.account.id,
        user: sample.user.id,
        made_at: Timestamp::from_ms(at),
        video: Some(MadeVideo { model: "sora-2".into(), seconds: 8, size: None }),
    };
    let job = JobRecord {
        decision: end.decision,
        account: sample.account.id,
        user: sample.user.id,
        kind: JobKind::Video,
        resource: Resource { id: "running".into(), upstream: None },
        began_at: Timestamp::from_ms(2),
        expires_at: Timestamp::from_ms(3),
    };
    let mut batch = vec![Record::End(Box::new(old)), Record::End(Box::new(young))];
    batch.extend([made("first", 1), made("running", 2), made("third", 3)].map(Record::Made));
    batch.push(Record::Job(job.clone()));
    ledger.apply(batch).await.unwrap();
    let known = async || {
        let mut known = Vec::new();
        for id in ["first", "running", "third", &*old_id, &*young_id] {
            known.push(ledger.owner_of(id).await.unwrap().is_some());
        }
        known
    };
    let forget = async || ledger.forget_made(before, Page(2)).await.unwrap();
    assert_eq!(forget().await, 2);
    assert_eq!(known().await, [false, true, false, true, true]);
    assert_eq!((forget().await, forget().await), (1, 0));
    assert_eq!(known().await, [false, true, false, false, true]);
    let listed = VideosFrom { after: None, newest_first: true };
    assert_eq!(ledger.videos_of(sample.user.id, listed, Page(9)).await.unwrap().len(), 1);
    assert!(ledger.decision(decision).await.unwrap().is_some(), "the books keep the call");
    let ended = Record::End(Box::new(EndRecord {
        ending: Ending { resource: Some(job.resource), ..end.ending },
        ..end
    }));
    ledger.apply(vec![ended]).await.unwrap();
    assert_eq!(forget().await, 1, "its job has ended");
    assert_eq!(known().await, [false, false, false, false, true]);
}

/// A truth may come after the deadline: the jobs that have had none are found, whoever had them before.
pub(crate) async fn jobs_that_their_deadline_has_ended_are_found_until_their_truth_is_known(ledger: Shared) {
    let mut sample = with_account(&ledger, 1).await;
    let mut jobs = Vec::new();
    for (id, kind, outcome) in [
        ("late", JobKind::Response, Outcome::Expired),
        ("done", JobKind::Response, Outcome::Completed),
        ("deleted", JobKind::Response, Outcome::Expired),
        ("film", JobKind::Video, Outcome::Expired),
    ] {
        let mut end = sample.end(&[], 1);
        let resource = Resource { id: id.into(), upstream: Some("second".into()) };
        let job = JobRecord {
            decision: end.decision,
            account: end.account,
            user: end.user,
            kind,
            resource: resource.clone(),
            began_at: end.held_at,
            expires_at: end.ended_at,
        };
        let video = Some(MadeVideo { model: "sora-2".into(), seconds: 8, size: None });
        let (account, user, made_at) = (end.account, end.user, end.held_at);
        let made = MadeRecord { resource: resource.clone(), account, user, made_at, video };
        (end.ending.outcome, end.ending.resource) = (outcome, Some(resource));
        let made = (kind == JobKind::Video).then_some(Record::Made(made));
        let records = [Record::Job(job.clone()), Record::End(Box::new(end))];
        ledger.apply(made.into_iter().chain(records).collect()).await.unwrap();
        jobs.push(job);
    }
    let [late, _, _, film] = &jobs[..] else { panic!("four jobs") };
    ledger.disown("deleted").await.unwrap();
    let mut plain = sample.end(&[], 1);
    plain.ending.outcome = Outcome::Expired;
    ledger.apply(vec![Record::End(Box::new(plain))]).await.unwrap();
    let found = async |since, most| ledger.late_jobs(since, Page(most)).await.unwrap();
    assert_eq!(found(Timestamp::from_ms(0), 9).await, [film.clone(), late.clone()]);
    assert_eq!(found(Timestamp::from_ms(0), 1).await, std::slice::from_ref(film));
    assert_eq!(found(film.expires_at, 9).await, std::slice::from_ref(film));
    assert_eq!(found(film.expires_at.plus(Span::from_ms(1)), 9).await, []);
}

/// A snapshot never changes.
pub(crate) async fn a_policy_is_kept_under_its_version(ledger: Shared) {
    assert_eq!(ledger.policy(POLICY).await.unwrap(), None);
    for text in ["version: 1", "version: 2"] {
        ledger.keep_policy(POLICY, text).await.unwrap();
        assert_eq!(ledger.policy(POLICY).await.unwrap().as_deref(), Some("version: 1"));
    }
}

/// Design §4: blocks go to a bounded log.
pub(crate) async fn the_log_of_blocks_keeps_the_newest(ledger: Shared) {
    let sample = Sample::new(1);
    let row = |n: u8| BlockRow {
        decision: DecisionId::from_bytes([n; 16]),
        at: Timestamp::from_ms(i64::from(n)),
        account: sample.account.id,
        user: sample.user.id,
        feature: "codex".into(),
        model: "gpt-5.5".into(),
        policy: POLICY,
        plan: Some("plus".into()),
        tier: (n > 3).then(|| "flex".into()),
        size: None,
        estimate: Quantities { input_tokens: 5, ..Quantities::default() },
        block: Block {
            next: Some(Timestamp::from_ms(9)),
            need: Some(credits(3)),
            ..Block::because(Reason::LimitReached)
        },
        count: 2,
    };
    ledger.log_blocks(vec![row(1), row(2)], 3).await.unwrap();
    ledger.log_blocks(vec![row(3), row(3), row(4), row(5)], 3).await.unwrap();
    let blocks = ledger.blocks(sample.account.id, None, Page(9)).await.unwrap();
    assert_eq!(blocks, [row(5), row(4), row(3)]);
    let older = ledger.blocks(sample.account.id, Some(row(5).decision), Page(1)).await.unwrap();
    assert_eq!(older, [row(4)]);
    assert_eq!(ledger.block(row(3).decision).await.unwrap(), Some(row(3)));
    assert_eq!(ledger.block(row(2).decision).await.unwrap(), None);
}
