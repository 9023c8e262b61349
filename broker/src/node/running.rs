use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use actix_rt::task::JoinHandle;
use actix_server::ServerHandle;
use async_trait::async_trait;
use countersign_node_proto::NodeId;
use tokio::sync::Semaphore;

use super::NodeError;
use super::apps::AppParts;
use super::backplane::Backplane;
use super::hearing::Hearing;
use crate::authorizer::{AuthorizeEndpoint, Authorizer, AuthorizerParts, ForeignCalls, TokenCheck, TokenProblem};
use crate::challenge::{Files, HeldPrograms, Issuer, PendingPermits, Signing};
use crate::close::CloseReason;
use crate::cluster::{Asker, Bus};
use crate::config::{ChallengeForm, ServerSettings, Settings, TlsSettings};
use crate::edge::{self, ClientAddress, Cors, HostList, ListenerSpec, Origin, OriginList, Tls};
use crate::frame_page::{FramePage, Programs};
use crate::gateway::{ConnectionSupervisor, Gateway, SessionConfig};
use crate::hub::{Hub, Publisher};
use crate::identity::{self, Clock, Identity, Principal, ProgramKeys, TokenRefusal, TokenVerifier};
use crate::link::{Task, keep as keep_running};
use crate::management::{ApiKeys, Challenger, Disconnector, Management};
use crate::registry::{LeaseKeeper, LiveConnections, RegistryKeeper};
use crate::telemetry::{Health, Metrics};
use crate::ticket::TicketOffice;

/// Threads of the administrative server: few, and never those of the sockets.
const ADMIN_WORKERS: usize = 2;
/// Connections of proxies and scrapers per administrative thread.
const ADMIN_CONNECTIONS_PER_WORKER: usize = 4_096;
/// Places above the sockets' own bound: HTTP calls, and handshakes that are refused with an answer.
const SPARE_CONNECTIONS: usize = 8_192;
/// Longest time without an answer on a connection that is no WebSocket: longer than a sign-in waits for its hash.
const QUIET_MAX: Duration = Duration::from_secs(45);
/// Longest wait, while draining, for the registry to take the last entries.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(2);

/// A running node.
pub struct Node {
    settings: Arc<Settings>,
    gateway_address: SocketAddr,
    admin_address: SocketAddr,
    gateway: Arc<Gateway>,
    health: Health,
    metrics: Arc<Metrics>,
    standing: Standing,
    public: Running,
    admin: Running,
    /// Registry keeper and readiness; end with the node.
    tasks: Vec<EndOnDrop>,
    _identity: Arc<Identity>,
}

/// What makes the node's entries count, and keeps them right.
struct Standing {
    lease: Arc<LeaseKeeper>,
    holding: EndOnDrop,
    maintenance: Vec<Task>,
}

/// A server and the task that drives it.
struct Running {
    handle: ServerHandle,
    _task: EndOnDrop,
}

/// A task that ends with its handle.
struct EndOnDrop(JoinHandle<()>);

