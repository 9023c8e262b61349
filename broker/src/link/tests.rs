//! TLS towards a real Redis, and what a link does when writes are refused.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose};
use redis::Pipeline;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::target::Whereabouts;
use super::testing::{TestRedis, settings, soon};
use super::{CommandLink, LinkError, RedisTarget, TargetError};
use crate::config::{ClusterSettings, RedisUrl};
use crate::telemetry::{Metrics, RedisCall};

/// Authorities, and what they certified.
struct Papers {
    folder: tempfile::TempDir,
}

impl Papers {
    /// Two authorities; the first one certified a server on loopback and a client.
    fn issue() -> Self {
        let papers = Self { folder: tempfile::tempdir().unwrap() };
        let authority = papers.authority("ours");
        papers.authority("other");
        papers.certify("server", "127.0.0.1", ExtendedKeyUsagePurpose::ServerAuth, &authority);
        papers.certify("client", "node", ExtendedKeyUsagePurpose::ClientAuth, &authority);
        papers
    }

    fn authority(&self, name: &str) -> CertifiedIssuer<'static, KeyPair> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        self.write(name, "crt", &issuer.pem());
        issuer
    }

    fn certify(&self, name: &str, subject: &str, usage: ExtendedKeyUsagePurpose, by: &CertifiedIssuer<'static, KeyPair>) {
        let mut params = CertificateParams::new(vec![subject.to_owned()]).unwrap();
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().unwrap();
        self.write(name, "crt", &params.signed_by(&key, by).unwrap().pem());
        self.write(name, "key", &key.serialize_pem());
    }

    fn write(&self, name: &str, ending: &str, text: &str) {
        std::fs::write(self.file(&format!("{name}.{ending}")), text).unwrap();
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A server that speaks TLS only, to who shows a certificate of the first authority.
    async fn redis(&self) -> Option<TestRedis> {
        let file = |name: &str| self.file(name).display().to_string();
        let (ca, cert, key) = (file("ours.crt"), file("server.crt"), file("server.key"));
        TestRedis::start_tls(&["--tls-ca-cert-file", &ca, "--tls-cert-file", &cert, "--tls-key-file", &key]).await
    }

    /// A target that believes an authority and shows the client's certificate, or none.
    fn target(&self, redis: &TestRedis, authority: &str, shows: bool) -> RedisTarget {
        let shown = |name: &str| shows.then(|| self.file(name));
        RedisTarget::new(&ClusterSettings {
            redis: Some(RedisUrl(format!("rediss://{}", redis.address()))),
            ca_file: Some(self.file(authority)),
            cert_file: shown("client.crt"),
            key_file: shown("client.key"),
            ..settings(redis.address())
        })
        .unwrap()
    }
}

fn one(words: &[&str]) -> Pipeline {
    let mut commands = Pipeline::new();
    commands.cmd(words[0]).arg(&words[1..]);
    commands
}

#[tokio::test]
async fn commands_go_over_tls_to_a_redis_whose_authority_is_known() {
    let papers = Papers::issue();
    let Some(redis) = papers.redis().await else { return };
    let link = CommandLink::start(papers.target(&redis, "ours.crt", true), Arc::new(Metrics::new()));
    soon("the link is up", link.up()).await;
    link.call(RedisCall::Apply, &one(&["SET", "a", "b"])).await.unwrap();
    let read = link.call(RedisCall::Find, &one(&["GET", "a"])).await.unwrap();
    assert_eq!(read, [redis::Value::BulkString(b"b".to_vec())]);
}

#[tokio::test]
async fn a_redis_of_another_authority_is_refused_and_the_reason_told() {
    let papers = Papers::issue();
    let Some(redis) = papers.redis().await else { return };
    let told = papers.target(&redis, "other.crt", true).connect(|_| {}).await.err().unwrap();
    assert!(matches!(&told, LinkError::Untrusted(_)), "{told:?}");
    assert!(told.to_string().contains("cluster.ca_file"), "{told}");
}

#[tokio::test]
async fn who_shows_no_certificate_is_refused_by_a_redis_that_asks_for_one() {
    let papers = Papers::issue();
    let Some(redis) = papers.redis().await else { return };
    assert!(papers.target(&redis, "ours.crt", false).connect(|_| {}).await.is_err());
    assert!(papers.target(&redis, "ours.crt", true).connect(|_| {}).await.is_ok());
}

#[test]
fn certificates_that_are_none_are_told_before_anything_connects() {
    let papers = Papers::issue();
    papers.write("none", "crt", "no certificate");
    let with = |ca: &str, cert: Option<&str>| {
        RedisTarget::new(&ClusterSettings {
            redis: Some(RedisUrl("rediss://localhost".to_owned())),
            ca_file: Some(papers.file(ca)),
            cert_file: cert.map(|name| papers.file(name)),
            key_file: cert.map(|_| papers.file("none.crt")),
            ..ClusterSettings::default()
        })
        .err()
    };
    assert!(with("ours.crt", None).is_none());
    assert!(matches!(with("none.crt", None), Some(TargetError::NoCertificate { .. })));
    assert!(matches!(with("ours.crt", Some("client.crt")), Some(TargetError::Tls(_))));
}

