//! TLS on both sides of the gateway, with certificates of an authority of the test's own.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use serde_json::json;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::harness::client::{ask, ask_stream};
use crate::harness::{Gateway, Setup, Simulated, until};

/// Who vouches for servers.
pub(crate) struct Authority(pub(crate) CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "an authority");
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("an authority"))
    }

    /// A server's certificate and key.
    pub(crate) fn server(&self, name: &str) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new([name.to_owned()]).expect("a name");
        params.distinguished_name.push(DnType::CommonName, name);
        (params.signed_by(&key, &self.0).expect("a certificate"), key)
    }
}

/// Files of an authority's certificate, and of a server's certificate and key, as a Redis takes them.
pub(crate) struct RedisFiles {
    pub(crate) ca: String,
    certificate: String,
    key: String,
}

impl RedisFiles {
    /// Writes them; the server is on this machine.
    pub(crate) fn write(folder: &Path) -> Self {
        let authority = Authority::new();
        let (certificate, key) = authority.server("127.0.0.1");
        let file = |name: &str, text: String| {
            std::fs::write(folder.join(name), text).expect("written");
            folder.join(name).display().to_string()
        };
        Self {
            ca: file("ca.pem", authority.0.pem()),
            certificate: file("redis.pem", certificate.pem()),
            key: file("redis.key", key.serialize_pem()),
        }
    }

    /// Has a server speak TLS only, at this port.
    pub(crate) fn settings(&self, port: u16) -> Vec<String> {
        let port = port.to_string();
        let files = [
            "--tls-ca-cert-file",
            &self.ca,
            "--tls-cert-file",
            &self.certificate,
            "--tls-key-file",
            &self.key,
        ];
        let all = ["--port", "0", "--tls-port", &port, "--tls-auth-clients", "no"].into_iter().chain(files);
        all.map(str::to_owned).collect()
    }

    /// A client of such a server.
    pub(crate) fn client(&self, port: u16) -> redis::Client {
        let root = std::fs::read(&self.ca).expect("a certificate");
        let trusted = redis::TlsCertificates { client_tls: None, root_cert: Some(root) };
        redis::Client::build_with_tls(format!("rediss://127.0.0.1:{port}"), trusted).expect("an address")
    }
}

/// The end of TLS in front of an upstream that speaks none. It ends with the test's runtime.
struct Terminator {
    addr: SocketAddr,
}

impl Terminator {
    async fn before(upstream: SocketAddr, authority: &Authority, name: &str) -> Self {
        let (certificate, key) = authority.server(name);
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .expect("a certificate and its key");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        // One family of addresses only, though `localhost` may have both: the gateway finds the one that answers.
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let addr = listener.local_addr().expect("it listens");
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let mut server = TcpStream::connect(upstream).await.ok()?;
                    let mut client = acceptor.accept(client).await.ok()?;
                    copy_bidirectional(&mut client, &mut server).await.ok()
                });
            }
        });
        Self { addr }
    }

    fn url(&self) -> String {
        format!("https://localhost:{}", self.addr.port())
    }
}

/// A gateway before `upstream`, trusting by `authority` alone.
fn before(upstream: &Terminator, authority: &Authority) -> Gateway {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("ca.pem"), authority.0.pem()).expect("written");
    Setup::default().base_url(&upstream.url()).upstream_setting("ca_file: ca.pem").start_in(folder)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_is_reached_by_name_over_tls_in_requests_streams_and_questions_about_jobs() {
    let (simulated, authority) = (Simulated::start(), Authority::new());
    let upstream = Terminator::before(simulated.addr, &authority, "localhost").await;
    let mut gateway = before(&upstream, &authority);
    let (_, client) = gateway.caller("free");
    // The name is resolved in the background: until it is, requests are refused.
    until("the name is resolved", || {
        (gateway.admin.metric("overfall_upstream_usable", &["simulated"]) > 0.5).then_some(())
    });
    for _ in 0..8 {
        client.respond("one").await.expect(200);
    }
    let (events, whole) = client.stream("/v1/responses", &ask_stream("one")).await.rest().await;
    assert!(whole && events.contains("response.completed"), "{events}");
    let mut background = ask("one");
    background["background"] = json!(true);
    let answer = client.send("POST", "/v1/responses", background.to_string()).await.expect(200);
    gateway.admin.booked(&answer.decision());
    gateway.stop();
    gateway.audit();
}

/// I6: what no upstream accepted is not charged.
#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_cannot_show_who_it_is_gets_nothing_and_the_client_hears_no_more_than_502() {
    let (simulated, authority, stranger) = (Simulated::start(), Authority::new(), Authority::new());
    let wrong_authority = Terminator::before(simulated.addr, &stranger, "localhost").await;
    let wrong_name = Terminator::before(simulated.addr, &authority, "elsewhere.example").await;
    for upstream in [&wrong_authority, &wrong_name] {
        let mut gateway = before(upstream, &authority);
        until("the name is resolved", || {
            (gateway.admin.metric("overfall_upstream_usable", &["simulated"]) > 0.5).then_some(())
        });
        let (_, client) = gateway.caller("free");
        let answer = client.respond("one").await.expect(502);
        let told = answer.json().to_string().to_lowercase();
        assert!(!told.contains("certificate") && !told.contains("tls"), "{told}");
        until("the log says why", || gateway.log().to_lowercase().contains("certificate").then_some(()));
        gateway.stop();
        gateway.audit();
    }
    assert_eq!(simulated.seen.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_reach_the_gateway_over_tls_and_what_speaks_none_disturbs_nobody() {
    let authority = Authority::new();
    let (certificate, key) = authority.server("gateway.example");
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: String| std::fs::write(folder.path().join(name), text).expect("written");
    write("ca.pem", authority.0.pem());
    write("gateway.pem", certificate.pem());
    write("gateway.key", key.serialize_pem());
    let gateway = Setup::default().tls("{certificate: gateway.pem, key: gateway.key}").start_in(folder);
    let (caller, plain) = gateway.caller("free");
    assert!(plain.try_send("GET", "/v1/models", bytes::Bytes::new()).await.is_err(), "it speaks TLS only");
    let url = format!("https://gateway.example:{}/v1/responses", gateway.addr.port());
    let ca = gateway.folder.path().join("ca.pem");
    for body in [ask("one"), ask_stream("one")] {
        let told = curl(&gateway, &caller.key, &url, &ca, &body.to_string());
        assert!(told.starts_with("HTTP/1.1 200") && told.contains("x-access-decision: allow"), "{told}");
    }
}

fn curl(gateway: &Gateway, key: &str, url: &str, ca: &Path, body: &str) -> String {
    let resolve = format!("gateway.example:{}:127.0.0.1", gateway.addr.port());
    let output = Command::new("curl")
        .args(["-sSi", "--max-time", "20", "--resolve", &resolve, "--cacert"])
        .arg(ca)
        .args(["-H", &format!("Authorization: Bearer {key}"), "-H", "Content-Type: application/json"])
        .args(["-d", body, url])
        .output()
        .expect("curl");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).to_lowercase().replacen("http", "HTTP", 1)
}
