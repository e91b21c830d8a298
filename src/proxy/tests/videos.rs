//! The Videos API: what is held, charged and shown, and to whom.

use serde_json::{Value, json};

use super::wire::Answer;
use super::world::{Person, World};
use crate::access::record::Outcome;
use crate::meter::Meter;
use crate::proxy::routes::{Class, IdKind, TABLE};

fn body(model: &str) -> String {
    json!({"model": model, "prompt": "a cat"}).to_string()
}

fn id_of(made: &Answer) -> String {
    assert_eq!(made.status, 200, "{made:?}");
    made.json()["id"].as_str().expect("an id").to_owned()
}

fn make(world: &World, model: &str) -> (String, Answer) {
    let made = world.post("/v1/videos", &body(model));
    (id_of(&made), made)
}

fn get(world: &World, target: &str, person: &Person) -> Answer {
    world.ask("GET", target, &person.key, "", b"")
}

fn wallet(world: &World) -> String {
    world.wallet(&world.anna).to_string()
}

#[test]
fn a_video_is_held_at_creation_and_charged_once_it_is_there() {
    let world = World::new();
    let (id, made) = make(&world, "sora-2");
    let told = made.header("x-access-sources");
    assert!(told.starts_with("credits;unit=credit;take=\"10\";left=\"990\""), "{told}");
    assert_eq!((made.json()["status"].as_str(), wallet(&world).as_str()), (Some("queued"), "990"));
    assert!(made.header("x-request-id").starts_with("req_"), "the upstream's own: {made:?}");
    let polled = get(&world, &format!("/v1/videos/{id}"), &world.anna);
    assert_eq!(polled.json()["status"], "completed");
    assert_eq!(polled.header("openai-poll-after-ms"), "", "it runs no more");
    assert!(polled.header("x-access-decision").is_empty(), "a poll is no decision");
    let row = world.booked(made.decision());
    assert_eq!(
        (row.outcome, row.used.seconds, row.charge.charged.to_string()),
        (Outcome::Completed, 4, "10".into())
    );
    for _ in 0..3 {
        get(&world, &format!("/v1/videos/{id}"), &world.anna);
    }
    assert_eq!(wallet(&world), "990");
    assert_eq!(world.meter.stats().holds, 0);
}

#[test]
fn a_running_video_is_polled_for_nothing_as_often_as_the_upstream_wishes() {
    let world = World::new();
    for (model, wish) in
        [("sora-2-sim-runs=600000", "10000"), ("sora-2-sim-runs=600000+poll-after=300", "300")]
    {
        let (id, _) = make(&world, model);
        let polled = get(&world, &format!("/v1/videos/{id}"), &world.anna);
        assert_eq!(
            (polled.status, polled.json()["status"].as_str()),
            (200, Some("in_progress")),
            "{polled:?}"
        );
        assert_eq!(polled.header("openai-poll-after-ms"), wish);
        let content = get(&world, &format!("/v1/videos/{id}/content"), &world.anna);
        assert_eq!(content.status, 404, "not yet there: {content:?}");
    }
    assert_eq!(wallet(&world), "980");
}

#[test]
fn nobody_pays_for_a_video_that_failed() {
    let world = World::new();
    for (model, code) in [
        ("sora-2-sim-failed", "video_generation_failed"),
        ("sora-2-sim-moderated", "moderation_blocked"),
        ("sora-2-sim-failed+at-once", "video_generation_failed"),
        ("sora-2-sim-moderated+at-once", "moderation_blocked"),
    ] {
        let (id, made) = make(&world, model);
        let shown = if model.ends_with("at-once") {
            made.json()
        } else {
            get(&world, &format!("/v1/videos/{id}"), &world.anna).json()
        };
        assert_eq!((&shown["status"], &shown["error"]["code"]), (&json!("failed"), &json!(code)));
        let row = world.booked(made.decision());
        assert_eq!((row.outcome, row.charge.charged.is_zero()), (Outcome::Failed, true), "{model}");
        assert_eq!(wallet(&world), "1000", "{model}");
    }
}

#[test]
fn what_the_upstream_refuses_or_loses_charges_nothing() {
    let world = World::new();
    for (words, status) in [
        ("status=400", 400),
        ("status=429+retry-after=7", 429),
        ("status=500", 500),
        ("status=401", 502),
        ("204", 204),
        ("drop", 502),
        ("cut=0", 502),
        ("cut=1.20", 502),
    ] {
        let answer = world.post("/v1/videos", &body(&format!("sora-2-sim-{words}")));
        assert_eq!(answer.status, status, "{words}: {answer:?}");
        assert!(!answer.header("x-access-decision").is_empty(), "{words}");
        assert_eq!(world.meter.stats().holds, 0, "{words}");
        assert_eq!(world.booked(answer.decision()).outcome, Outcome::Refused, "{words}");
    }
    assert_eq!(wallet(&world), "1000");
}

