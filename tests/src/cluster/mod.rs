//! A cluster: nodes, the Redis that they share, a balancer, what can befall them, and who checks what was promised.
//!
//! - [`redis`] starts Redis under the ACL file of the repository: killed, frozen, restarted, refusing writes.
//! - [`ring`] is a Redis Cluster, whose slots move.
//! - [`papers`] are certificates, for servers that speak TLS.
//! - [`sentinels`] watch a master and a replica, and promote it.
//! - [`way`] is the way from one node to Redis: blocked or slow, without either end being told.
//! - [`balancer`] is HAProxy with the configuration of the repository.
//! - [`delivery`] numbers publications and tells lost, doubled and reordered ones.
//! - [`decisions`] asks all nodes about all connections, all the time, and tells answers that the promise forbids.

pub mod balancer;
pub mod decisions;
pub mod delivery;
pub mod papers;
pub mod redis;
pub mod ring;
pub mod sentinels;
pub mod way;

use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::sync::{Semaphore, SemaphorePermit};

use self::balancer::Balancer;
use self::papers::Papers;
use self::redis::{Redis, USERNAME};
use self::ring::Ring;
use self::sentinels::Sentinels;
use self::way::Way;
use crate::busy::Busy;
use crate::http::{self, Request, Response};
use crate::poll::eventually;
use crate::socket::{Dial, NATIVE};
use crate::{Node, Plan};

/// The origin of pages that the nodes of a cluster allow.
pub const ORIGIN: &str = "https://app.example";
/// Life of a node's lease, as nodes have it by default.
pub const LEASE: Duration = Duration::from_secs(6);
/// A remote allow is not served on a silent stream for longer, by default.
pub const STALE_LIMIT: Duration = Duration::from_secs(5);
/// Within this a fault shows in readiness, and all is right again after it.
pub const RECOVERY: Duration = Duration::from_secs(5);

/// Clusters at once: each promises times, and a machine that runs many keeps none.
static PLACES: Semaphore = Semaphore::const_new(2);

/// What all keys and channels begin with, as nodes have it by default.
pub const PREFIX: &str = "countersign";

/// What every cluster of the tests is started with.
const SETTINGS: &str = r#"
[server]
trusted_proxies = ["127.0.0.0/8"]
[gateway.limits]
messages_per_second = 1000
"#;

/// What a cluster is started with.
#[derive(Debug)]
pub struct ClusterPlan {
    plan: Plan,
    nodes: usize,
    balanced: bool,
    over_ways: bool,
    watched: bool,
    ringed: bool,
    secure: bool,
}

/// A running cluster. What is dropped is killed, all of it in the end.
#[derive(Debug)]
pub struct Cluster {
    /// Nodes, in the order of their numbers from 0.
    pub nodes: Vec<Node>,
    /// The way of each node to Redis, if the plan has them.
    pub ways: Vec<Way>,
    /// What they share; before a failover the master, or of a Redis Cluster the one with all keys.
    pub redis: Redis,
    /// Who watches it, if the plan has them.
    pub sentinels: Option<Sentinels>,
    /// The rest of a Redis Cluster, if the plan has one.
    pub ring: Option<Ring>,
    balancer: Option<Balancer>,
    plans: Vec<Plan>,
    _papers: Option<Papers>,
    /// Its folder holds the data that all nodes share.
    _shared: Plan,
    _place: SemaphorePermit<'static>,
}

impl ClusterPlan {
    /// Three nodes that allow [`ORIGIN`].
    #[must_use]
    pub fn new() -> Self {
        let origin = format!("[gateway]\nallowed_origins = [\"{ORIGIN}\"]");
        Self {
            plan: Plan::new().toml(&origin),
            nodes: 3,
            balanced: false,
            over_ways: false,
            watched: false,
            ringed: false,
            secure: false,
        }
    }

    /// Three nodes with a file of the repository as their configuration.
    #[must_use]
    pub fn example(name: &str) -> Self {
        Self { plan: Plan::example(name), ..Self::new() }
    }