impl Node {
    /// Starts a node: binds, opens the data folder, takes a lease, serves. When this returns, it answers.
    ///
    /// Must be called within an actix system.
    ///
    /// # Errors
    /// [`NodeError`]; nothing is left running then.
    pub async fn start(settings: Settings, backplane: &Backplane) -> Result<Self, NodeError> {
        let settings = Arc::new(settings);
        let server = &settings.server;
        let (public, admin) = (bind(server.listen)?, bind(server.admin_listen)?);
        let gateway_address = local_address(&public, server.listen)?;
        let admin_address = local_address(&admin, server.admin_listen)?;
        let (public_tls, admin_tls) = (load_tls(server.tls.as_ref())?, load_tls(server.admin_tls.as_ref())?);

        let metrics = Arc::new(Metrics::new());
        let health = Health::new();
        let node = draw_node_id()?;
        let attached = backplane.attach(node, &metrics)?;
        let live = Arc::<LiveConnections>::default();
        let identity = Arc::new(start_identity(&settings, &metrics, gateway_address, &live)?);
        let origins = Arc::new(origin_list(&settings, gateway_address));
        let cors = Cors::new(Arc::clone(&origins), &settings.authorizer.header);
        let keys = Arc::clone(&attached.keys);
        let tickets = TicketOffice::new(&settings, node, keys, Clock::system(), Arc::clone(&metrics));
        let answer_timeout = settings.authorizer.registry_timeout_ms.duration();
        let asker = Asker::new(Arc::clone(&attached.bus), answer_timeout, Arc::clone(&metrics));
        let parts = AuthorizerParts {
            node,
            live: Arc::clone(&live),
            registry: Arc::clone(&attached.registry),
            bus: Arc::clone(&attached.bus),
            tokens: Arc::new(PoolAndIssuers(identity.verifier())),
            tickets: Arc::clone(&tickets),
            asker: Arc::clone(&asker),
            metrics: Arc::clone(&metrics),
            expiry_ends_connection: settings.gateway.token.expiry_ends_connection,
        };
        let calls_max = settings.challenge.again.calls_per_minute;
        let calls = ForeignCalls::new(calls_max, Arc::clone(&attached.bus), Arc::clone(&metrics));
        let authorizer = Arc::new(Authorizer::new(&settings.authorizer, parts).telling_owners(calls.clone()));
        let hub_queue_max = settings.gateway.limits.hub_queue_max_bytes;
        let hub = Hub::new(Arc::clone(&attached.bus), hub_queue_max, Arc::clone(&metrics));
        let keeper = RegistryKeeper::new(Arc::clone(&attached.registry), Arc::clone(&attached.bus));

        let lease_life = settings.cluster.lease_seconds.duration();
        let lease = Arc::new(LeaseKeeper::new(node, Arc::clone(&attached.registry), lease_life));
        attached.reached().await;
        if let Err(error) = lease.renew().await {
            tracing::warn!(%error, "starting without a lease, unready until it is there");
        }
        let mut tasks = vec![keep(keeper.clone()), watch_registry(&health, &metrics, &keeper, &lease)];
        if attached.is_remote() {
            tasks.push(watch_bus(&health, &settings, Arc::clone(&attached.bus)));
        }
        let holding = hold(Arc::clone(&lease));
        let publisher = Publisher::new(Arc::clone(&hub), Arc::clone(&attached.bus), Arc::clone(&metrics));
        let disconnector = Arc::new(Disconnector::new(
            node,
            Arc::clone(&live),
            keeper.clone(),
            Arc::clone(&attached.registry),
            Arc::clone(&attached.bus),
            Arc::clone(&asker),
        ));
        let registry = Arc::clone(&attached.registry);
        let challenger = Arc::new(Challenger::new(node, Arc::clone(&live), registry, Arc::clone(&asker)));
        if settings.management.api_keys_file.is_none() {
            identity::make_data_folder(&server.data_dir)?;
        }
        let keys = ApiKeys::load(&settings.management, &server.data_dir)?;
        let body_max = server.request_body_max_bytes;
        let management = Management::new(
            keys,
            publisher.clone(),
            Arc::clone(&disconnector),
            Arc::clone(&challenger),
            identity::issuer_names(&settings.identity),
            cors.clone(),
            body_max,
        );
        let held = Arc::<HeldPrograms>::default();
        attached.listen(Arc::new(Hearing {
            hub: Arc::clone(&hub),
            live: Arc::clone(&live),
            authorizer: Arc::clone(&authorizer),
            disconnector,
            challenger,
            asker: Arc::clone(&asker),
            held: Arc::clone(&held),
        }));
        attached.listening().await;
        let programs = Programs::new(node, Arc::clone(&held), asker);
        let frame = settings.challenge.offers(ChallengeForm::Frame).then(|| FramePage::new(&origins, programs));
        let gateway = Arc::new(Gateway {
            settings: settings.gateway.clone(),
            session: Arc::new(SessionConfig::compile(&settings).map_err(NodeError::Compile)?),
            node,
            origins,
            hosts: HostList::new(&settings.gateway.hosts, settings.server.tls.is_some()),
            cors: cors.clone(),
            addresses: ClientAddress::new(server.trusted_proxies.clone()),
            supervisor: ConnectionSupervisor::new(settings.gateway.limits.clone(), live, Arc::clone(&metrics)),
            verifier: identity.verifier(),
            tickets,
            issuer: issuer(&settings)?.asking_about(Files::load(&settings.challenge)?),
            held,
            permits: PendingPermits::new(&settings.challenge, std::time::Instant::now(), Arc::clone(&metrics)),
            handshakes: Semaphore::new(settings.gateway.limits.handshakes_in_flight_max),
            keeper,
            publisher,
            hub,
            clock: Clock::system(),
            retry_hint_max: server.drain.retry_hint_max_seconds.duration(),
            metrics: Arc::clone(&metrics),
            generations: AtomicU64::new(Clock::system().millis()),
        });
        let parts = AppParts {
            frame,
            authorize: AuthorizeEndpoint::new(&settings.authorizer, authorizer, cors.clone()),
            settings: Arc::clone(&settings),
            gateway: Arc::clone(&gateway),
            identity: Arc::clone(&identity),
            management,
            cors,
            health: health.clone(),
            metrics: Arc::clone(&metrics),
        };
        let (on_public, on_admin) = (parts.clone(), parts);
        let workers = edge::worker_count(server.workers);
        let per_worker = settings.gateway.limits.connections_max + SPARE_CONNECTIONS;
        let public_spec = spec(server, public, public_tls, workers, per_worker);
        let admin_spec = spec(server, admin, admin_tls, ADMIN_WORKERS, ADMIN_CONNECTIONS_PER_WORKER);
        let public = run(gateway_address, edge::serve(public_spec, move || on_public.public()))?;
        let admin = run(admin_address, edge::serve(admin_spec, move || on_admin.admin()))?;
        health.condition("node").ok();
        let _identity = identity;
        let mut maintenance = attached.maintenance();
        maintenance.extend(calls.map(|calls| keep_running("foreign calls", move || Arc::clone(&calls).run())));
        let standing = Standing { lease, holding, maintenance };
        Ok(Self {
            settings,
            gateway_address,
            admin_address,
            gateway,
            health,
            metrics,
            standing,
            public,
            admin,
            tasks,
            _identity,
        })
    }

