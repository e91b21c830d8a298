use super::*;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const NOW: Timestamp = Timestamp::from_ms(1_614_265_330_000);
const BODY: &[u8] = br#"{"id":"evt_1","object":"event","type":"video.completed","data":{"id":"video_123"}}"#;

fn verifier() -> Verifier {
    let secrets = ["whsec_AAAA", SECRET].map(|secret| Secret::new(secret, "a test").unwrap());
    Verifier::new(&secrets).unwrap().unwrap()
}

fn signature(id: &str, at: &str, body: &[u8]) -> String {
    let key = STANDARD.decode(SECRET.strip_prefix("whsec_").unwrap()).unwrap();
    let signed = [id.as_bytes(), b".", at.as_bytes(), b".", body].concat();
    format!("v1,{}", STANDARD.encode(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), &signed)))
}

fn headers(id: &str, at: &str, signature: &str) -> HeaderMap {
    let all = [("webhook-id", id), ("webhook-timestamp", at), ("webhook-signature", signature)];
    all.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
}

#[test]
fn the_example_of_the_specification_is_genuine() {
    // standard-webhooks, "Signature scheme": its secret, id, time and body.
    let body = br#"{"test": 2432232314}"#;
    let told = headers(
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "1614265330",
        "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    );
    assert_eq!(verifier().take(&told, body, NOW), Ok(News::Nothing), "it is about no job");
}

#[test]
fn a_genuine_webhook_names_its_job_once() {
    let (verifier, at) = (verifier(), "1614265330");
    let told = headers("evt_1", at, &signature("evt_1", at, BODY));
    assert_eq!(verifier.take(&told, BODY, NOW), Ok(News::About("video_123".to_owned())));
    assert_eq!(verifier.take(&told, BODY, NOW), Ok(News::Nothing), "each id once");
}

#[test]
fn one_of_several_signatures_suffices() {
    let at = "1614265330";
    let both = format!("v1,AAAA v1a,BBBB {}", signature("evt_1", at, BODY));
    assert!(matches!(verifier().take(&headers("evt_1", at, &both), BODY, NOW), Ok(News::About(_))));
}

#[test]
fn what_is_not_signed_so_or_not_now_is_not_genuine() {
    let (verifier, at) = (verifier(), "1614265330");
    let good = signature("evt_1", at, BODY);
    let other = [BODY, b" "].concat();
    for (told, body) in [
        (headers("evt_2", at, &good), BODY),
        (headers("evt_1", "1614265331", &good), BODY),
        (headers("evt_1", at, &good), &other[..]),
        (headers("evt_1", at, &good.replace("v1,", "v2,")), BODY),
        (headers("evt_1", at, "v1,"), BODY),
        (headers("evt_1", at, "v1,%%"), BODY),
        (headers("evt_1", at, ""), BODY),
        (headers("evt_1", "soon", &signature("evt_1", "soon", BODY)), BODY),
        (HeaderMap::new(), BODY),
    ] {
        assert_eq!(verifier.take(&told, body, NOW), Err(NotGenuine), "{told:?}");
    }
    let told = headers("evt_1", at, &good);
    for (ms, genuine) in [(-300_001, false), (-300_000, true), (300_000, true), (300_001, false)] {
        let now = Timestamp::from_ms(NOW.ms() + ms);
        assert_eq!(verifier.take(&told, BODY, now).is_ok(), genuine, "{ms}");
    }
}

#[test]
fn ids_are_remembered_within_bounds() {
    let verifier = verifier();
    for number in 0..IDS_MAX + 10 {
        assert!(verifier.is_new(&number.to_string()));
    }
    let known = verifier.known.lock().unwrap();
    assert_eq!((known.ids.len(), known.order.len()), (IDS_MAX, IDS_MAX));
}

#[test]
fn a_secret_has_its_mark_and_base64() {
    for secret in ["MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_", "whsec_%", "whsec"] {
        assert!(Verifier::new(&[Secret::new(secret, "a test").unwrap()]).is_err(), "{secret}");
    }
    assert!(Verifier::new(&[]).unwrap().is_none());
}
