use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout};

use crate::close::CloseReason;
use crate::config::{DrainSettings, LimitSettings};
use crate::edge::network;
use crate::quota::Quota;
use crate::registry::LiveConnections;
use crate::telemetry::{CutReason, Metrics};

/// Why no further connection is let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AdmissionRefused {
    /// The node holds as many as it may.
    #[error("this node is at capacity, try again later")]
    Full,
    /// The node is going away.
    #[error("this node is draining, connect again")]
    Draining,
    /// The client's address holds as many as it may.
    #[error("too many connections from this address")]
    AddressQuota,
    /// The principal holds as many as it may.
    #[error("too many connections of this user")]
    PrincipalQuota,
}

/// The per-node supervisor of connections: lets them in, knows the live ones, sees each end, and drains them.
///
/// A connection is not started again after it ended: its socket is gone. What the supervisor owes is that every end,
/// a panic included, gives back what the connection held; [`Admission`] does that by being dropped.
pub struct ConnectionSupervisor {
    limits: LimitSettings,
    /// The connections of this node.
    pub live: Arc<LiveConnections>,
    metrics: Arc<Metrics>,
    open: AtomicUsize,
    draining: AtomicBool,
    by_address: Quota<IpAddr>,
    by_principal: Quota<(String, String)>,
}

/// A place for one connection, given back when dropped.
pub struct Admission {
    supervisor: Arc<ConnectionSupervisor>,
    address: Option<IpAddr>,
    principal: Option<(String, String)>,
}

impl ConnectionSupervisor {
    /// A supervisor without connections.
    #[must_use]
    pub fn new(limits: LimitSettings, live: Arc<LiveConnections>, metrics: Arc<Metrics>) -> Arc<Self> {
        let by_address = Quota::new(limits.connections_per_address_max);
        let by_principal = Quota::new(limits.connections_per_principal_max);
        let (open, draining) = (AtomicUsize::new(0), AtomicBool::new(false));
        Arc::new(Self { limits, live, metrics, open, draining, by_address, by_principal })
    }

    /// Takes a place for a connection; `principal` is an issuer and a subject of its.
    ///
    /// # Errors
    /// [`AdmissionRefused`] tells which bound is reached; nothing is held then.
    pub fn admit(
        self: &Arc<Self>,
        address: Option<IpAddr>,
        principal: Option<(&str, &str)>,
    ) -> Result<Admission, AdmissionRefused> {
        if self.draining.load(Ordering::Acquire) {
            return Err(AdmissionRefused::Draining);
        }
        let mut admission = Admission { supervisor: Arc::clone(self), address: None, principal: None };
        if self.open.fetch_add(1, Ordering::AcqRel) >= self.limits.connections_max {
            return Err(AdmissionRefused::Full);
        }
        if let Some(address) = address.map(network) {
            if !self.by_address.take(&address) {
                return Err(AdmissionRefused::AddressQuota);
            }
            admission.address = Some(address);
        }
        if let Some(principal) = principal.map(|(issuer, subject)| (issuer.to_owned(), subject.to_owned())) {
            if !self.by_principal.take(&principal) {
                return Err(AdmissionRefused::PrincipalQuota);
            }
            admission.principal = Some(principal);
        }
        Ok(admission)
    }