    /// Where sockets connect.
    #[must_use]
    pub fn gateway_address(&self) -> SocketAddr {
        self.gateway_address
    }

    /// Where proxies ask.
    #[must_use]
    pub fn admin_address(&self) -> SocketAddr {
        self.admin_address
    }

    /// The public listener as a URL.
    #[must_use]
    pub fn gateway_url(&self) -> String {
        url(self.gateway_address, self.settings.server.tls.is_some())
    }

    /// The administrative listener as a URL.
    #[must_use]
    pub fn admin_url(&self) -> String {
        url(self.admin_address, self.settings.server.admin_tls.is_some())
    }

    /// Logs once what an operator looks for first. Paths only, never what the files hold.
    pub(super) fn log_start(&self) {
        let Settings { server, management, cluster, .. } = &*self.settings;
        tracing::info!(
            gateway = self.gateway_url(),
            admin = self.admin_url(),
            data_dir = %server.data_dir.display(),
            api_keys = %ApiKeys::path(management, &server.data_dir).display(),
            demo_page = if server.demo_page { "on" } else { "off" },
            mode = if cluster.redis.is_some() { "cluster" } else { "single" },
            "node started"
        );
    }

    /// Goes away in order: unready, notice, paced closes, stragglers, public server, registry, administrative server.
    ///
    /// Bounded by notice, window and grace of the drain, and a few seconds.
    pub async fn drain(self) {
        let drain = &self.settings.server.drain;
        self.health.drain();
        self.metrics.draining.set(1);
        tokio::time::sleep(drain.notice_ms.duration()).await;
        self.gateway.supervisor.drain(drain).await;
        self.public.handle.stop(true).await;
        let farewell = async {
            self.gateway.keeper.flush().await;
            let Standing { lease, holding, maintenance } = self.standing;
            // Neither may take again what is given up now.
            drop((holding, maintenance));
            if let Err(error) = lease.leave().await {
                tracing::warn!(%error, "lease was not given up; it runs out by itself");
            }
        };
        if tokio::time::timeout(FAREWELL_TIMEOUT, farewell).await.is_err() {
            tracing::warn!("registry did not take the last entries; they go with the lease");
        }
        drop(self.tasks);
        self.admin.handle.stop(true).await;
    }
}

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The node's verifier, as the authorizer asks it.
struct PoolAndIssuers(Arc<TokenVerifier>);

