//! The closed table of routes (I14): what is not in it reaches nothing, however it is spelt.

use crate::harness::client::ask;
use crate::harness::{Gateway, Setup};

#[tokio::test(flavor = "multi_thread")]
async fn no_spelling_of_a_path_reaches_another_route_than_the_one_that_was_metered() {
    let gateway = Gateway::start();
    let (_, client) = gateway.caller("free");
    let body = ask("one").to_string();
    for target in [
        "//v1/responses",
        "/v1//responses",
        "/v1/responses/",
        "/v1/responses//",
        "/V1/responses",
        "/v1/Responses",
        "/v1/%72esponses",
        "/v1/responses%2f",
        "/v1/responses%00",
        "/v1/./responses",
        "/v1/x/../responses",
        "/v1/%2e%2e/v1/responses",
        "/v1/responses/..%2fresponses",
        "/v1/responses;x=1",
        "/v1/responses/compact/",
        "/v1/responses/compact/../",
        "/v1/responses/input_tokens/x",
        "/v1/chat/completions/",
        "/v1/chat%2fcompletions",
        "/v1/chat/completions/id",
        "/v1/videos/",
        "/v1//videos",
        "/v1/videos/../videos",
        "/v1/videos/characters/",
        "/v1/videos%2fedits",
        "/v1/embeddings",
        "/v1/files",
        "/v1/conversations",
        "/responses",
        "/",
        "*",
        "/admin/v1/accounts",
        "/metrics",
        "http://127.0.0.1/v1/files",
        "/v1/access/decisions/dec_1/x",
        "/api/codex/usage/",
        "/backend-api/wham",
    ] {
        let request = format!(
            "POST {target} HTTP/1.1\r\nhost: x\r\n{}content-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            client.header_lines(),
            body.len()
        );
        let told = client.raw(request.as_bytes()).await;
        let told = String::from_utf8_lossy(&told).into_owned();
        assert!(
            told.is_empty() || told.starts_with("HTTP/1.1 404") || told.starts_with("HTTP/1.1 400"),
            "{target}: {told}"
        );
        if told.starts_with("HTTP/1.1 404") {
            assert!(told.contains("\"unknown_url\""), "{target}: in OpenAI's shape: {told}");
        }
    }
    for method in ["PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "CONNECT", "post", "LOCK"] {
        let request = format!(
            "{method} /v1/responses HTTP/1.1\r\nhost: x\r\n{}content-length: 0\r\nconnection: close\r\n\r\n",
            client.header_lines()
        );
        let told = client.raw(request.as_bytes()).await;
        let told = String::from_utf8_lossy(&told).into_owned();
        let refused =
            ["404", "405", "400"].iter().any(|status| told.starts_with(&format!("HTTP/1.1 {status}")));
        assert!(refused || told.is_empty(), "{method}: {told}");
    }
    assert_eq!(gateway.upstream.seen.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_of_the_table_does_what_it_says() {
    let gateway = Gateway::start();
    let (caller, client) = gateway.caller("free");
    let made = client.respond("one").await.expect(200);
    let id = made.json()["id"].as_str().expect("an id").to_owned();
    client.get("/v1/models").await.expect(200);
    let counted = client.post("/v1/responses/input_tokens", &ask("one")).await.expect(200);
    assert_eq!(counted.json()["object"], "response.input_tokens");
    let compact = client.post("/v1/responses/compact", &ask("one")).await.expect(200);
    assert_eq!(compact.json()["object"], "response.compaction");
    let chat = serde_json::json!({"model": "one", "messages": [{"role": "user", "content": "Say hello."}]});
    let chat = client.post("/v1/chat/completions", &chat).await.expect(200);
    assert_eq!(chat.json()["object"], "chat.completion");
    assert_eq!(client.get(&format!("/v1/responses/{id}")).await.expect(200).json()["id"], id.as_str());
    client.get(&format!("/v1/responses/{id}/input_items")).await.expect(200);
    client.get("/v1/access").await.expect(200);
    for path in ["/api/codex/usage", "/backend-api/wham/usage"] {
        assert_eq!(client.get(path).await.expect(200).json()["plan_type"], "overfall");
    }
    let decision = made.decision();
    gateway.admin.booked(&decision);
    client.get(&format!("/v1/access/decisions/{decision}")).await.expect(200);
    client.send("DELETE", &format!("/v1/responses/{id}"), "").await.expect(200);
    client.get(&format!("/v1/responses/{id}")).await.expect(404);
    let booked = gateway.admin.booked_count(&caller.account, 3);
    assert_eq!(booked.len(), 3, "responses, compact and chat are metered, nothing else is");
}

#[tokio::test(flavor = "multi_thread")]
async fn chats_own_usage_is_asked_for_and_taken_out_again_if_the_client_did_not_ask() {
    let gateway = Setup::default().start();
    let (_, client) = gateway.caller("free");
    let body = |options: serde_json::Value| {
        serde_json::json!({"model": "gpt-5.5", "stream": true, "stream_options": options,
            "messages": [{"role": "user", "content": "Say hello."}]})
    };
    for (options, shown) in
        [(serde_json::Value::Null, false), (serde_json::json!({"include_usage": true}), true)]
    {
        let mut stream = client.stream("/v1/chat/completions", &body(options)).await;
        let decision = stream.decision();
        let (told, whole) = stream.rest().await;
        assert!(whole && told.trim_end().ends_with("data: [DONE]"), "{told}");
        assert_eq!(told.contains("\"usage\":{"), shown, "{told}");
        assert_eq!(told.contains("\"choices\":[]"), shown, "{told}");
        let booked = gateway.admin.booked(&decision);
        assert_eq!(booked["end"]["grade"], "exact", "{booked}");
        let seen = gateway.upstream.seen.requests().pop().expect("it came");
        let sent: serde_json::Value = serde_json::from_slice(&seen.body).expect("JSON");
        assert_eq!(sent["stream_options"]["include_usage"], true);
    }
}