#[test]
fn a_finished_video_is_paid_before_it_is_downloaded_or_deleted() {
    let world = World::new();
    let (id, made) = make(&world, "sora-2-sim-content=100");
    let content = get(&world, &format!("/v1/videos/{id}/content"), &world.anna);
    assert_eq!((content.status, content.body.len()), (200, 100 << 10));
    assert_eq!(content.header("content-type"), "video/mp4");
    assert_eq!(world.booked(made.decision()).charge.charged.to_string(), "10");
    let ranged = |range: &str| {
        let headers = format!("range: {range}\r\naccept: application/binary\r\n");
        world.ask("GET", &format!("/v1/videos/{id}/content?variant=video"), &world.anna.key, &headers, b"")
    };
    let part = ranged("bytes=70000-70099");
    assert_eq!((part.status, &part.body[..]), (206, &content.body[70_000..70_100]));
    assert_eq!(part.header("content-range"), "bytes 70000-70099/102400");
    assert_eq!(ranged("bytes=999999-").status, 416);
    let seen = world.upstream_requests().pop().expect("a request");
    assert_eq!(seen.headers["accept"], "application/binary");
    let picture = get(&world, &format!("/v1/videos/{id}/content?variant=thumbnail"), &world.anna);
    assert_eq!((picture.header("content-type"), picture.body.len()), ("image/webp", 1000));

    let (id, made) = make(&world, "sora-2");
    let deleted = world.ask("DELETE", &format!("/v1/videos/{id}"), &world.anna.key, "", b"");
    assert_eq!((deleted.status, &deleted.json()["deleted"]), (200, &json!(true)), "{deleted:?}");
    assert_eq!(world.booked(made.decision()).charge.charged.to_string(), "10", "it was there to be had");
    assert_eq!(get(&world, &format!("/v1/videos/{id}"), &world.anna).status, 404);
}

#[test]
fn a_running_video_that_is_deleted_is_not_charged() {
    let world = World::new();
    let (id, made) = make(&world, "sora-2-sim-runs=600000");
    let deleted = world.ask("DELETE", &format!("/v1/videos/{id}"), &world.anna.key, "", b"");
    assert_eq!(deleted.status, 200, "{deleted:?}");
    let row = world.booked(made.decision());
    assert_eq!((row.outcome, row.charge.charged.is_zero()), (Outcome::Cancelled, true));
    assert_eq!(wallet(&world), "1000");
}