#[async_trait(?Send)]
impl TokenCheck for PoolAndIssuers {
    async fn check(&self, token: &str) -> Result<Arc<Principal>, TokenProblem> {
        self.0.verify(token).await.map_err(|refusal| match refusal {
            TokenRefusal::Unavailable => TokenProblem::Unavailable,
            _ => TokenProblem::Refused,
        })
    }
}

/// Users and tokens; a revocation ends the sockets that it covers.
///
/// Only this node's, and the bus is told nothing: every node that shares the store follows its revocations by itself, so
/// each ends its own, whichever node or command decided, and also after an outage in which a message would have been lost.
fn start_identity(
    settings: &Settings,
    metrics: &Arc<Metrics>,
    listen: SocketAddr,
    live: &Arc<LiveConnections>,
) -> Result<Identity, NodeError> {
    let live = Arc::clone(live);
    let revoked = move |revocation: &crate::identity::Revocation| {
        let ended = live.close_where(|principal| revocation.covers(principal), CloseReason::Disconnected);
        tracing::info!(ended, "a user's tokens were revoked");
    };
    Ok(Identity::start(settings, Arc::clone(metrics), listen, revoked)?)
}

/// Makes challenges, and signs those that are to be signed.
fn issuer(settings: &Settings) -> Result<Issuer, NodeError> {
    let challenge = &settings.challenge;
    let issuer = Issuer::new(challenge.program_operations)?;
    if !ChallengeForm::ALL.iter().any(|form| challenge.offers(*form) && challenge.sign_programs.covers(*form)) {
        return Ok(issuer);
    }
    if settings.cluster.redis.is_some() && challenge.signing_keys_dir.is_none() {
        tracing::warn!("nodes sign programs each with keys of its own: name a shared folder in challenge.signing_keys_dir");
    }
    let keys = ProgramKeys::start(settings)?;
    let answer_ms = u32::try_from(challenge.answer_timeout_ms.0).unwrap_or(u32::MAX);
    Ok(issuer.signing(Signing::new(challenge.sign_programs, answer_ms, move |frame| frame.sign(&keys.current()))))
}

/// The configured origins, and the node's own where that is asked for.
fn origin_list(settings: &Settings, listen: SocketAddr) -> OriginList {
    let gateway = &settings.gateway;
    let listed = gateway.allowed_origins.iter().filter_map(|origin| Origin::parse(origin).ok()).collect();
    let list = OriginList::new(listed, gateway.missing_origin, gateway.null_origin);
    if gateway.allow_own_origin { list.with_own(listen, settings.server.tls.is_some()) } else { list }
}