    /// So many nodes.
    #[must_use]
    pub fn nodes(self, nodes: usize) -> Self {
        Self { nodes, ..self }
    }

    /// Adds settings.
    #[must_use]
    pub fn toml(self, text: &str) -> Self {
        Self { plan: self.plan.toml(text), ..self }
    }

    /// A balancer in front, whose own page's origin is allowed.
    #[must_use]
    pub fn balanced(self) -> Self {
        Self { balanced: true, ..self }
    }

    /// Each node reaches Redis over a [`Way`] of its own.
    #[must_use]
    pub fn over_ways(self) -> Self {
        Self { over_ways: true, ..self }
    }

    /// Redis is a master and a replica under sentinels.
    #[must_use]
    pub fn watched(self) -> Self {
        Self { watched: true, ..self }
    }

    /// Redis is a Redis Cluster.
    #[must_use]
    pub fn ringed(self) -> Self {
        Self { ringed: true, ..self }
    }

    /// Nodes and servers reach servers by TLS, and show certificates.
    #[must_use]
    pub fn secure(self) -> Self {
        Self { secure: true, ..self }
    }

    /// Runs a subcommand against the data folder that the nodes will share.
    #[must_use]
    pub fn cli(&self, arguments: &[&str], input: &str) -> std::process::Output {
        self.plan.cli(arguments, input)
    }

    /// Starts Redis, the nodes and the balancer, and waits until all are ready and know each other.
    ///
    /// # Panics
    /// If any of them does not start.
    pub async fn start(self) -> Cluster {
        let place = PLACES.acquire().await.expect("never closed");
        let papers = self.secure.then(Papers::issue);
        let (redis, ring) = if self.ringed {
            let (redis, ring) = Ring::start(PREFIX, papers.as_ref()).await;
            (redis, Some(ring))
        } else {
            let options = papers.as_ref().map(Papers::options).unwrap_or_default();
            (Redis::start_with(&options.iter().map(String::as_str).collect::<Vec<_>>()).await, None)
        };
        let sentinels = if self.watched { Some(Sentinels::over(&redis, papers.as_ref()).await) } else { None };
        let mut balancer = self.balanced.then(Balancer::reserve);
        let mut base = self.plan.toml(SETTINGS);
        if let Some(balancer) = &balancer {
            base = base.toml(&format!("[gateway]\nallowed_origins = [\"{ORIGIN}\", \"{}\"]", balancer.origin()));
        }
        let ways: Vec<Way> = (0..self.nodes).filter(|_| self.over_ways).map(|_| Way::to(redis.address())).collect();
        let plans: Vec<Plan> = (0..self.nodes)
            .map(|number| {
                let home = redis.secure_address().unwrap_or(redis.address());
                let address = ways.get(number).map_or(home, Way::address);
                let scheme =
                    [if papers.is_some() { "rediss" } else { "redis" }, if ring.is_some() { "+cluster" } else { "" }].concat();
                let to = sentinels.as_ref().map_or_else(|| format!("redis = \"{scheme}://{address}\""), Sentinels::settings);
                let to = papers.iter().map(Papers::settings).fold(to, |to, papers| format!("{to}\n{papers}"));
                base.sibling().toml(&cluster_settings(&redis, &to))
            })
            .collect();
        let nodes: Vec<Node> = plans.iter().map(Plan::start).collect();
        let mut cluster = Cluster {
            nodes,
            ways,
            redis,
            sentinels,
            ring,
            balancer: None,
            plans,
            _papers: papers,
            _shared: base,
            _place: place,
        };
        cluster.becomes_whole().await;
        if let Some(balancer) = &mut balancer {
            balancer.start(&cluster.nodes).await;
        }
        cluster.balancer = balancer;
        cluster
    }
}

impl Default for ClusterPlan {
    fn default() -> Self {
        Self::new()
    }
}

/// The settings that lead a node to Redis.
fn cluster_settings(redis: &Redis, to: &str) -> String {
    let password_file = redis.password_file();
    format!("[cluster]\n{to}\nusername = \"{USERNAME}\"\npassword_file = \"{}\"", password_file.display())
}