/// What is no write goes on, on the same link, and so do writes when they are taken again.
#[tokio::test]
async fn a_refused_write_costs_no_link() {
    let Some(redis) = TestRedis::start().await else { return };
    let link = redis.link().await;
    let epoch = link.connected().unwrap().epoch;
    redis.ask(&["REPLICAOF", "127.0.0.1", "1"]).await;
    let until = tokio::time::Instant::now() + Duration::from_secs(3);
    while tokio::time::Instant::now() < until {
        let refused = link.call(RedisCall::Apply, &one(&["SET", "a", "b"])).await.unwrap();
        assert!(matches!(&refused[0], redis::Value::ServerError(_)), "{refused:?}");
        let said = link.call(RedisCall::Publish, &one(&["PUBLISH", "c", "d"])).await.unwrap();
        assert_eq!(said, [redis::Value::Int(0)]);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    redis.ask(&["REPLICAOF", "NO", "ONE"]).await;
    assert_eq!(link.call(RedisCall::Apply, &one(&["SET", "a", "b"])).await.unwrap(), [redis::Value::Okay]);
    assert_eq!(link.connected().unwrap().epoch, epoch);
}

/// Who names a server to whom asks, as a sentinel does; of an epoch, if it tells one.
async fn sentinel(names: std::net::SocketAddr, epoch: Option<u64>) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut buffer = vec![0; 4_096];
                while let Ok(read @ 1..) = stream.read(&mut buffer).await {
                    let asked = String::from_utf8_lossy(&buffer[..read]).to_uppercase();
                    let port = names.port().to_string();
                    let bulk = |text: &str| format!("${}\r\n{text}\r\n", text.len());
                    let mut answer = String::new();
                    if asked.contains("HELLO") {
                        answer += "%1\r\n$5\r\nproto\r\n:3\r\n";
                    }
                    if asked.contains("GET-MASTER-ADDR-BY-NAME") {
                        answer += &format!("*2\r\n{}{}", bulk("127.0.0.1"), bulk(&port));
                    }
                    if asked.contains("\r\nMASTER\r\n") {
                        answer += &epoch.map_or("-NOPERM no such command for you\r\n".to_owned(), |epoch| {
                            format!(
                                "%2\r\n{}{}{}{}",
                                bulk("ip"),
                                bulk("127.0.0.1"),
                                bulk("config-epoch"),
                                bulk(&epoch.to_string())
                            )
                        });
                    }
                    stream.write_all(answer.as_bytes()).await.unwrap();
                }
            });
        }
    });
    address
}

/// One sentinel was cut off when the master was lost, one is away, one knows.
#[tokio::test]
async fn of_servers_that_sentinels_name_the_one_that_says_it_is_master_is_taken() {
    let (Some(old), Some(new)) = (TestRedis::start().await, TestRedis::start().await) else { return };
    old.ask(&["REPLICAOF", "127.0.0.1", &new.address().port().to_string()]).await;
    let sentinels = [sentinel(old.address(), None).await, sentinel(new.address(), None).await];
    let target = |sentinels: &str| {
        let redis = Some(RedisUrl(format!("redis+sentinel://{sentinels}/main")));
        RedisTarget::new(&ClusterSettings { redis, ..settings(old.address()) }).unwrap()
    };
    for _ in 0..10 {
        let reached = target(&format!("127.0.0.1:1,{},{}", sentinels[0], sentinels[1])).connect(|_| {}).await.unwrap();
        assert_eq!(&*reached.server, new.address().to_string());
    }
    let told = target(&sentinels[0].to_string()).connect(|_| {}).await.err().unwrap();
    assert!(told.to_string().contains("no master"), "{told}");
}

/// A master that hung and wakes takes itself for the master until somebody tells it otherwise, and a sentinel that hung with it
/// names it: whoever went there would write what is thrown away.
#[tokio::test]
async fn the_newest_word_of_most_sentinels_counts() {
    let (Some(old), Some(new)) = (TestRedis::start().await, TestRedis::start().await) else { return };
    let sentinels = [
        sentinel(old.address(), Some(3)).await,
        sentinel(new.address(), Some(10)).await,
        sentinel(new.address(), Some(10)).await,
    ];
    let hosts = sentinels.map(|sentinel| sentinel.to_string()).join(",");
    let redis = Some(RedisUrl(format!("redis+sentinel://{hosts}/main")));
    let target = RedisTarget::new(&ClusterSettings { redis, ..settings(old.address()) }).unwrap();
    for _ in 0..20 {
        let reached = target.connect(|_| {}).await.unwrap();
        assert_eq!(&*reached.server, new.address().to_string());
        let seen = target.look(&reached.connection, &reached.server).await;
        assert!(matches!(seen, Whereabouts::Here), "{seen:?}");
        let seen = target.look(&reached.connection, &old.address().to_string()).await;
        assert!(matches!(seen, Whereabouts::Elsewhere), "{seen:?}");
    }
    // The newest is away: better none than one of before.
    drop(new);
    assert!(target.connect(|_| {}).await.is_err());
}
