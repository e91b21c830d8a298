//! What the files start: a gateway on the fleet's deployment file, and a worker by the words of the compose file and of the
//! manifest.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use super::monitoring::counters_of_alarms;
use super::{text, texts, yaml};
use crate::harness::admin::{Admin, TOKEN};
use crate::harness::gateway::BINARY;
use crate::harness::process::Process;
use crate::harness::shared::SharedStores;
use crate::harness::upstream::UPSTREAM_KEY;
use crate::harness::{Client, Simulated, ports, until, workspace};

/// Where a container finds its deployment file.
const THERE: &str = "/etc/overfall/overfall.yaml";

/// Where processes of a fleet stand on this machine.
struct Place<'a> {
    folder: &'a Path,
    upstream: &'a Simulated,
    stores: &'a SharedStores,
    gateway: SocketAddr,
    admin: SocketAddr,
    worker: SocketAddr,
}

impl Place<'_> {
    /// Writes the fleet's deployment file, and the policy beside it, with the addresses and the folder of this machine.
    fn write(&self) {
        let mut deployment = text("fleet/overfall.yaml");
        for (there, here) in [
            ("0.0.0.0:8080", self.gateway.to_string()),
            ("0.0.0.0:8081", self.admin.to_string()),
            ("https://api.openai.com", self.upstream.url()),
            ("/var/lib/overfall", self.folder.join("data").display().to_string()),
        ] {
            assert_eq!(deployment.matches(there).count(), 1, "{there}");
            deployment = deployment.replace(there, &here);
        }
        std::fs::write(self.folder.join("overfall.yaml"), deployment).expect("written");
        let policy = workspace::root().join("config/policy.yaml");
        std::fs::copy(policy, self.folder.join("policy.yaml")).expect("copied");
    }

    /// Starts what these words of a container's command say, on this machine.
    fn start(&self, words: &[&str], secrets: &[&str]) -> Process {
        let file = self.folder.join("overfall.yaml").display().to_string();
        let mut command = Command::new(BINARY);
        for word in words {
            command.arg(word.replace(THERE, &file).replace("0.0.0.0:8081", &self.worker.to_string()));
        }
        for secret in secrets {
            command.env(secret, self.secret(secret));
        }
        Process::start(words[0], &mut command)
    }

    fn secret(&self, name: &str) -> String {
        match name {
            "OPENAI_API_KEY" => UPSTREAM_KEY.to_owned(),
            "OVERFALL_ADMIN_TOKEN" => TOKEN.to_owned(),
            "OVERFALL_REDIS_URL" => self.stores.redis.url(),
            "OVERFALL_LEDGER_URL" => self.stores.postgres.address(),
            other => panic!("{other} is no secret of the fleet's"),
        }
    }
}

/// The value of a metric, once it is there.
fn metric(at: &Admin, name: &str) -> Option<u64> {
    let (_, text) = at.raw("GET", "/metrics", None, None).ok()?;
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

/// Waits until the metrics of both together say so.
fn both(what: &str, of: [&Admin; 2], name: &str, enough: impl Fn(u64) -> bool) {
    until(what, || {
        let [first, second] = of.map(|at| metric(at, name));
        enough(first? + second?).then_some(())
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_files_start_a_gateway_and_a_worker_that_tell_what_waits() {
    let mut stores = SharedStores::start().await;
    let (folder, upstream) = (tempfile::tempdir().expect("a folder"), Simulated::start());
    let (gateway, admin, worker) = (ports::free(), ports::free(), ports::free());
    let place = Place { folder: folder.path(), upstream: &upstream, stores: &stores, gateway, admin, worker };
    place.write();
    let compose = yaml("compose/compose.yaml");
    let secrets = |service: &str| -> Vec<String> {
        compose["services"][service]["environment"].as_object().expect("variables").keys().cloned().collect()
    };
    let start = |words: &[&str], service: &str| {
        place.start(words, &secrets(service).iter().map(String::as_str).collect::<Vec<_>>())
    };
    let image = std::fs::read_to_string(workspace::root().join("Dockerfile")).expect("a Dockerfile");
    assert!(image.contains(&format!("CMD [\"serve\", \"-c\", \"{THERE}\"]")));
    let mut gateway_process = start(&["serve", "-c", THERE], "gateway-1");
    let words = texts(&compose["services"]["worker"]["command"]);
    assert_eq!(
        words,
        texts(&yaml("kubernetes/worker.yaml")["spec"]["template"]["spec"]["containers"][0]["args"])
    );
    let gateway_admin = Admin::new(admin);
    until("the gateway is ready", || gateway_admin.probe("/readyz").ok().filter(|status| *status == 200));
    for name in counters_of_alarms() {
        assert!(metric(&gateway_admin, &name).is_some(), "{name} is not there before it grows");
    }
    let mut worker_process = start(&words, "worker");
    let worker_admin = Admin::new(worker);
    until("the worker is alive", || worker_admin.probe("/healthz").ok().filter(|status| *status == 200));
    assert_eq!(worker_admin.probe("/admin/v1/accounts").expect("an answer"), 404, "it changes nothing");

    let of = [&gateway_admin, &worker_admin];
    both("all queues have a worker", of, "overfall_worker_queues", |queues| queues == 256);
    let caller = gateway_admin.caller("plus");
    let client = Client::new(gateway, &caller.key);
    assert_eq!(client.respond("gpt-5.5").await.status, 200);
    until("it is booked", || metric(&gateway_admin, "overfall_settle_lag_frames").filter(|lag| *lag == 0));
    // The books are away: decisions go on, and what waits for them is told.
    stores.postgres.stop();
    assert_eq!(client.respond("gpt-5.5").await.status, 200);
    both("the record waits", of, "overfall_queue_records", |records| records >= 1);
    both("its age is told", of, "overfall_queue_oldest_seconds", |age| age >= 2);
    stores.postgres.again().await;
    both("nothing waits", of, "overfall_queue_records", |records| records == 0);
    for process in [&mut worker_process, &mut gateway_process] {
        process.signal(rustix::process::Signal::TERM);
        assert_eq!(process.wait(), Some(0), "it ends as asked");
    }
}