impl Cluster {
    /// The balancer.
    ///
    /// # Panics
    /// If the plan has none.
    #[must_use]
    pub fn balancer(&self) -> &Balancer {
        self.balancer.as_ref().expect("a plan with a balancer")
    }

    /// Who takes over from [`Cluster::redis`].
    ///
    /// # Panics
    /// If the plan has nobody.
    #[must_use]
    pub fn successor(&self) -> &Redis {
        let of_ring = self.ring.as_ref().map(|ring| &ring.replica);
        self.sentinels.as_ref().map(|sentinels| &sentinels.replica).or(of_ring).expect("a plan with a replica")
    }

    /// A native client on a page of [`ORIGIN`], at one node.
    #[must_use]
    pub fn dial(&self, node: usize) -> Dial {
        Dial::to(&self.nodes[node]).origin(ORIGIN).protocol(NATIVE)
    }

    /// A native client on a page of [`ORIGIN`], through the balancer.
    #[must_use]
    pub fn dial_balanced(&self) -> Dial {
        Dial::at(self.balancer().public).origin(ORIGIN).protocol(NATIVE)
    }

    /// How long all of it, and the calling test, have waited for a processor until now.
    #[must_use]
    pub fn busy(&self) -> Busy {
        let ring = self.ring.iter().flat_map(|ring| ring.others.iter().chain([&ring.replica])).filter_map(Redis::process);
        let sentinels = self.sentinels.iter().flat_map(Sentinels::processes);
        let nodes = self.nodes.iter().map(Node::process);
        Busy::now(&nodes.chain(self.redis.process()).chain(ring).chain(sentinels).collect::<Vec<_>>())
    }

    /// What a busy machine has added since then to whatever this cluster did.
    #[must_use]
    pub fn added(&self, since: &Busy) -> Duration {
        since.until(&self.busy())
    }

    /// Asks the server API through the balancer.
    pub async fn api(&self, path: &str, body: &Value) -> Response {
        let url = format!("http://{}/api/v1/{path}", self.balancer().admin);
        http::post(&url, body).header("X-API-Key", &self.nodes[0].api_key()).send().await
    }

    /// A question to the authorizer through the balancer.
    #[must_use]
    pub fn ask_balanced(&self, connection: &str) -> Request {
        http::get(&format!("http://{}/authorize", self.balancer().admin)).header("connectionId", connection)
    }

    /// Starts a node again with what it was started with first. It is another node to the others.
    pub fn start_again(&mut self, node: usize) {
        self.nodes[node] = self.plans[node].start();
    }

    /// Waits until all nodes are ready and each knows as many as there are.
    pub async fn becomes_whole(&self) {
        self.become_ready().await;
        for node in &self.nodes {
            node.metric_reaches("countersign_cluster_nodes", &[], self.nodes.len() as f64).await;
        }
    }

    /// Waits until all nodes are ready; how long it took.
    pub async fn become_ready(&self) -> Duration {
        self.all_become(true).await
    }

    /// Waits until no node is ready; how long it took.
    pub async fn become_unready(&self) -> Duration {
        self.all_become(false).await
    }

    async fn all_become(&self, ready: bool) -> Duration {
        let start = Instant::now();
        for node in &self.nodes {
            node_becomes(node, ready).await;
        }
        start.elapsed()
    }

    /// Waits until every node answers `status` about a connection.
    pub async fn all_answer(&self, connection: &str, status: u16) {
        for (number, node) in self.nodes.iter().enumerate() {
            let what = format!("node {number} answers {status}");
            eventually(&what, || async { (node.authorize(connection).await.status == status).then_some(()) }).await;
        }
    }
}

/// Waits until a node is ready, or is not; how long it took.
pub async fn node_becomes(node: &Node, ready: bool) -> Duration {
    let start = Instant::now();
    let what = format!("ready: {ready}");
    eventually(&what, || async { (node.ready().await? == ready).then_some(()) }).await;
    start.elapsed()
}