/// Runs the registry keeper, again after a panic: what it has not applied is in the keeper, not in the task.
fn keep(keeper: RegistryKeeper) -> EndOnDrop {
    EndOnDrop(actix_rt::spawn(async move {
        loop {
            let keeper = keeper.clone();
            let mut running = EndOnDrop(actix_rt::spawn(async move { keeper.run().await }));
            let outcome = (&mut running.0).await;
            tracing::error!(?outcome, "registry keeper ended, starting it again");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }))
}

/// Renews the lease.
fn hold(lease: Arc<LeaseKeeper>) -> EndOnDrop {
    EndOnDrop(actix_rt::spawn(async move { lease.run().await }))
}

/// Keeps the readiness condition of the registry.
fn watch_registry(health: &Health, metrics: &Arc<Metrics>, keeper: &RegistryKeeper, lease: &Arc<LeaseKeeper>) -> EndOnDrop {
    let (condition, metrics) = (health.condition("registry"), Arc::clone(metrics));
    let (keeper, lease) = (keeper.clone(), Arc::clone(lease));
    if lease.holds() {
        condition.ok();
    }
    EndOnDrop(actix_rt::spawn(async move {
        loop {
            match (keeper.is_reachable(), lease.is_fresh()) {
                (true, true) => condition.ok(),
                (false, _) => condition.failed("registry cannot be written"),
                (true, false) => condition.failed("lease is not renewed"),
            }
            metrics.lease_age.set(lease.age().unwrap_or_default().as_secs_f64());
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    }))
}

/// Keeps the readiness condition of the bus: a node that does not hear the others must get no traffic.
fn watch_bus(health: &Health, settings: &Settings, bus: Arc<dyn Bus>) -> EndOnDrop {
    let condition = health.condition("bus");
    let silence_max = settings.cluster.deaf_after_ms.duration() + settings.cluster.heartbeat_ms.duration();
    EndOnDrop(actix_rt::spawn(async move {
        loop {
            if bus.unproven() < silence_max {
                condition.ok();
            } else {
                condition.failed("nothing was heard from redis");
            }
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    }))
}

/// A listener's specification.
fn spec(
    server: &ServerSettings,
    listener: std::net::TcpListener,
    tls: Option<Tls>,
    workers: usize,
    connections_per_worker_max: usize,
) -> ListenerSpec {
    ListenerSpec {
        listener,
        workers,
        connections_per_worker_max,
        tls,
        request_head_timeout: server.request_head_timeout_ms.duration(),
        quiet_max: QUIET_MAX,
        shutdown_timeout: Duration::from_secs(1),
        send_buffer_bytes: None,
    }
}

/// Drives a server.
fn run(address: SocketAddr, server: std::io::Result<actix_server::Server>) -> Result<Running, NodeError> {
    let server = server.map_err(|error| NodeError::Listen { address, error })?;
    let handle = server.handle();
    let task = actix_rt::spawn(async move {
        if let Err(error) = server.await {
            tracing::error!(%error, "server ended");
        }
    });
    Ok(Running { handle, _task: EndOnDrop(task) })
}

/// Binds a listener.
fn bind(address: SocketAddr) -> Result<std::net::TcpListener, NodeError> {
    edge::bind(address).map_err(|error| NodeError::Listen { address, error })
}

/// Where a listener is bound, with the port that the system chose.
fn local_address(listener: &std::net::TcpListener, address: SocketAddr) -> Result<SocketAddr, NodeError> {
    listener.local_addr().map_err(|error| NodeError::Listen { address, error })
}

/// Loads a certificate, if TLS is configured.
fn load_tls(settings: Option<&TlsSettings>) -> Result<Option<Tls>, NodeError> {
    Ok(settings.map(Tls::load).transpose()?)
}

/// A fresh node id: one per start.
fn draw_node_id() -> Result<NodeId, NodeError> {
    let mut bytes = [0_u8; 8];
    getrandom::fill(&mut bytes)?;
    Ok(NodeId::from_bytes(bytes))
}

/// A listener as a URL.
fn url(address: SocketAddr, tls: bool) -> String {
    format!("{}://{address}/", if tls { "https" } else { "http" })
}