    /// Places taken.
    #[must_use]
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Acquire)
    }

    /// Lets nobody in from now on.
    pub fn stop_admitting(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// Is the node going away?
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Closes every connection, paced over the window, waits for the closing handshakes, then cuts what is left.
    ///
    /// Takes at most window plus grace, however clients behave.
    pub async fn drain(&self, settings: &DrainSettings) {
        self.stop_admitting();
        let start = Instant::now();
        let connections = self.live.snapshot();
        let step = settings.window_ms.duration().checked_div(u32::try_from(connections.len()).unwrap_or(u32::MAX).max(1));
        let step = step.unwrap_or(Duration::ZERO);
        for (closed, connection) in (0_u32..).zip(&connections) {
            sleep_until(start + step * closed).await;
            connection.close(CloseReason::Drain);
            self.metrics.drain_remaining.set(i64::try_from(self.live.len()).unwrap_or(i64::MAX));
        }
        // Late handshakes may have slipped in between the flag and the snapshot.
        self.live.snapshot().iter().for_each(|connection| connection.close(CloseReason::Drain));
        let _all_gone_or_grace_over = timeout(settings.grace_ms.duration(), self.wait_until_empty()).await;
        for straggler in self.live.snapshot() {
            self.metrics.cuts.of(CutReason::Drain).inc();
            straggler.mailbox.cut();
        }
        let _cut_or_abandoned = timeout(Duration::from_millis(500), self.wait_until_empty()).await;
        self.metrics.drain_remaining.set(0);
    }

    /// Resolves once no connection is live.
    async fn wait_until_empty(&self) {
        while !self.live.is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
            self.metrics.drain_remaining.set(i64::try_from(self.live.len()).unwrap_or(i64::MAX));
        }
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.supervisor.open.fetch_sub(1, Ordering::AcqRel);
        if let Some(address) = &self.address {
            self.supervisor.by_address.give_back(address);
        }
        if let Some(principal) = &self.principal {
            self.supervisor.by_principal.give_back(principal);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn supervisor(limits: LimitSettings) -> Arc<ConnectionSupervisor> {
        ConnectionSupervisor::new(limits, Arc::default(), Arc::default())
    }

    #[test]
    fn a_full_node_refuses_until_a_connection_ends() {
        let supervisor = supervisor(LimitSettings { connections_max: 2, ..LimitSettings::default() });
        let first = supervisor.admit(None, None).ok().unwrap();
        let _second = supervisor.admit(None, None).ok().unwrap();
        assert_eq!(supervisor.admit(None, None).err(), Some(AdmissionRefused::Full));
        assert_eq!(supervisor.open(), 2);
        drop(first);
        assert!(supervisor.admit(None, None).is_ok());
    }

    #[test]
    fn quotas_count_per_address_and_per_principal_and_are_given_back() {
        let limits =
            LimitSettings { connections_per_address_max: 2, connections_per_principal_max: 1, ..LimitSettings::default() };
        let supervisor = supervisor(limits);
        let address = Some("192.0.2.1".parse().unwrap());
        let ada = supervisor.admit(address, Some(("pool", "ada"))).ok().unwrap();
        assert_eq!(supervisor.admit(address, Some(("pool", "ada"))).err(), Some(AdmissionRefused::PrincipalQuota));
        let other = supervisor.admit(address, Some(("other", "ada"))).ok().unwrap();
        assert_eq!(supervisor.admit(address, Some(("pool", "eve"))).err(), Some(AdmissionRefused::AddressQuota));
        drop(ada);
        assert!(supervisor.admit(address, Some(("pool", "ada"))).is_ok());
        drop(other);
        assert_eq!(supervisor.open(), 0);
        assert!(supervisor.by_address.is_empty() && supervisor.by_principal.is_empty());
    }

    #[test]
    fn a_whole_ipv6_network_is_one_address() {
        let limits = LimitSettings { connections_per_address_max: 1, ..LimitSettings::default() };
        let supervisor = supervisor(limits);
        let admit = |address: &str| supervisor.admit(Some(address.parse().unwrap()), None);
        let first = admit("2001:db8::1").ok().unwrap();
        assert_eq!(admit("2001:db8::2").err(), Some(AdmissionRefused::AddressQuota));
        let _other = admit("2001:db8:0:1::1").ok().unwrap();
        drop(first);
        assert!(admit("2001:db8::2").is_ok());
    }

    #[test]
    fn a_draining_node_lets_nobody_in() {
        let supervisor = supervisor(LimitSettings::default());
        supervisor.stop_admitting();
        assert_eq!(supervisor.admit(None, None).err(), Some(AdmissionRefused::Draining));
    }
}
