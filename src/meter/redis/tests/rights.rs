//! A user of Redis that may do what the documentation says, and no more.

use super::*;
use server::documented_rights;

const PASSWORD: &str = "of-the-gateways";

/// Says something to a Redis as its operator.
fn operator(server: &Server, command: &redis::Cmd) {
    let client = redis::Client::open(server.url()).unwrap();
    let () = command.query(&mut client.get_connection().unwrap()).unwrap();
}

/// The Redis as the gateway's user.
async fn as_user(server: &Server) -> Store {
    let url = server.url().replace("redis://", &format!("redis://overfall:{PASSWORD}@"));
    Store::connect(&RedisAt::one(url), Clock::machine()).await.unwrap()
}

/// The rights of the documentation are all that are needed, and each of them is.
#[tokio::test]
async fn without_any_one_of_the_documented_rights_it_is_said_which_is_missing() {
    let server = Server::start();
    let given = documented_rights(PASSWORD).swap_remove(0);
    operator(&server, &given);
    fit::check(&as_user(&server).await).await.unwrap();
    let text = String::from_utf8(given.get_packed_command()).unwrap();
    let words: Vec<_> = text.lines().collect();
    let rights: Vec<_> = words.iter().filter_map(|word| word.strip_prefix('+')).collect();
    assert!(rights.len() > 10, "{words:?}");
    for right in rights {
        let change = |sign: &str| {
            operator(&server, redis::cmd("ACL").arg(&["SETUSER", "overfall", &format!("{sign}{right}")]));
        };
        change("-");
        let store = as_user(&server).await;
        let told = match fit::check(&store).await {
            Err(unfit) => crate::telemetry::chain(&unfit).to_string(),
            // What is asked besides, all the time.
            Ok(()) => store.servers().await.map_or_else(
                |error| crate::telemetry::chain(&error).to_string(),
                |_| "config|get is believed".to_owned(),
            ),
        };
        change("+");
        assert!(told.contains(right) && !told.contains(PASSWORD), "without {right}: {told}");
    }
    operator(&server, redis::cmd("ACL").arg(&["SETUSER", "overfall", "resetkeys", "~others:*"]));
    assert!(matches!(fit::check(&as_user(&server).await).await, Err(Unfit::Forbids(_))));
}

/// What is wrong with an address is said, and not what it holds.
#[tokio::test]
async fn an_address_that_is_wrong_is_refused_without_its_password() {
    let ca = tempfile::NamedTempFile::new().unwrap();
    let at = |url: &str, ca_file| RedisAt { urls: vec![url.to_owned()], ca_file, ..RedisAt::default() };
    for (at, says) in [
        (at("redis://overfall:very-secret@127.0.0.1:1", Some(ca.path().to_owned())), "rediss://"),
        (at("rediss://overfall:very-secret@127.0.0.1:1", Some("/no/such/ca.pem".into())), "/no/such/ca.pem"),
        (at("overfall:very-secret@127.0.0.1:1", None), "address of redis"),
    ] {
        for is_cluster in [false, true] {
            let at = RedisAt { is_cluster, ..at.clone() };
            let Err(refused) = Store::connect(&at, Clock::machine()).await else { panic!("it is taken") };
            let told = crate::telemetry::chain(&refused).to_string();
            assert!(told.contains(says) && !told.contains("very-secret"), "{told}");
        }
    }
}
