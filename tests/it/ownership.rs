//! What a call makes belongs to its account, and does not exist for any other.

use serde_json::json;

use crate::harness::admin::text;
use crate::harness::client::{ask, ask_stream};
use crate::harness::{Gateway, books, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn a_response_exists_for_its_account_only_on_every_route() {
    let gateway = Gateway::start();
    let (caller, owner) = gateway.caller("free");
    let colleague = gateway.client(&gateway.admin.user_of(&caller.account));
    let (_, stranger) = gateway.caller("free");
    let id = owner.respond("one").await.expect(200).json()["id"].as_str().expect("an id").to_owned();
    let before = gateway.upstream.seen.count();
    let mut follow = ask("one");
    follow["previous_response_id"] = json!(id);
    let calls = [
        ("GET", format!("/v1/responses/{id}"), String::new()),
        ("GET", format!("/v1/responses/{id}/input_items"), String::new()),
        ("POST", format!("/v1/responses/{id}/cancel"), String::new()),
        ("DELETE", format!("/v1/responses/{id}"), String::new()),
        ("POST", "/v1/responses".to_owned(), follow.to_string()),
        ("POST", "/v1/responses/input_tokens".to_owned(), follow.to_string()),
        ("POST", "/v1/responses/compact".to_owned(), follow.to_string()),
    ];
    for (method, path, body) in &calls {
        let answer = stranger.send(method, path, body.clone()).await.expect(404);
        assert_eq!(answer.error().0, "invalid_request_error", "{method} {path}");
    }
    assert_eq!(gateway.upstream.seen.count(), before, "nothing of a stranger's reached the upstream");
    for (method, path, body) in &calls {
        if *method == "DELETE" || path.ends_with("/cancel") {
            continue;
        }
        colleague.send(method, path, body.clone()).await.expect(200);
    }
    owner.send("DELETE", &format!("/v1/responses/{id}"), "").await.expect(200);
    colleague.get(&format!("/v1/responses/{id}")).await.expect(404);
}

/// What is past its time exists for nobody, its account included; what a job still makes is its account's.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_made_too_long_ago_exists_for_nobody_but_while_it_is_being_made() {
    let mut gateway = Gateway::start();
    let (caller, client) = gateway.caller("free");
    assert!(
        gateway.admin.metric("overfall_resources_forgotten_total", &[]) < 0.5,
        "it is told from the start"
    );
    let old = text(&client.respond("one").await.expect(200).json(), "id");
    let mut running = ask("one-sim-runs=600000");
    running["background"] = json!(true);
    let running = text(&client.post("/v1/responses", &running).await.expect(200).json(), "id");
    gateway.stop();
    gateway.restart();
    let client = gateway.client(&caller);
    client.get(&format!("/v1/responses/{old}")).await.expect(200);
    gateway.stop();
    books::age_resources(&gateway.ledger());
    gateway.restart();
    let client = gateway.client(&caller);
    eventually("it is forgotten", async || {
        let forgotten = gateway.admin.metric("overfall_resources_forgotten_total", &[]);
        (forgotten > 0.5).then_some(())
    })
    .await;
    client.get(&format!("/v1/responses/{old}")).await.expect(404);
    let mut follow = ask("one");
    follow["previous_response_id"] = json!(old);
    client.post("/v1/responses", &follow).await.expect(404);
    client.get(&format!("/v1/responses/{running}")).await.expect(200);
    gateway.stop();
    gateway.audit();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_is_told_the_same_about_what_is_another_s_and_what_never_was() {
    let gateway = Gateway::start();
    let (_, owner) = gateway.caller("free");
    let (_, stranger) = gateway.caller("free");
    let id = owner.respond("one").await.expect(200).json()["id"].as_str().expect("an id").to_owned();
    let never = format!("resp_{}", "0".repeat(id.len() - 5));
    let told = async |id: &str| {
        let answer = stranger.get(&format!("/v1/responses/{id}")).await.expect(404);
        String::from_utf8_lossy(&answer.body).replace(id, "ID")
    };
    assert_eq!(told(&id).await, told(&never).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_of_kinds_that_no_route_creates_are_not_forwarded() {
    let gateway = Gateway::start();
    let (_, client) = gateway.caller("free");
    for member in [
        json!({"conversation": "conv_123"}),
        json!({"conversation": {"id": "conv_123"}}),
        json!({"previous_response_id": "resp_foreign"}),
        json!({"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "file-123"}]}]}),
        json!({"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "file-123"}]}]}),
        json!({"tools": [{"type": "file_search", "vector_store_ids": ["vs_123"]}]}),
        json!({"tools": [{"type": "code_interpreter", "container": "cntr_123"}]}),
        json!({"tools": [{"type": "code_interpreter", "container": {"type": "auto", "file_ids": ["file-123"]}}]}),
        json!({"prompt": {"id": "pmpt_123"}}),
    ] {
        let mut body = ask("one");
        body.as_object_mut().expect("an object").extend(member.as_object().expect("an object").clone());
        let answer = client.post("/v1/responses", &body).await;
        assert!(matches!(answer.status, 404 | 400), "{member}: {}", answer.status);
        assert_eq!(answer.error().0, "invalid_request_error", "{member}");
    }
    assert_eq!(gateway.upstream.seen.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn ownership_survives_a_restart_and_a_kill_for_json_and_streams() {
    let mut gateway = Gateway::start();
    let (caller, client) = gateway.caller("free");
    let stranger = gateway.admin.caller("free");
    let whole = client.respond("one").await.expect(200).json()["id"].as_str().expect("an id").to_owned();
    let mut stream = client.stream("/v1/responses", &ask_stream("one")).await;
    let (told, _) = stream.rest().await;
    let streamed = told.split("\"id\":\"").find_map(|part| part.strip_prefix("resp_")).expect("an id");
    let streamed = format!("resp_{}", streamed.split('"').next().expect("an end"));
    gateway.admin.booked_count(&caller.account, 2);
    for end in [Gateway::stop, Gateway::kill] {
        end(&mut gateway);
        gateway.restart();
        for id in [&whole, &streamed] {
            gateway.client(&caller).get(&format!("/v1/responses/{id}")).await.expect(200);
            gateway.client(&stranger).get(&format!("/v1/responses/{id}")).await.expect(404);
        }
    }
}