#[test]
fn what_is_made_out_of_a_video_is_priced_by_it() {
    let world = World::new();
    let source =
        json!({"model": "sora-2-pro", "prompt": "p", "seconds": "8", "size": "1024x1792"}).to_string();
    let made = world.post("/v1/videos", &source);
    let id = id_of(&made);
    let of = |extra: Value| {
        let mut body = json!({"prompt": "again", "video": {"id": id}});
        body.as_object_mut().expect("an object").extend(extra.as_object().expect("an object").clone());
        body.to_string()
    };
    let remix = format!("/v1/videos/{id}/remix");
    for (target, body, take) in [
        ("/v1/videos", source.clone(), "100"),
        (remix.as_str(), r#"{"prompt": "again"}"#.to_owned(), "100"),
        (remix.as_str(), r#"{"prompt": "again", "model": "sora-2-pro", "seconds": 8}"#.to_owned(), "100"),
        ("/v1/videos/edits", of(json!({})), "100"),
        ("/v1/videos/extensions", of(json!({"seconds": "12"})), "150"),
        ("/v1/videos/extensions", of(json!({})), "50"),
    ] {
        let answer = world.post(target, &body);
        let sources = answer.header("x-access-sources");
        assert!(sources.contains(&format!("take=\"{take}\"")), "{target} {body}: {answer:?}");
        let id = id_of(&answer);
        assert_eq!(get(&world, &format!("/v1/videos/{id}"), &world.anna).json()["status"], "completed");
        assert_eq!(world.booked(answer.decision()).charge.charged.to_string(), take, "{target} {body}");
    }
    for (target, body, param) in [
        (remix.as_str(), r#"{"prompt": "again", "seconds": 4}"#.to_owned(), "seconds"),
        (remix.as_str(), r#"{"prompt": "again", "model": "sora-2"}"#.to_owned(), "model"),
        (remix.as_str(), of(json!({})), "video"),
        ("/v1/videos", of(json!({})), "video"),
        ("/v1/videos/edits", of(json!({"size": "720x1280"})), "size"),
        ("/v1/videos/edits", body("sora-2"), "video"),
        ("/v1/videos", json!({"prompt": "p", "size": "1920x1080"}).to_string(), "size"),
        ("/v1/videos", json!({"prompt": "p", "seconds": 4000}).to_string(), "seconds"),
    ] {
        let answer = world.post(target, &body);
        assert_eq!(
            (answer.status, &answer.json()["error"]["param"]),
            (400, &json!(param)),
            "{target} {body}"
        );
    }
    let unpriced = world.post("/v1/videos", &body("gpt-5.5"));
    assert_eq!((unpriced.status, unpriced.code().as_str()), (404, "model_not_found"));
    let unsized_responses =
        world.post("/v1/responses", &json!({"model": "sora-2", "input": "x"}).to_string());
    assert_eq!(unsized_responses.status, 404, "what is priced by the second is no response");
}

#[test]
fn as_many_jobs_run_at_a_time_as_the_plan_says() {
    let world = World::new();
    let ids: Vec<_> = (0..30).map(|_| make(&world, "sora-2-sim-runs=600000").0).collect();
    let refused = world.post("/v1/videos", &body("sora-2"));
    assert_eq!((refused.status, refused.code().as_str()), (429, "rate_limit_exceeded"), "{refused:?}");
    assert!(refused.header("x-access-decision").contains("in-flight-limit"), "{refused:?}");
    assert_eq!(get(&world, &format!("/v1/videos/{}", ids[0]), &world.anna).status, 200, "a poll is no job");
    world.ask("DELETE", &format!("/v1/videos/{}", ids[0]), &world.anna.key, "", b"");
    make(&world, "sora-2");
}

/// I14: every route of the table with an id in it, and every field that can name one, with another account's ids.
#[test]
fn what_an_account_made_exists_for_nobody_else() {
    let world = World::new();
    let response = world.post("/v1/responses", &json!({"model": "gpt-5.5", "input": "x"}).to_string());
    let response = response.json()["id"].as_str().expect("an id").to_owned();
    let (video, _) = make(&world, "sora-2");
    let character = world.post("/v1/videos/characters", r#"{"name": "Tom"}"#);
    let character = id_of(&character);
    let field = |name: &str, body: Value| (name.to_owned(), body.to_string());
    let mut tries: Vec<(&str, String, String, bool)> = Vec::new();
    let mut routes = 0;
    for route in TABLE.iter().filter(|route| route.class != Class::Local) {
        let Some((IdKind::Opaque, tail)) = route.id else { continue };
        routes += 1;
        let id = if route.head.contains("/characters/") {
            &character
        } else if route.head.contains("/videos/") {
            &video
        } else {
            &response
        };
        let body = if route.method == "POST" { r#"{"prompt": "p"}"# } else { "" };
        // What deletes comes last.
        let last = route.method == "DELETE";
        tries.push((route.method, format!("{}{id}{tail}", route.head), body.to_owned(), last));
    }
    assert_eq!(routes, 9, "a new route with an id has to be looked at here");
    for (target, body) in [
        field("/v1/videos/edits", json!({"prompt": "p", "video": {"id": video}})),
        field("/v1/videos/extensions", json!({"prompt": "p", "video": {"id": video}})),
        field("/v1/videos", json!({"prompt": "p", "characters": [{"id": character}]})),
        field("/v1/videos/characters", json!({"name": "n", "video": {"id": video}})),
    ] {
        tries.push(("POST", target, body, false));
    }
    tries.sort_by_key(|(_, _, _, last)| *last);
    let before = world.seen.count();
    for (method, target, body, _) in &tries {
        let answer = world.ask(method, target, &world.other.key, "", body.as_bytes());
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (404, "not_found"),
            "{method} {target} {answer:?}"
        );
    }
    // Of another kind, or of none that any route makes, an id is nobody's.
    for (target, body) in [
        (format!("/v1/videos/{response}"), None),
        (format!("/v1/videos/{character}"), None),
        (format!("/v1/videos/characters/{video}"), None),
        (format!("/v1/responses/{video}"), None),
        ("/v1/videos/characters".to_owned(), None),
        ("/v1/videos/video_1".to_owned(), None),
        ("/v1/videos/edits".to_owned(), Some(json!({"prompt": "p", "video": {"id": character}}))),
        ("/v1/videos".to_owned(), Some(json!({"prompt": "p", "characters": [{"id": video}]}))),
        ("/v1/videos".to_owned(), Some(json!({"prompt": "p", "input_reference": {"file_id": "file-1"}}))),
    ] {
        let method = if body.is_some() { "POST" } else { "GET" };
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        let answer = world.ask(method, &target, &world.anna.key, "", body.as_bytes());
        assert_eq!(answer.status, 404, "{method} {target} {body} {answer:?}");
    }
    assert_eq!(world.seen.count(), before, "nothing went upstream");
    for (method, target, body, _) in &tries {
        let answer = world.ask(method, target, &world.anna.key, "", body.as_bytes());
        let cancelled = target.ends_with("/cancel");
        assert_eq!(answer.status, if cancelled { 400 } else { 200 }, "{method} {target} {answer:?}");
    }
}

#[test]
fn a_list_shows_the_users_own_page_by_page() {
    let world = World::new();
    let theirs = world.ask("POST", "/v1/videos", &world.other.key, "", body("sora-2").as_bytes());
    let theirs = id_of(&theirs);
    let empty = world.ask("GET", "/v1/videos", &world.poor.key, "", b"").json();
    assert_eq!(
        empty,
        json!({"object": "list", "data": [], "first_id": null, "last_id": null, "has_more": false})
    );
    let made: Vec<_> = (0..7)
        .map(|_| {
            std::thread::sleep(std::time::Duration::from_millis(2));
            make(&world, "sora-2").0
        })
        .collect();
    let newest: Vec<_> = made.iter().rev().cloned().collect();
    let page = |query: &str| {
        let answer = get(&world, &format!("/v1/videos?{query}"), &world.anna);
        assert_eq!(answer.status, 200, "{query} {answer:?}");
        let page = answer.json();
        let ids: Vec<_> =
            page["data"].as_array().expect("data").iter().map(|video| video["id"].clone()).collect();
        assert_eq!(page["first_id"], ids.first().cloned().unwrap_or(Value::Null));
        assert_eq!(page["last_id"], ids.last().cloned().unwrap_or(Value::Null));
        let ids: Vec<_> = ids.iter().map(|id| id.as_str().expect("an id").to_owned()).collect();
        (ids, page["has_more"] == true, page["data"][0]["status"].clone())
    };
    let (ids, more, status) = page("");
    assert_eq!((&ids, more, status), (&newest, false, json!("completed")));
    assert_eq!(page("order=asc").0, made);
    assert_eq!(page("limit=0"), (vec![], true, Value::Null));
    assert!(!page("limit=7").1);
    for (query, all) in [("limit=3", &newest), ("limit=3&order=asc", &made)] {
        let (mut walked, mut after) = (Vec::new(), String::new());
        loop {
            let (ids, more, _) = page(&format!("{query}{after}"));
            walked.extend(ids);
            if !more {
                break;
            }
            after = format!("&after={}", walked.last().expect("a page"));
        }
        assert_eq!(&walked, all, "{query}");
    }
    world.ask("DELETE", &format!("/v1/videos/{}", newest[1]), &world.anna.key, "", b"");
    let (ids, more, _) = page("limit=2");
    assert_eq!((ids, more), (vec![newest[0].clone(), newest[2].clone()], true), "filled up");
    for (query, status) in [("limit=101", 400), ("order=up", 400), (&*format!("after={theirs}"), 404)] {
        assert_eq!(get(&world, &format!("/v1/videos?{query}"), &world.anna).status, status, "{query}");
    }
    assert_eq!(wallet(&world), "930", "what a list shows as completed is charged");
}

#[test]
fn a_video_whose_end_cannot_be_told_is_not_given_away() {
    let world = World::new();
    let (id, _) = make(&world, "sora-2");
    world.stop_upstream();
    let content = get(&world, &format!("/v1/videos/{id}/content"), &world.anna);
    assert_eq!((content.status, content.code().as_str()), (503, "server_is_overloaded"), "{content:?}");
    let wait: u64 = content.header("retry-after").parse().expect("seconds");
    assert!((1..=5).contains(&wait));
    let deleted = world.ask("DELETE", &format!("/v1/videos/{id}"), &world.anna.key, "", b"");
    assert_eq!(deleted.status, 503, "{deleted:?}");
    assert_eq!(wallet(&world), "990");
}
